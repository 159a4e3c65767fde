// The IOTLB: set-associative with a chosen geometry and policy, or unbounded; tagged, and aware of page sizes.
#pragma once

#include <atomic>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "viommu/hash.hpp"
#include "viommu/tags.hpp"
#include "viommu/types.hpp"

namespace viommu {

enum class Policy : u8 { lru, plru, fifo, random };

struct IotlbGeometry {
    std::size_t entries = 1024;  // 0: unbounded
    unsigned ways = 4;
    Policy policy = Policy::lru;
    u64 seed = 0;
};

struct IotlbEntry {
    u64 page = 0;      // input >> lg2
    u64 sequence = 0;  // when it was made (Tags::now); 0: empty
    u64 frame = 0;
    u64 ipa_frame = 0;
    TagId tag = 0;
    u32 used = 0;
    u8 lg2 = 0;
    u8 level = 0;
    u8 attrs1 = 0;
    u8 attrs2 = 0;
    Rights rights;
    bool clean = false;  // no write has set the dirty bit in memory

    bool covers(TagId t, u64 p, unsigned size_lg2) const {
        return sequence && tag == t && page == p && lg2 == size_lg2;
    }
};

class Iotlb {
public:
    explicit Iotlb(const IotlbGeometry& geometry) : geometry_(geometry) {
        const auto power = [](std::size_t n) { return n && std::has_single_bit(n); };
        if (!power(geometry.ways) || geometry.ways > 64)
            throw std::invalid_argument("ways " + std::to_string(geometry.ways) + " is not a power of two up to 64");
        if (geometry.entries &&
            (!power(geometry.entries) || geometry.entries < geometry.ways || geometry.entries > most_entries))
            throw std::invalid_argument("entries " + std::to_string(geometry.entries) +
                                        " is not a power of two from ways (" + std::to_string(geometry.ways) +
                                        ") to 2^28");
        entries_.resize(geometry.entries);
        marks_.resize(geometry.entries);
        set_state_.resize(geometry.entries / geometry.ways);
        clear();
    }

    const IotlbGeometry& geometry() const { return geometry_; }
    bool unbounded() const { return geometry_.entries == 0; }

    // What is in here is guarded by one translator's lock and named by its tags: no two can share it.
    void claim() {
        if (claimed_.exchange(true))
            throw std::invalid_argument("this Iotlb serves another Translator: make one for each");
        clear();
    }
    void release() { claimed_ = false; }

    // The entry for `input` under `tag`, of whatever page size; one made at or before `stale` does not count.
    const IotlbEntry* find(TagId tag, u64 stale, u64 input) {
        for (u64 sizes = sizes_in_use_; sizes; sizes &= sizes - 1) {
            const unsigned lg2 = static_cast<unsigned>(std::countr_zero(sizes));
            const PageKey key{input >> lg2, tag, lg2};
            if (const IotlbEntry* entry = unbounded() ? find_page(key, stale) : find_way(key, stale)) return entry;
        }
        return nullptr;
    }

    // Brings what `find` will look at first into the host's caches. A hint: it changes nothing.
    void prefetch(TagId tag, u64 input) const {
        if (unbounded()) return;
        for (u64 sizes = sizes_in_use_; sizes; sizes &= sizes - 1) {
            const unsigned lg2 = static_cast<unsigned>(std::countr_zero(sizes));
            __builtin_prefetch(&marks_[set_of({input >> lg2, tag, lg2}) * geometry_.ways]);
        }
    }

    // Puts `entry` in; true where a live entry had to leave for it.
    bool insert(const IotlbEntry& entry, const Tags& tags) {
        sizes_in_use_ |= bit(entry.lg2);
        if (!unbounded()) return !place(entry, tags) && replace(entry);
        pages_.insert_or_assign(PageKey::of(entry), entry);
        if (pages_.size() > sweep_at_) sweep(tags);
        return false;
    }

