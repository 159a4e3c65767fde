// The IOTLB: set-associative with a chosen geometry and policy, or unbounded; tagged, and aware of page sizes.
#pragma once

#include <optional>
#include <stdexcept>
#include <string>
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

    bool covers(TagId t, u64 p, unsigned size_lg2) const { return sequence && tag == t && page == p && lg2 == size_lg2; }
};

class Iotlb {
public:
    explicit Iotlb(const IotlbGeometry& geometry) : geometry_(geometry), random_(geometry.seed * 2 + 1) {
        const auto power = [](std::size_t n) { return n && std::has_single_bit(n); };
        if (!power(geometry.ways) || geometry.ways > 64)
            throw std::invalid_argument("ways " + std::to_string(geometry.ways) + " is not a power of two up to 64");
        if (geometry.entries && (!power(geometry.entries) || geometry.entries < geometry.ways || geometry.entries > most_entries))
            throw std::invalid_argument("entries " + std::to_string(geometry.entries) +
                                        " is not a power of two from ways (" + std::to_string(geometry.ways) + ") to 2^28");
        resize(unbounded() ? first_unbounded_sets : geometry.entries / geometry.ways);
    }

    const IotlbGeometry& geometry() const { return geometry_; }
    bool unbounded() const { return geometry_.entries == 0; }

    // The entry for `input` under `tag`, of whatever page size; one made at or before `stale` does not count.
    const IotlbEntry* find(TagId tag, u64 stale, u64 input) {
        for (u64 sizes = sizes_in_use_; sizes; sizes &= sizes - 1) {
            const unsigned lg2 = static_cast<unsigned>(std::countr_zero(sizes));
            const std::size_t set = set_of(tag, input >> lg2, lg2);
            for (unsigned way = 0; way < geometry_.ways; ++way) {
                const IotlbEntry& entry = entries_[set * geometry_.ways + way];
                if (entry.covers(tag, input >> lg2, lg2) && entry.sequence > stale) {
                    touch(set, way);
                    return &entry;
                }
            }
        }
        return nullptr;
    }

    // Puts `entry` in; true where a live entry had to leave for it.
    bool insert(const IotlbEntry& entry, const Tags& tags) {
        if (unbounded())
            while (!place(entry, tags)) grow(tags);
        else if (!place(entry, tags))
            return replace(entry);
        return false;
    }

    // Empties every entry of `tag` whose page overlaps [start, last].
    void drop_range(TagId tag, u64 start, u64 last) {
        for (u64 sizes = sizes_in_use_; sizes; sizes &= sizes - 1) {
            const unsigned lg2 = static_cast<unsigned>(std::countr_zero(sizes));
            const u64 first_page = start >> lg2, pages = (last >> lg2) - first_page;
            if (pages >= entries_.size()) {  // wider than the cache: cheaper to look at each entry
                drop_if([&](const IotlbEntry& e) { return e.tag == tag && e.lg2 == lg2 && e.page - first_page <= pages; });
                continue;
            }
            for (u64 i = 0; i <= pages; ++i) drop_page(tag, first_page + i, lg2);
        }
    }
    template <typename Matches> void drop_if(Matches&& matches) {
        for (IotlbEntry& entry : entries_)
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
        return found;
    }
    void clear() {
        std::fill(entries_.begin(), entries_.end(), IotlbEntry{});
        sizes_in_use_ = 0;
    }

private:
    static constexpr std::size_t most_entries = std::size_t{1} << 28, first_unbounded_sets = 256;

    std::size_t set_of(TagId tag, u64 page, unsigned lg2) const {
        return avalanche(page ^ u64{tag} << 40 ^ u64{lg2} << 56) & (sets_ - 1);
    }
    void resize(std::size_t sets) {
        sets_ = sets;
        entries_.assign(sets * geometry_.ways, {});
        set_state_.assign(sets, 0);
    }

    // Where the same page already is, else where nothing that counts is.
    bool place(const IotlbEntry& entry, const Tags& tags) {
        const std::size_t set = set_of(entry.tag, entry.page, entry.lg2);
        IotlbEntry* const ways = &entries_[set * geometry_.ways];
        unsigned chosen = geometry_.ways;
        for (unsigned way = 0; way < geometry_.ways; ++way) {
            if (ways[way].covers(entry.tag, entry.page, entry.lg2)) {
                put(set, way, entry);
                return true;
            }
            if (chosen == geometry_.ways && !alive(ways[way], tags)) chosen = way;
        }
        if (chosen == geometry_.ways) return false;
        put(set, chosen, entry);
        return true;
    }
    bool replace(const IotlbEntry& entry) {
        const std::size_t set = set_of(entry.tag, entry.page, entry.lg2);
        put(set, victim(set), entry);
        return true;
    }
    void put(std::size_t set, unsigned way, const IotlbEntry& entry) {
        IotlbEntry& slot = entries_[set * geometry_.ways + way];
        const bool same = slot.covers(entry.tag, entry.page, entry.lg2);
        const u32 placed = slot.used;
        slot = entry;
        slot.used = ++clock_;
        // First in, first out counts from when a page came, not from when it was walked again.
        if (same && geometry_.policy == Policy::fifo) slot.used = placed;
        if (geometry_.policy == Policy::plru) point_away(set, way);
        sizes_in_use_ |= bit(entry.lg2);
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

    void drop_page(TagId tag, u64 page, unsigned lg2) {
        const std::size_t set = set_of(tag, page, lg2);
        for (unsigned way = 0; way < geometry_.ways; ++way) {
            IotlbEntry& entry = entries_[set * geometry_.ways + way];
            if (entry.covers(tag, page, lg2)) entry.sequence = 0;
        }
    }

    // Doubles until all that counts fits.
    void grow(const Tags& tags) {
        std::vector<IotlbEntry> live;
        for (const IotlbEntry& entry : entries_)
            if (alive(entry, tags)) live.push_back(entry);
        for (bool fits = false; !fits;) {
            if (sets_ * 2 * geometry_.ways > most_entries) throw std::length_error("the unbounded IOTLB holds 2^28 entries");
            resize(sets_ * 2);
            fits = std::all_of(live.begin(), live.end(), [&](const IotlbEntry& entry) { return place(entry, tags); });
        }
    }

    IotlbGeometry geometry_;
    std::size_t sets_ = 0;
    u64 sizes_in_use_ = 0;  // bit n: some entry may have pages of 2^n bytes
    u64 random_;
    u32 clock_ = 0;
    std::vector<IotlbEntry> entries_;
    std::vector<u64> set_state_;
};

}  // namespace viommu
