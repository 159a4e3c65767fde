// Paging-structure caches: the table that a partial walk has reached, so that the next walk starts there. Off unless
// asked for, because software can see them.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "viommu/format.hpp"
#include "viommu/four_words.hpp"
#include "viommu/hash.hpp"
#include "viommu/tags.hpp"

namespace viommu {

// Sets of four (or as many as there are), first in, first out: to be looked at leaves no trace, so that many can be
// looked for at once. Neighbours lie in neighbouring sets.
class WalkCache {
    static constexpr std::size_t most_entries = std::size_t{1} << 28;
    static constexpr unsigned none = 4;
    static constexpr unsigned rights_shift = 1, half_shift = 7, level_shift = 8, lg2_shift = 16, tag_shift = 32;
    static constexpr u64 any_rights = u64{63} << rights_shift;
    static_assert(Rights::all().packed() == 63);

    // Words of the four ways stand together. An entry whose `whose` is 0 is none.
    struct alignas(64) Set {
        u64 prefix[4] = {};  // which table of a level it is
        u64 whose[4] = {};   // tag, level, what it covers, half; the rights that led to it
        u64 table[4] = {};
        u64 sequence[4] = {};
        u8 next = 0;  // to go
    };
    struct Key {
        Key(TagId tag, unsigned level, unsigned lg2, u8 half, u64 input)
            : prefix(lg2 >= 64 ? 0 : input >> lg2),
              whose(u64{tag} << tag_shift | u64{lg2} << lg2_shift | u64{level} << level_shift |
                    u64{half} << half_shift | 1) {}
        u64 salt() const { return avalanche(whose); }
        u64 prefix, whose;
    };
    static Rights rights_of(u64 whose) {
        return {static_cast<u8>(whose >> rights_shift & 7), static_cast<u8>(whose >> (rights_shift + 3) & 7)};
    }

public:
    explicit WalkCache(std::size_t entries) {
        if (entries > most_entries)
            throw std::invalid_argument("walk cache entries " + std::to_string(entries) + " are more than 2^28");
        if (!entries) return;
        ways_ = static_cast<unsigned>(std::min(std::bit_ceil(entries), std::size_t{4}));
        sets_.resize(std::bit_ceil(entries) / ways_);
    }

    bool enabled() const { return !sets_.empty(); }

    // Where tables of one level that grant everything are looked for, for many inputs.
    class Probe {
    public:
        // Gives a table, if that of the level is here.
        [[gnu::always_inline]] bool find(u64 input, u64& table) const {
            const u64 prefix = input >> lg2_;
            const Set& set = sets_[(fold(prefix) + salt_) & mask_];
            const unsigned found = match_of_four(set.prefix, prefix) & match_of_four(set.whose, whose_);
            if (!found) return false;
            const unsigned way = static_cast<unsigned>(std::countr_zero(found));
            table = set.table[way];
            return set.sequence[way] > stale_;
        }

    private:
        friend class WalkCache;
        const Set* sets_ = nullptr;
        u64 mask_ = 0, salt_ = 0, whose_ = 0, stale_ = 0;
        unsigned lg2_ = 0;
    };

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
                const Key key(tag_, lower, format.span_lg2(lower + 1, state), state.half, input);
                Set& set = cache_->set_of(key);
                const unsigned way = cache_->way_of(set, key);
                if (way == none || set.sequence[way] <= stale_) continue;
                const Rights rights = rights_of(set.whose[way]);
                if (rights.missing(access)) return;
                table = set.table[way];
                level = lower;
                state.rights = rights;
                ++cache_->hits;
                return;
            }
        }
        template <Format F>
        void keep(const F& format, u64 input, u64 table, unsigned level, const WalkState& state) const {
            const Key key(tag_, level, format.span_lg2(level + 1, state), state.half, input);
            Set& set = cache_->set_of(key);
            unsigned way = cache_->way_of(set, key);
            if (way == none) way = set.next, set.next = static_cast<u8>((way + 1) % cache_->ways_);
            set.prefix[way] = key.prefix;
            set.whose[way] = key.whose | u64{state.rights.packed()} << rights_shift;
            set.table[way] = table;
            set.sequence[way] = now_;
        }
        // `span_lg2` is the format's, of the level above.
        Probe probe(unsigned level, unsigned span_lg2) const {
            const Key key(tag_, level, span_lg2, 0, 0);
            Probe probe;
            probe.sets_ = cache_->sets_.data();
            probe.mask_ = cache_->sets_.size() - 1;
            probe.salt_ = key.salt();
            probe.whose_ = key.whose | u64{Rights::all().packed()} << rights_shift;
            probe.stale_ = stale_;
            probe.lg2_ = span_lg2;
            return probe;
        }

    private:
        WalkCache* cache_ = nullptr;
        TagId tag_ = 0;
        u64 stale_ = 0;
        u64 now_ = 0;
    };

    // Drops what a range of inputs may have reached, whatever its tag where `tag` says nothing.
    template <typename Belongs> void drop_range(u64 start, u64 last, Belongs&& belongs) {
        for (Set& set : sets_)
            for (unsigned way = 0; way < ways_; ++way) {
                const u64 whose = set.whose[way];
                if (!whose || !belongs(static_cast<TagId>(whose >> tag_shift))) continue;
                const unsigned lg2 = whose >> lg2_shift & 0xFF;
                const u64 first = lg2 >= 64 ? 0 : set.prefix[way] << lg2;
                if (first <= last && (first | below(lg2)) >= start) set.whose[way] = 0;
            }
    }

    void clear() { std::fill(sets_.begin(), sets_.end(), Set{}); }

    u64 hits = 0;

private:
    // Keeps neighbours apart, and what is 2^9 or 2^18 tables apart, too.
    static constexpr u64 fold(u64 prefix) { return prefix ^ prefix >> 9 ^ prefix >> 18; }

    Set& set_of(const Key& key) { return sets_[(fold(key.prefix) + key.salt()) & (sets_.size() - 1)]; }
    unsigned way_of(const Set& set, const Key& key) const {
        for (unsigned way = 0; way < ways_; ++way)
            if (set.prefix[way] == key.prefix && (set.whose[way] & ~any_rights) == key.whose) return way;
        return none;
    }

    unsigned ways_ = 0;
    std::vector<Set> sets_;
};

}  // namespace viommu
