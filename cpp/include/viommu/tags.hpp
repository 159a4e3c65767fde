// Address-space tags, and O(1) invalidation of everything that carries one.
//
// Time is a counter that each invalidation advances. An entry remembers when it was made; each scope (all, a stage-2
// tag, its stage-1 part, one tag) remembers when it was last invalidated. An entry counts only if it is younger than
// all of its scopes.
#pragma once

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "viommu/hash.hpp"
#include "viommu/types.hpp"

namespace viommu {

using TagId = u32;
inline constexpr TagId no_tag = ~TagId{0};

class Tags {
public:
    // Stage-1 tags that no guest can choose.
    static constexpr u64 global = u64{1} << 32;  // any stage-1 tag of the stage-2 tag
    static constexpr u64 none = u64{1} << 33;    // stage 2 alone

    struct Space {
        u32 stage2_tag;
        u64 stage1_tag;
        u32 group;
        u64 stale = 0;
    };

    u64 now() const { return now_; }

    TagId intern(u32 stage2_tag, u64 stage1_tag) {
        if (const TagId known = find(stage2_tag, stage1_tag); known != no_tag) return known;
        const auto id = static_cast<TagId>(spaces_.size());
        spaces_.push_back({stage2_tag, stage1_tag, group_of(stage2_tag)});
        if (spaces_.size() * 2 > index_.size()) {
            index_.assign(index_.size() * 2, {});
            for (TagId each = 0; each < id; ++each) place(each);
        }
        place(id);
        return id;
    }
    // `no_tag` where nothing was ever kept under it.
    TagId find(u32 stage2_tag, u64 stage1_tag) const {
        const std::size_t mask = index_.size() - 1;
        for (std::size_t at = hash(stage2_tag, stage1_tag) & mask;; at = (at + 1) & mask) {
            const Known& known = index_[at];
            if (known.id == no_tag || (known.stage1_tag == stage1_tag && known.stage2_tag == stage2_tag))
                return known.id;
        }
    }
    const Space& space(TagId id) const { return spaces_[id]; }
    std::size_t size() const { return spaces_.size(); }

    // Entries of `id` made at or before this moment are stale.
    u64 stale(TagId id) const {
        const Space& s = spaces_[id];
        const Group& g = groups_[s.group];
        return std::max({all_stale_, g.stale, s.stage1_tag == none ? 0 : g.stage1_stale, s.stale});
    }

    void invalidate_all() { all_stale_ = now_++; }
    void invalidate_stage2(u32 stage2_tag, bool stage1_only) {
        const auto at = group_ids_.find(stage2_tag);
        if (at == group_ids_.end()) return;
        Group& g = groups_[at->second];
        (stage1_only ? g.stage1_stale : g.stale) = now_++;
    }
    void invalidate(TagId id) { spaces_[id].stale = now_++; }

    // Forgets every tag. Time goes on, so that no old entry revives.
    void clear() {
        invalidate_all();
        index_.assign(least_index, {});
        group_ids_.clear();
        spaces_.clear();
        groups_.clear();
    }

private:
    // What is known of a tag, in a table that is searched from its hash on: at least half of it is empty.
    struct Known {
        u64 stage1_tag = 0;
        u32 stage2_tag = 0;
        TagId id = no_tag;
    };
    static constexpr std::size_t least_index = 64;

    static std::size_t hash(u32 stage2_tag, u64 stage1_tag) { return avalanche(u64{stage2_tag} << 34 ^ stage1_tag); }
    void place(TagId id) {
        const std::size_t mask = index_.size() - 1;
        std::size_t at = hash(spaces_[id].stage2_tag, spaces_[id].stage1_tag) & mask;
        while (index_[at].id != no_tag) at = (at + 1) & mask;
        index_[at] = {spaces_[id].stage1_tag, spaces_[id].stage2_tag, id};
    }

    struct Group {
        u64 stale = 0;
        u64 stage1_stale = 0;
    };

    u32 group_of(u32 stage2_tag) {
        const auto [at, fresh] = group_ids_.try_emplace(stage2_tag, static_cast<u32>(groups_.size()));
        if (fresh) groups_.push_back({});
        return at->second;
    }

    u64 now_ = 1;
    u64 all_stale_ = 0;
    std::vector<Known> index_{least_index};
    std::unordered_map<u32, u32> group_ids_;
    std::vector<Space> spaces_;
    std::vector<Group> groups_;
};

}  // namespace viommu
