// An IOTLB without bound: every page that was walked stays until it is invalidated.
#pragma once

#include <unordered_map>
#include <vector>

#include "viommu/hash.hpp"
#include "viommu/iotlb_entry.hpp"

namespace viommu {

class IotlbPages {
public:
    bool find(const LookUp& look_up, u64 input, IotlbHit& hit) const {
        const Kept* const kept = find(look_up, input);
        if (!kept) return false;
        hit = {kept->entry.frame, &kept->facts, &kept->entry.ipa_frame, kept->entry.lg2};
        return true;
    }
    const IotlbEntry* entry_of(const LookUp& look_up, u64 input) const {
        const Kept* const kept = find(look_up, input);
        return kept ? &kept->entry : nullptr;
    }

    void insert(const IotlbEntry& entry, const Tags& tags) {
        sizes_in_use_ |= bit(entry.lg2);
        pages_.insert_or_assign(Key{entry.page, entry.tag, entry.lg2}, Kept{entry, LeafFacts(entry.facts), tags.now()});
        if (pages_.size() > sweep_at_) sweep(tags);
    }

    void drop_range(TagId tag, u64 start, u64 last) {
        for (u64 sizes = sizes_in_use_; sizes; sizes &= sizes - 1) {
            const unsigned lg2 = static_cast<unsigned>(std::countr_zero(sizes));
            const u64 first_page = start >> lg2, pages = (last >> lg2) - first_page;
            if (pages >= pages_.size()) {  // wider than what is here: cheaper to look at each page
                drop_if(
                    [&](const IotlbEntry& e) { return e.tag == tag && e.lg2 == lg2 && e.page - first_page <= pages; });
                continue;
            }
            for (u64 i = 0; i <= pages; ++i) pages_.erase({first_page + i, tag, lg2});
        }
    }
    template <typename Matches> void drop_if(Matches&& matches) {
        std::erase_if(pages_, [&](const auto& page) { return matches(page.second.entry); });
    }

    std::vector<IotlbEntry> live(const Tags& tags) const {
        std::vector<IotlbEntry> found;
        for (const auto& [key, kept] : pages_)
            if (kept.made > tags.stale(key.tag)) found.push_back(kept.entry);
        return found;
    }
    bool has(const IotlbEntry& entry, const Tags& tags) const {
        const auto at = pages_.find({entry.page, entry.tag, entry.lg2});
        return at != pages_.end() && at->second.made > tags.stale(entry.tag);
    }

    // All is stale: nothing need be looked for any more.
    void forget_sizes() { sizes_in_use_ = 0; }
    void clear() {
        pages_.clear();
        sweep_at_ = first_sweep;
        sizes_in_use_ = 0;
    }

private:
    static constexpr std::size_t first_sweep = 1024;

    struct Key {
        u64 page;
        TagId tag;
        unsigned lg2;
        bool operator==(const Key&) const = default;
    };
    struct Hash {
        std::size_t operator()(const Key& k) const { return avalanche(k.page ^ u64{k.tag} << 40 ^ u64{k.lg2} << 56); }
    };
    struct Kept {
        IotlbEntry entry;
        LeafFacts facts;
        u64 made;  // Tags::now
    };

    const Kept* find(const LookUp& look_up, u64 input) const {
        if (const Kept* kept = find(look_up.tag, look_up.stale, input)) return kept;
        if (look_up.global_tag == look_up.tag) return nullptr;
        return find(look_up.global_tag, look_up.global_stale, input);
    }
    const Kept* find(TagId tag, u64 stale, u64 input) const {
        for (u64 sizes = sizes_in_use_; sizes; sizes &= sizes - 1) {
            const unsigned lg2 = static_cast<unsigned>(std::countr_zero(sizes));
            const auto at = pages_.find({input >> lg2, tag, lg2});
            if (at != pages_.end() && at->second.made > stale) return &at->second;
        }
        return nullptr;
    }
    // What no longer counts is let go of each time that the rest may have doubled.
    void sweep(const Tags& tags) {
        std::erase_if(pages_, [&](const auto& page) { return page.second.made <= tags.stale(page.first.tag); });
        sweep_at_ = std::max(first_sweep, pages_.size() * 2);
    }

    u64 sizes_in_use_ = 0;  // bit n: some page may have 2^n bytes
    std::unordered_map<Key, Kept, Hash> pages_;
    std::size_t sweep_at_ = first_sweep;
};

}  // namespace viommu
