// The caches and the memory that commands act upon.
#pragma once

#include <optional>

#include "viommu/command_numbers.hpp"
#include "viommu/memory.hpp"
#include "viommu/translator.hpp"

namespace viommu::commands {

// The engine stays locked from one command to the next; `pause` lets others in.
class Engine {
public:
    using Blocks = Translator::Invalidations::Blocks;

    explicit Engine(Translator& caches) : caches_(caches) {}

    void pause() { held_.reset(); }

    void everything() { held().all(); }
    void stage2_tag(u32 tag, bool stage1_only) { held().stage2_tag(tag, stage1_only); }
    void stage1_tag(u32 stage2_tag, u32 stage1_tag) { held().stage1_tag(stage2_tag, stage1_tag); }
    void range(u32 stage2_tag, std::optional<u32> stage1_tag, Range r, bool leaf_only) {
        held().range(stage2_tag, stage1_tag, r.start, r.last, leaf_only);
    }
    void stage2_range(u32 tag, Range r, bool leaf_only) { held().stage2_range(tag, r.start, r.last, leaf_only); }
    void all_contexts() { held().contexts(); }
    void contexts(u32 requester) { held().requester(requester); }
    void context(u32 requester, u32 pasid) { held().context({requester, pasid}); }
    // Memory may be a callback, and that may use the engine.
    bool store(u64 address, u64 value, std::size_t bytes) {
        pause();
        return caches_.memory().write(address, reinterpret_cast<const std::byte*>(&value), bytes);
    }

    // For commands that are done again before the next `pause` (command_pattern.hpp).
    bool repeats() { return held().repeats(); }
    u64 invalidations() { return held().count(); }
    void repeated(u64 invalidations) { held().repeated(invalidations); }
    Blocks blocks(u32 stage2_tag, u64 stage1_tag, unsigned lg2, bool leaf_only) {
        return held().blocks(stage2_tag, stage1_tag, lg2, leaf_only);
    }
    template <typename Each> void drop(Blocks& blocks, Each&& each) { held().drop(blocks, each); }

private:
    Translator::Invalidations& held() { return held_ ? *held_ : held_.emplace(caches_); }

    Translator& caches_;
    std::optional<Translator::Invalidations> held_;
};

}  // namespace viommu::commands