    // Empties every entry of `tag` whose page overlaps [start, last].
    void drop_range(TagId tag, u64 start, u64 last) {
        for (u64 sizes = sizes_in_use_; sizes; sizes &= sizes - 1) {
            const unsigned lg2 = static_cast<unsigned>(std::countr_zero(sizes));
            const u64 first_page = start >> lg2, pages = (last >> lg2) - first_page;
            if (pages >= entries_.size() + pages_.size()) {  // wider than the cache: cheaper to look at each entry
                drop_if(
                    [&](const IotlbEntry& e) { return e.tag == tag && e.lg2 == lg2 && e.page - first_page <= pages; });
                continue;
            }
            for (u64 i = 0; i <= pages; ++i) drop_page({first_page + i, tag, lg2});
        }
    }
    template <typename Matches> void drop_if(Matches&& matches) {
        for (std::size_t slot = 0; slot < entries_.size(); ++slot)
            if (entries_[slot].sequence && matches(entries_[slot])) empty(slot);
        for (auto& [key, entry] : pages_)
            if (entry.sequence && matches(entry)) entry.sequence = 0;
    }

    // All is stale: nothing need be looked for any more.
    void forget_sizes() { sizes_in_use_ = 0; }

    static bool alive(const IotlbEntry& e, const Tags& tags) { return e.sequence && e.sequence > tags.stale(e.tag); }

    // The entries that would still hit; they stay where they are until the next insertion.
    std::vector<const IotlbEntry*> live(const Tags& tags) const {
        std::vector<const IotlbEntry*> found;
        for (const IotlbEntry& entry : entries_)
            if (alive(entry, tags)) found.push_back(&entry);
        for (const auto& [key, entry] : pages_)
            if (alive(entry, tags)) found.push_back(&entry);
        return found;
    }
    // As if new: the same inputs lead to the same evictions again.
    void clear() {
        std::fill(entries_.begin(), entries_.end(), IotlbEntry{});
        std::fill(marks_.begin(), marks_.end(), no_mark);
        std::fill(set_state_.begin(), set_state_.end(), 0);
        pages_.clear();
        sweep_at_ = first_sweep;
        sizes_in_use_ = 0;
        random_ = geometry_.seed * 2 + 1;
        clock_ = 0;
    }

private:
    static constexpr std::size_t most_entries = std::size_t{1} << 28, first_sweep = 1024;
    static constexpr u64 no_mark = 0;

    struct PageKey {
        u64 page;
        TagId tag;
        unsigned lg2;

        static PageKey of(const IotlbEntry& e) { return {e.page, e.tag, e.lg2}; }
        u64 hash() const { return avalanche(page ^ u64{tag} << 40 ^ u64{lg2} << 56); }
        // The hash, as what stands for a page beside its slot: the ways of a set are told apart in one cache line.
        static u64 mark_of(u64 hash) { return hash | 1; }
        bool operator==(const PageKey&) const = default;
    };
    struct PageHash {
        std::size_t operator()(const PageKey& key) const { return key.hash(); }
    };

    std::size_t set_of(const PageKey& key) const { return key.hash() & (set_state_.size() - 1); }

    const IotlbEntry* find_way(const PageKey& key, u64 stale) {
        const u64 hash = key.hash(), mark = PageKey::mark_of(hash);
        const std::size_t set = hash & (set_state_.size() - 1), first = set * geometry_.ways;
        for (unsigned way = 0; way < geometry_.ways; ++way) {
            if (marks_[first + way] != mark) continue;
            const IotlbEntry& entry = entries_[first + way];
            if (entry.covers(key.tag, key.page, key.lg2) && entry.sequence > stale) {
                touch(set, way);
                return &entry;
            }
        }
        return nullptr;
    }
    const IotlbEntry* find_page(const PageKey& key, u64 stale) const {
        const auto at = pages_.find(key);
        return at == pages_.end() || at->second.sequence <= stale ? nullptr : &at->second;
    }

