// The yardsticks: loops that do a path's memory work and nothing else. No locks, rights, faults, counters or formats.
#pragma once

#include <span>
#include <vector>

#include "viommu/hash.hpp"

namespace viommu::bench {

// So many are under way at once where a yardstick interleaves.
inline constexpr std::size_t in_flight = 32, nested_in_flight = 16;

// Pages to frames: four ways of 16 bytes, a cache line a set.
class BareTlb {
public:
    explicit BareTlb(std::size_t entries) : sets_(entries / 4) {}

    void insert(u64 page, u64 frame) {
        Set& set = sets_[set_of(page)];
        for (unsigned way = 0; way < 4; ++way)
            if (!set.tags[way] || way == 3) {
                set.tags[way] = page + 1;
                set.frames[way] = frame;
                return;
            }
    }
    u64 find(u64 page) const {
        const Set& set = sets_[set_of(page)];
        for (unsigned way = 0; way < 4; ++way)
            if (set.tags[way] == page + 1) return set.frames[way];
        return 0;
    }
    // The same for many: the sets of a group are fetched before its first is looked at.
    u64 find_all(std::span<const u64> iovas) const {
        u64 sum = 0;
        for (std::size_t first = 0; first < iovas.size(); first += in_flight) {
            const std::span group = iovas.subspan(first, std::min(in_flight, iovas.size() - first));
            for (const u64 iova : group) __builtin_prefetch(&sets_[set_of(iova >> 12)]);
            for (const u64 iova : group) sum += find(iova >> 12);
        }
        return sum;
    }
    void drop(u64 page) {
        Set& set = sets_[set_of(page)];
        for (u64& tag : set.tags)
            if (tag == page + 1) tag = 0;
    }

private:
    struct alignas(64) Set {
        u64 tags[4], frames[4];
    };
    std::size_t set_of(u64 page) const { return avalanche(page) & (sets_.size() - 1); }

    std::vector<Set> sets_;
};

// Four levels of 4 KiB tables in one run of memory that starts at `base`. Entries hold addresses in bits 51:12.
struct BareTables {
    const u64* words;
    u64 base;
    u64 root;

    const u64* entry(u64 table, u64 input, unsigned level) const {
        return &words[((table & bits(51, 12)) - base) / 8 + (input >> (12 + 9 * level) & 0x1FF)];
    }

    // Level by level for a group, so that its loads wait together.
    u64 walk_all(std::span<const u64> iovas) const {
        u64 sum = 0;
        for (std::size_t first = 0; first < iovas.size(); first += in_flight) {
            const std::size_t count = std::min(in_flight, iovas.size() - first);
            u64 tables[in_flight];
            std::fill_n(tables, count, root);
            for (unsigned level = 4; level-- > 0;) {
                for (std::size_t i = 0; i < count; ++i) __builtin_prefetch(entry(tables[i], iovas[first + i], level));
                for (std::size_t i = 0; i < count; ++i) tables[i] = *entry(tables[i], iovas[first + i], level);
            }
            for (std::size_t i = 0; i < count; ++i) sum += tables[i];
        }
        return sum;
    }
};

// 24 loads an address: each of stage 1's four entries behind four of stage 2, and four more for the page.
struct BareNested {
    BareTables first, second;

    u64 walk_all(std::span<const u64> iovas) const {
        u64 sum = 0;
        for (std::size_t at = 0; at < iovas.size(); at += nested_in_flight) {
            const std::size_t count = std::min(nested_in_flight, iovas.size() - at);
            u64 ipas[nested_in_flight], tables[nested_in_flight];
            std::fill_n(tables, count, first.root);
            for (unsigned level = 4; level-- > 0;) {
                for (std::size_t i = 0; i < count; ++i)
                    ipas[i] = (tables[i] & bits(51, 12)) | (iovas[at + i] >> (12 + 9 * level) & 0x1FF) << 3;
                translate(ipas, count);
                for (std::size_t i = 0; i < count; ++i) __builtin_prefetch(&first.words[(ipas[i] - first.base) / 8]);
                for (std::size_t i = 0; i < count; ++i) tables[i] = first.words[(ipas[i] - first.base) / 8];
            }
            for (std::size_t i = 0; i < count; ++i) ipas[i] = tables[i] & bits(51, 12);
            translate(ipas, count);
            for (std::size_t i = 0; i < count; ++i) sum += ipas[i];
        }
        return sum;
    }

private:
    void translate(u64* ipas, std::size_t count) const {
        u64 tables[nested_in_flight];
        std::fill_n(tables, count, second.root);
        for (unsigned level = 4; level-- > 0;) {
            for (std::size_t i = 0; i < count; ++i) __builtin_prefetch(second.entry(tables[i], ipas[i], level));
            for (std::size_t i = 0; i < count; ++i) tables[i] = *second.entry(tables[i], ipas[i], level);
        }
        for (std::size_t i = 0; i < count; ++i) ipas[i] = (tables[i] & bits(51, 12)) | (ipas[i] & 0xFFF);
    }
};

}  // namespace viommu::bench
