// The IOTLB: set-associative with a chosen geometry and policy, or unbounded; tagged, and aware of page sizes.
#pragma once

#include <atomic>
#include <stdexcept>

#include "viommu/iotlb_pages.hpp"
#include "viommu/iotlb_sets.hpp"

namespace viommu {

class Iotlb {
public:
    explicit Iotlb(const IotlbGeometry& geometry) : geometry_(geometry), sets_(geometry) {}

    const IotlbGeometry& geometry() const { return geometry_; }
    bool unbounded() const { return geometry_.entries == 0; }

    // What is in here is guarded by one translator's lock and named by its tags: no two can share it.
    void claim() {
        if (claimed_.exchange(true))
            throw std::invalid_argument("this Iotlb serves another Translator: make one for each");
        clear();
    }
    void release() { claimed_ = false; }

    // Brings `look_up` up to date for a tag and the global one beside it (or the same).
    [[gnu::always_inline]] void prepare(LookUp& look_up, TagId tag, TagId global_tag, const Tags& tags) {
        settle();
        if (sets_.prepared(look_up, tags)) [[likely]]
            return;
        look_up.tag = tag;
        look_up.global_tag = global_tag;
        look_up.stale = tags.stale(tag);
        look_up.global_stale = tags.stale(global_tag);
        sets_.prepare(look_up, tags);
    }

    // The page that holds `input`, of whatever size, the smallest first.
    [[gnu::always_inline]] bool find(const LookUp& look_up, u64 input, IotlbHit& hit) {
        return unbounded() ? pages_.find(look_up, input, hit) : sets_.find(look_up, input, hit);
    }
    // The whole entry that `find` hits; it must hit.
    IotlbEntry entry_of(const LookUp& look_up, u64 input) {
        return unbounded() ? *pages_.entry_of(look_up, input) : sets_.entry_of(look_up, input);
    }
    // Whether `find` would hit. It may say no where it is dear to know.
    bool holds(const LookUp& look_up, u64 input) const {
        return unbounded() ? pages_.entry_of(look_up, input) != nullptr : sets_.holds(look_up, input);
    }
    // Brings what `find` will look at into the host's caches. A hint: it changes nothing.
    void prefetch(const LookUp& look_up, u64 input) const { sets_.prefetch(look_up, input); }

    // Valid until the cache changes.
    IotlbSets::Window window(const LookUp& look_up) {
        return unbounded() ? IotlbSets::Window() : IotlbSets::Window(sets_, look_up);
    }

    // Puts `entry` in; true where a live entry had to leave for it. `look_up` is one that missed it.
    bool insert(const IotlbEntry& entry, const LookUp& look_up, const Tags& tags) {
        settle();
        if (!unbounded()) return sets_.insert(entry, look_up, tags);
        pages_.insert(entry, tags);
        return false;
    }

    // Empties every entry of `tag` whose page overlaps [start, last].
    void drop_range(TagId tag, u64 start, u64 last, const Tags& tags) {
        if (unbounded())
            pages_.drop_range(tag, start, last);
        else
            sets_.drop_range(tag, start, last, tags);
    }
    // The same for many blocks of 2^`lg2` bytes, of a tag and the global one beside it (or the same, or none). For an
    // IOTLB that is not `unbounded`.
    IotlbSets::Dropping dropping(TagId tag, TagId global_tag, unsigned lg2, const Tags& tags) {
        return {sets_, tag, global_tag, lg2, tags};
    }
    template <typename Matches> void drop_if(Matches&& matches) {
        settle();
        pages_.drop_if(matches);
        sets_.drop_if(matches);
    }

    // All is stale: nothing need be looked for any more.
    void forget_sizes() { pages_.forget_sizes(); }

    // The entries that would still hit.
    std::vector<IotlbEntry> live(const Tags& tags) {
        settle();
        return unbounded() ? pages_.live(tags) : sets_.live(tags);
    }
    // Whether this very page would still hit.
    bool has(const IotlbEntry& entry, const Tags& tags) {
        settle();
        return unbounded() ? pages_.has(entry, tags) : sets_.has(entry, tags);
    }
    // As if new: the same inputs lead to the same evictions again.
    void clear() {
        pages_.clear();
        sets_.clear();
    }

private:
    // Invalidations by page are put off until somebody looks.
    void settle() {
        if (!sets_.settled()) [[unlikely]]
            sets_.settle();
    }

    IotlbGeometry geometry_;
    std::atomic<bool> claimed_ = false;
    IotlbSets sets_;
    IotlbPages pages_;  // instead of sets, where there is no bound
};

}  // namespace viommu
