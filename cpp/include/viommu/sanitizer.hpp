// The invalidation sanitizer: every cached translation that is used is held against a fresh walk, and what made it
// stale is looked for. A debugging mode: the translator asks it only where it was asked for.
#pragma once

#include <unordered_map>
#include <vector>

#include "viommu/iotlb.hpp"
#include "viommu/memory.hpp"
#include "viommu/walk.hpp"

namespace viommu {

enum class CacheKind : u8 { iotlb, walk_cache };

// An entry of a table as the walk left it that filled the cache.
struct SeenEntry {
    u64 pa = 0;
    u64 value = 0;
    Stage stage = Stage::none;
    u8 level = 0;
};

// One use of a cached translation that the tables no longer say. Times count translations.
struct StaleUse {
    u32 requester = 0;
    u32 pasid = no_pasid;
    CacheKind cache = CacheKind::iotlb;
    u32 stage2_tag = 0;
    u64 stage1_tag = 0;  // Tags::global, Tags::none, or a tag
    u8 page_lg2 = 0;
    Result cached;
    Result fresh;
    bool cause_known = false;
    SeenEntry cause;     // what the entry was
    u64 cause_now = 0;   // what it is; 0 where it can no longer be read
    u64 made = 0;        // when the cached translation was walked
    u64 last_right = 0;  // when it was last seen to be right
    u64 now = 0;
};

struct SanitizerCounts {
    u64 checked = 0, stale = 0, invalidations = 0, removed_nothing = 0, removed_right = 0, removed_stale = 0,
        unreported = 0;
};

class Sanitizer {
public:
    // What is known of one cached translation.
    struct Provenance {
        std::vector<SeenEntry> seen;
        u64 made = 0;
        u64 last_right = 0;
        bool reported = false;
    };

    static std::vector<SeenEntry> seen_by(const Recorder& recorder) {
        std::vector<SeenEntry> seen;
        for (const StepRecord& step : recorder.steps)
            seen.push_back({step.pa, step.memory_value(), step.stage, step.level});
        return seen;
    }

    void tick() { ++now_; }
    void made(const IotlbEntry& entry, const Recorder& recorder) {
        if (known_.size() >= most_known) known_.clear();
        known_[key_of(entry)] = {seen_by(recorder), now_, now_, false};
    }

    // Whether what a cache said is what the tables say. Fewer rights than they grant are no harm: a walk follows.
    static bool agrees(const Result& cached, const Result& fresh) {
        return fresh.ok() && cached.pa == fresh.pa && cached.attrs1 == fresh.attrs1 && cached.attrs2 == fresh.attrs2 &&
               !(cached.rights.granted(cached.access) & ~fresh.rights.granted(fresh.access));
    }

    // Judges one use of an IOTLB entry; the first stale use of each entry is reported.
    void used(const IotlbEntry& entry, View& memory, StaleUse use) {
        ++counts_.checked;
        if (known_.size() >= most_known) known_.clear();
        Provenance& known = known_[key_of(entry)];
        if (agrees(use.cached, use.fresh)) {
            known.last_right = now_;
            return;
        }
        ++counts_.stale;
        if (known.reported) return;
        known.reported = true;
        use.made = known.made;
        use.last_right = known.last_right;
        find_cause(known.seen, memory, use);
        report(std::move(use));
    }
    // Judges a walk that began at a kept table.
    void resumed(StaleUse use) {
        ++counts_.checked;
        if (agrees(use.cached, use.fresh)) return;
        ++counts_.stale;
        report(std::move(use));
    }

    // Whether every table entry behind a cached translation is still what it was.
    bool still_right(const IotlbEntry& entry, View& memory) {
        const auto at = known_.find(key_of(entry));
        if (at == known_.end()) return true;
        StaleUse unused;
        find_cause(at->second.seen, memory, unused);
        return !unused.cause_known;
    }
    void invalidated(u64 removed, u64 right) {
        ++counts_.invalidations;
        counts_.removed_nothing += removed == 0;
        counts_.removed_right += right;
        counts_.removed_stale += removed - right;
    }

    // Tags are numbered anew: what was known by them is of others.
    void forget() { known_.clear(); }
    u64 now() const { return now_; }
    const SanitizerCounts& counts() const { return counts_; }
    std::vector<StaleUse> take_reports() { return std::exchange(reports_, {}); }

private:
    static constexpr std::size_t most_known = std::size_t{1} << 20, most_reports = 1024;

    struct Key {
        TagId tag;
        u64 page;
        u8 lg2;
        bool operator==(const Key&) const = default;
    };
    struct KeyHash {
        std::size_t operator()(const Key& k) const { return avalanche(k.page ^ u64{k.tag} << 40 ^ u64{k.lg2} << 56); }
    };
    static Key key_of(const IotlbEntry& entry) { return {entry.tag, entry.page, entry.lg2}; }

    static void find_cause(const std::vector<SeenEntry>& seen, View& memory, StaleUse& use) {
        for (const SeenEntry& entry : seen) {
            u64 now = 0;
            if (memory.load(entry.pa, now) && now == entry.value) continue;
            use.cause_known = true;
            use.cause = entry;
            use.cause_now = now;
            return;
        }
    }
    void report(StaleUse use) {
        use.now = now_;
        if (reports_.size() < most_reports)
            reports_.push_back(std::move(use));
        else
            ++counts_.unreported;
    }

    u64 now_ = 0;
    SanitizerCounts counts_;
    std::unordered_map<Key, Provenance, KeyHash> known_;
    std::vector<StaleUse> reports_;
};

}  // namespace viommu
