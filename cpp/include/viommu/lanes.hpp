// Lanes: whose a cached page is, as one small number. A slot of the IOTLB has no room for a tag, a page size, the high
// bits of a page number and the time when it was filled; it has room for the number of the lane that stands for them.
//
// A lane holds what its tag's pages of one size say, until an invalidation concerns its tag: whatever still carries its
// number then is stale, and a new lane is opened for what comes.
#pragma once

#include <vector>

#include "viommu/tags.hpp"

namespace viommu {

using LaneId = u32;

class Lanes {
public:
    static constexpr LaneId none = 0;

    struct Lane {
        u64 opened = 0;  // Tags::now; 0: its number is free
        u64 high = 0;    // the part of the page number that a slot leaves out
        TagId tag = 0;
        LaneId next = none;  // of the same tag; smaller pages come first
        u8 lg2 = 0;
    };

    // `most` numbers.
    explicit Lanes(std::size_t most) : most_(most) {}

    // Advances whenever the lanes of some tag become others.
    u64 version() const { return version_; }
    const Lane& operator[](LaneId id) const { return lanes_[id]; }
    std::size_t numbers() const { return lanes_.size(); }

    // Whether what carries the number still counts.
    bool alive(LaneId id, const Tags& tags) const { return lanes_[id].opened > tags.stale(lanes_[id].tag); }

    // Calls `each(id, lane)` for a tag's lanes, smaller pages first, until it gives true. `stale` is the tag's.
    template <typename Each> void of(TagId tag, u64 stale, Each&& each) const {
        for (LaneId id = tag < first_.size() ? first_[tag] : none; id; id = lanes_[id].next)
            if (lanes_[id].opened > stale && each(id, lanes_[id])) return;
    }

    // The lane for pages of a size under a tag, opened if need be; `none` where no number is left: `free_all_but`
    // some, then ask again.
    LaneId open(TagId tag, u8 lg2, u64 high, const Tags& tags) {
        const u64 stale = tags.stale(tag);
        LaneId before = none;
        if (tag >= first_.size()) first_.resize(tag + 1, none);
        for (LaneId id = first_[tag]; id;) {
            const Lane& lane = lanes_[id];
            if (lane.opened <= stale) {
                id = link(tag, before) = lane.next;
                continue;
            }
            if (lane.lg2 == lg2 && lane.high == high) return id;
            if (lane.lg2 > lg2) break;
            before = id;
            id = lane.next;
        }
        const LaneId id = number();
        if (id == none) return none;
        lanes_[id] = {tags.now(), high, tag, link(tag, before), lg2};
        link(tag, before) = id;
        ++version_;
        return id;
    }

    // Frees every number that no slot carries.
    void free_all_but(const std::vector<bool>& carried) {
        for (LaneId& first : first_)
            for (LaneId* at = &first; *at;) {
                if (carried[*at])
                    at = &lanes_[*at].next;
                else
                    *at = lanes_[*at].next;
            }
        free_.clear();
        for (LaneId id = 1; id < lanes_.size(); ++id) {
            if (carried[id]) continue;
            lanes_[id] = {};
            free_.push_back(id);
        }
        ++version_;
    }
    void clear() {
        lanes_.assign(1, {});
        first_.clear();
        free_.clear();
        ++version_;
    }

private:
    // Where the number of the lane after `before` stands.
    LaneId& link(TagId tag, LaneId before) { return before == none ? first_[tag] : lanes_[before].next; }
    LaneId number() {
        if (!free_.empty()) {
            const LaneId id = free_.back();
            free_.pop_back();
            return id;
        }
        if (lanes_.size() > most_) return none;
        lanes_.emplace_back();
        return static_cast<LaneId>(lanes_.size() - 1);
    }

    std::size_t most_;
    u64 version_ = 1;
    std::vector<Lane> lanes_{1};  // the first is `none`
    std::vector<LaneId> first_;   // by tag
    std::vector<LaneId> free_;
};

}  // namespace viommu
