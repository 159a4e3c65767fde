// A translator for tests, with its memory and the configurations of its requesters.
#pragma once

#include "tables.hpp"
#include "viommu/batch.hpp"

namespace viommu::test {

// A translator whose requesters 0, 1, ... have the contexts that were given.
struct Engine {
    explicit Engine(IotlbGeometry geometry = {}, std::size_t walk_cache_entries = 0, std::size_t context_entries = 64)
        : translator(ram.memory, std::make_shared<Iotlb>(geometry), context_entries, walk_cache_entries) {}

    u32 add(Stage1 first, Stage2 second, ContextSettings settings = {}) {
        contexts.push_back(std::make_shared<const Context>(std::move(first), std::move(second), settings));
        return static_cast<u32>(contexts.size() - 1);
    }
    u32 add(const Tables& tables, u32 tag = 0) {
        ContextSettings settings;
        settings.stage1_tag = tag;
        return add(x86_at(tables.root()), {}, settings);
    }
    ResolvedContext resolve(ContextKey key) {
        ++resolved;
        return key.requester < contexts.size() ? contexts[key.requester] : nullptr;
    }
    Result operator()(u32 requester, u64 input, u8 wanted = access::read) {
        const ContextKey key{requester, no_pasid};
        Result result;
        while (!translator.translate(key, input, wanted, result))
            translator.keep_context(key, resolve(key), translator.configuration_generation());
        return result;
    }
    StreamCounters counted() { return translator.counters().streams; }
    u64 hits() { return counted().hits; }

    Ram ram;
    std::vector<std::shared_ptr<const Context>> contexts;
    Translator translator;
    unsigned resolved = 0;
};

}  // namespace viommu::test
