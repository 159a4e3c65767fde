// What each stream (requester) did, counted where it happens; totals are their sum.
#pragma once

#include <array>
#include <memory>
#include <unordered_map>

#include "viommu/types.hpp"

namespace viommu {

struct StreamCounters {
    u64 translations = 0, lookups = 0, hits = 0, walks = 0, entry_loads = 0;
    std::array<u64, fault_kind_names.size()> faults{};  // by kind

    u64 all_faults() const {
        u64 sum = 0;
        for (u64 count : faults) sum += count;
        return sum;
    }
    void count_hits(u64 count) {
        translations += count;
        lookups += count;
        hits += count;
    }
    StreamCounters& operator+=(const StreamCounters& other) {
        translations += other.translations;
        lookups += other.lookups;
        hits += other.hits;
        walks += other.walks;
        entry_loads += other.entry_loads;
        for (std::size_t kind = 0; kind < faults.size(); ++kind) faults[kind] += other.faults[kind];
        return *this;
    }
};

class Streams {
public:
    // Stays where it is for as long as this lives. Streams beyond the bound share one, so that no trace can exhaust
    // memory.
    StreamCounters& of(u32 requester) {
        const auto at = streams_.find(requester);
        if (at != streams_.end()) return *at->second;
        if (streams_.size() >= most_streams) return others_;
        return *streams_.emplace(requester, std::make_unique<StreamCounters>()).first->second;
    }
    StreamCounters one(u32 requester) const {
        const auto at = streams_.find(requester);
        return at == streams_.end() ? StreamCounters{} : *at->second;
    }
    StreamCounters total() const {
        StreamCounters sum = others_;
        for (const auto& [requester, counters] : streams_) sum += *counters;
        return sum;
    }
    void reset() {
        others_ = {};
        for (auto& [requester, counters] : streams_) *counters = {};
    }

private:
    static constexpr std::size_t most_streams = 65536;

    std::unordered_map<u32, std::unique_ptr<StreamCounters>> streams_;
    StreamCounters others_;
};

}  // namespace viommu