    // Where the same page already is, else where nothing that counts is.
    bool place(const IotlbEntry& entry, const Tags& tags) {
        const std::size_t set = set_of(PageKey::of(entry));
        IotlbEntry* const ways = &entries_[set * geometry_.ways];
        unsigned chosen = geometry_.ways;
        for (unsigned way = 0; way < geometry_.ways; ++way) {
            const bool counts = alive(ways[way], tags);
            if (counts && ways[way].covers(entry.tag, entry.page, entry.lg2)) {
                // First in, first out counts from when a page came, not from when it was walked again.
                put(set, way, entry, geometry_.policy == Policy::fifo ? ways[way].used : ++clock_);
                return true;
            }
            if (chosen == geometry_.ways && !counts) chosen = way;
        }
        if (chosen == geometry_.ways) return false;
        put(set, chosen, entry, ++clock_);
        return true;
    }
    bool replace(const IotlbEntry& entry) {
        const std::size_t set = set_of(PageKey::of(entry));
        put(set, victim(set), entry, ++clock_);
        return true;
    }
    void put(std::size_t set, unsigned way, const IotlbEntry& entry, u32 used) {
        const std::size_t slot = set * geometry_.ways + way;
        entries_[slot] = entry;
        entries_[slot].used = used;
        marks_[slot] = PageKey::mark_of(PageKey::of(entry).hash());
        if (geometry_.policy == Policy::plru) point_away(set, way);
    }
    void touch(std::size_t set, unsigned way) {
        if (geometry_.policy == Policy::lru) entries_[set * geometry_.ways + way].used = ++clock_;
        if (geometry_.policy == Policy::plru) point_away(set, way);
    }

    unsigned victim(std::size_t set) {
        if (geometry_.policy == Policy::random) return static_cast<unsigned>(next_random() % geometry_.ways);
        if (geometry_.policy == Policy::plru) return pointed_at(set);
        const IotlbEntry* const ways = &entries_[set * geometry_.ways];
        unsigned oldest = 0;
        for (unsigned way = 1; way < geometry_.ways; ++way)  // by age, so that the clock may wrap
            if (clock_ - ways[way].used > clock_ - ways[oldest].used) oldest = way;
        return oldest;
    }

    // Tree PLRU: node n of a set's tree is bit n; it points to the half that was used longer ago.
    void point_away(std::size_t set, unsigned way) {
        for (unsigned node = 1, half = geometry_.ways / 2; half; half /= 2) {
            const bool right = way & half;
            set_state_[set] = right ? set_state_[set] & ~bit(node) : set_state_[set] | bit(node);
            node = node * 2 + right;
        }
    }
    unsigned pointed_at(std::size_t set) const {
        unsigned way = 0;
        for (unsigned node = 1, half = geometry_.ways / 2; half; half /= 2) {
            const bool right = set_state_[set] >> node & 1;
            way |= right ? half : 0;
            node = node * 2 + right;
        }
        return way;
    }
    u64 next_random() {
        random_ ^= random_ << 13;
        random_ ^= random_ >> 7;
        return random_ ^= random_ << 17;
    }

    void drop_page(const PageKey& key) {
        if (unbounded()) {
            if (const auto at = pages_.find(key); at != pages_.end()) at->second.sequence = 0;
            return;
        }
        const std::size_t first = set_of(key) * geometry_.ways;
        for (unsigned way = 0; way < geometry_.ways; ++way)
            if (entries_[first + way].covers(key.tag, key.page, key.lg2)) empty(first + way);
    }
    void empty(std::size_t slot) {
        entries_[slot].sequence = 0;
        marks_[slot] = no_mark;
    }

    // What no longer counts is let go of each time that the rest may have doubled.
    void sweep(const Tags& tags) {
        std::erase_if(pages_, [&](const auto& page) { return !alive(page.second, tags); });
        sweep_at_ = std::max(first_sweep, pages_.size() * 2);
    }

    IotlbGeometry geometry_;
    std::atomic<bool> claimed_ = false;
    u64 sizes_in_use_ = 0;  // bit n: some entry may have pages of 2^n bytes
    u64 random_ = 0;
    u32 clock_ = 0;
    std::vector<IotlbEntry> entries_;  // set by set
    std::vector<u64> marks_;           // of each entry's page; no_mark where it is empty
    std::vector<u64> set_state_;
    // Instead of sets, where there is no bound.
    std::unordered_map<PageKey, IotlbEntry, PageHash> pages_;
    std::size_t sweep_at_ = first_sweep;
};

}  // namespace viommu
