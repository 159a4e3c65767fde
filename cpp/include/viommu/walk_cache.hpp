// Paging-structure caches: the table that a partial walk has reached, so that the next walk starts there. Off unless
// asked for, because software can see them.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "viommu/format.hpp"
#include "viommu/hash.hpp"
#include "viommu/tags.hpp"

namespace viommu {

// Direct-mapped: one entry for each (tags, level, input prefix).
class WalkCache {
public:
    explicit WalkCache(std::size_t entries) {
        if (entries > most_entries)
            throw std::invalid_argument("walk cache entries " + std::to_string(entries) + " are more than 2^28");
        entries_.resize(entries ? std::bit_ceil(entries) : 0);
    }

    bool enabled() const { return !entries_.empty(); }

    // One walk's window on the cache: its tags, and how old an entry may be.
    class Scope {
    public:
        Scope() = default;
        Scope(WalkCache& cache, TagId tag, u64 older_than_is_stale, u64 now)
            : cache_(&cache), tag_(tag), stale_(older_than_is_stale), now_(now) {}
        explicit operator bool() const { return cache_ != nullptr; }

        // Starts as low as a kept walk allows. One that lacks a wanted right is left alone: the full walk finds the
        // whole fault.
        template <Format F>
        void resume(const F& format, u64 input, u8 access, u64& table, unsigned& level, WalkState& state) const {
            for (unsigned lower = 0; lower < level; ++lower) {
                const Entry& entry = cache_->slot(tag_, lower, prefix(format, input, lower, state));
                if (!entry.is(tag_, lower, prefix(format, input, lower, state)) || entry.sequence <= stale_) continue;
                if (entry.state.half != state.half || entry.state.rights.missing(access)) return;
                table = entry.table;
                level = lower;
                state = entry.state;
                ++cache_->hits;
                return;
            }
        }
        template <Format F>
        void keep(const F& format, u64 input, u64 table, unsigned level, const WalkState& state) const {
            const u64 key = prefix(format, input, level, state);
            cache_->slot(tag_, level, key) = {
                key,  table, now_, tag_, static_cast<u8>(level), static_cast<u8>(format.span_lg2(level + 1, state)),
                state};
        }

    private:
        // What a table of `level` covers, as a number.
        template <Format F> static u64 prefix(const F& format, u64 input, unsigned level, const WalkState& state) {
            const unsigned lg2 = format.span_lg2(level + 1, state);
            return lg2 >= 64 ? 0 : input >> lg2;
        }
        WalkCache* cache_ = nullptr;
        TagId tag_ = 0;
        u64 stale_ = 0;
        u64 now_ = 0;
    };

    // Drops what a range of inputs may have reached, whatever its tag where `tag` says nothing.
    template <typename Belongs> void drop_range(u64 start, u64 last, Belongs&& belongs) {
        for (Entry& entry : entries_) {
            if (!entry.sequence || !belongs(entry.tag)) continue;
            const u64 first = entry.lg2 >= 64 ? 0 : entry.prefix << entry.lg2;
            if (first <= last && (first | below(entry.lg2)) >= start) entry.sequence = 0;
        }
    }

    void clear() { std::fill(entries_.begin(), entries_.end(), Entry{}); }

    u64 hits = 0;

private:
    static constexpr std::size_t most_entries = std::size_t{1} << 28;

    struct Entry {
        u64 prefix = 0, table = 0, sequence = 0;
        TagId tag = 0;
        u8 level = 0, lg2 = 0;
        WalkState state;
        bool is(TagId t, unsigned l, u64 p) const { return sequence && tag == t && level == l && prefix == p; }
    };
    Entry& slot(TagId tag, unsigned level, u64 prefix) {
        return entries_[avalanche(prefix ^ u64{tag} << 40 ^ u64{level} << 36) & (entries_.size() - 1)];
    }

    std::vector<Entry> entries_;
};

}  // namespace viommu
