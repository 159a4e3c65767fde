// Address-space tags, and O(1) invalidation of everything that carries one.
//
// Time is a counter that each invalidation advances. An entry remembers when it was made; each scope (all, a stage-2
// tag, its stage-1 part, one tag) remembers when it was last invalidated. An entry counts only if it is younger than
// all of its scopes.
#pragma once

#include <algorithm>
#include <array>
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
        const auto [at, fresh] = ids_.try_emplace({stage2_tag, stage1_tag}, static_cast<TagId>(spaces_.size()));
        if (fresh) spaces_.push_back({stage2_tag, stage1_tag, group_of(stage2_tag)});
        return at->second;
    }
    // `no_tag` where nothing was ever kept under it.
    TagId find(u32 stage2_tag, u64 stage1_tag) const {
        const Key key{stage2_tag, stage1_tag};
        Recent& recent = recent_[KeyHash{}(key) % recent_.size()];
        if (!recent.known || !(recent.key == key)) {
            const auto at = ids_.find(key);
            if (at == ids_.end()) return no_tag;
            recent = {key, at->second, true};
        }
        return recent.id;
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
        recent_.fill({});
        ids_.clear();
        group_ids_.clear();
        spaces_.clear();
        groups_.clear();
    }

private:
    struct Key {
        u32 stage2_tag;
        u64 stage1_tag;
        bool operator==(const Key&) const = default;
    };
    struct KeyHash {
        std::size_t operator()(const Key& k) const { return avalanche(u64{k.stage2_tag} << 34 ^ k.stage1_tag); }
    };
    struct Group {
        u64 stale = 0;
        u64 stage1_stale = 0;
    };

    u32 group_of(u32 stage2_tag) {
        const auto [at, fresh] = group_ids_.try_emplace(stage2_tag, static_cast<u32>(groups_.size()));
        if (fresh) groups_.push_back({});
        return at->second;
    }

    // What was asked for lately, found without a walk through the map.
    struct Recent {
        Key key{};
        TagId id = 0;
        bool known = false;
    };

    u64 now_ = 1;
    u64 all_stale_ = 0;
    mutable std::array<Recent, 64> recent_{};
    std::unordered_map<Key, TagId, KeyHash> ids_;
    std::unordered_map<u32, u32> group_ids_;
    std::vector<Space> spaces_;
    std::vector<Group> groups_;
};

}  // namespace viommu
