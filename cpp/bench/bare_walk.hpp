// The yardsticks of a walk: the same loads, and nothing else. No locks, rights, faults, counters or formats.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "viommu/types.hpp"

namespace viommu::bench {

inline constexpr std::size_t walks_in_flight = 32, nested_in_flight = 16;
inline constexpr u64 frame_mask = bits(51, 12);

// Four levels of 4 KiB tables in one run of memory. Entries hold addresses in bits 51:12.
struct BareTables {
    BareTables(const u64* words, u64 start, u64 top)
        : host(reinterpret_cast<const std::byte*>(words) - start), root(top) {}

    u64 word(u64 address) const { return *reinterpret_cast<const u64*>(host + address); }
    u64 load(u64 table, u64 input, unsigned level) const {
        return word((table & frame_mask) + (input >> (9 + 9 * level) & 0xFF8));
    }

    // Level by level for a group: its loads are independent, so that the machine has all of them under way.
    void walk(const u64* inputs, u64* entries, std::size_t count) const {
        for (std::size_t i = 0; i < count; ++i) entries[i] = root;
        for (unsigned level = 4; level-- > 0;)
            for (std::size_t i = 0; i < count; ++i) entries[i] = load(entries[i], inputs[i], level);
    }
    void walk_all(std::span<const u64> iovas, u64* out) const {
        for (std::size_t first = 0; first < iovas.size(); first += walks_in_flight) {
            const std::size_t count = std::min(walks_in_flight, iovas.size() - first);
            u64 entries[walks_in_flight];
            walk(&iovas[first], entries, count);
            for (std::size_t i = 0; i < count; ++i)
                out[first + i] = (entries[i] & frame_mask) | (iovas[first + i] & 0xFFF);
        }
    }
    // Each walk waits for the one before it.
    u64 walk_in_turn(std::span<const u64> iovas) const {
        u64 nothing = 0, entry = 0;
        asm("" : "+r"(nothing));  // what it is, the compiler must not know
        for (const u64 iova : iovas) {
            const u64 input = iova + (entry & nothing);
            entry = root;
            for (unsigned level = 4; level-- > 0;) entry = load(entry, input, level);
        }
        return entry;
    }

    const std::byte* host;
    u64 root;
};

// 24 loads an address: each of stage 1's four entries behind four of stage 2, and four more for the page.
struct BareNested {
    BareTables first, second;

    void walk_all(std::span<const u64> iovas, u64* out) const {
        for (std::size_t at = 0; at < iovas.size(); at += nested_in_flight) {
            const std::size_t count = std::min(nested_in_flight, iovas.size() - at);
            const u64* const inputs = &iovas[at];
            u64 ipas[nested_in_flight], tables[nested_in_flight];
            for (std::size_t i = 0; i < count; ++i) tables[i] = first.root;
            for (unsigned level = 4; level-- > 0;) {
                for (std::size_t i = 0; i < count; ++i)
                    ipas[i] = (tables[i] & frame_mask) | (inputs[i] >> (9 + 9 * level) & 0xFF8);
                translate(ipas, count);
                for (std::size_t i = 0; i < count; ++i) tables[i] = first.word(ipas[i]);
            }
            for (std::size_t i = 0; i < count; ++i) ipas[i] = (tables[i] & frame_mask) | (inputs[i] & 0xFFF);
            translate(ipas, count);
            std::copy_n(ipas, count, out + at);
        }
    }

private:
    void translate(u64* ipas, std::size_t count) const {
        u64 entries[nested_in_flight];
        second.walk(ipas, entries, count);
        for (std::size_t i = 0; i < count; ++i) ipas[i] = (entries[i] & frame_mask) | (ipas[i] & 0xFFF);
    }
};

// The same with combined walk caches: what 2 MiB of input lead to, the physical address of a leaf table, is kept for
// both stages. What is left are two probes, stage 1's leaf and stage 2's.
class BareCombined {
public:
    // Room for as many 2 MiB as `spans`, a power of two.
    BareCombined(const BareNested& tables, std::size_t spans) : tables_(tables), first_(spans), second_(spans) {}

    void walk_all(std::span<const u64> iovas, u64* out) {
        for (std::size_t at = 0; at < iovas.size(); at += walks_in_flight) {
            const std::size_t count = std::min(walks_in_flight, iovas.size() - at);
            const u64* const inputs = &iovas[at];
            u64 entries[walks_in_flight], ipas[walks_in_flight];
            for (std::size_t i = 0; i < count; ++i)
                entries[i] = tables_.first.load(first_leaves(inputs[i]), inputs[i], 0);
            for (std::size_t i = 0; i < count; ++i) ipas[i] = (entries[i] & frame_mask) | (inputs[i] & 0xFFF);
            for (std::size_t i = 0; i < count; ++i)
                entries[i] = tables_.second.load(second_leaves(ipas[i]), ipas[i], 0);
            for (std::size_t i = 0; i < count; ++i) out[at + i] = (entries[i] & frame_mask) | (ipas[i] & 0xFFF);
        }
    }

private:
    struct Kept {
        u64 span = 0, table = 0;  // 0: nothing
    };
    u64 first_leaves(u64 iova) {
        Kept& kept = first_[iova >> 21 & (first_.size() - 1)];
        if (kept.span != (iova >> 21) + 1) [[unlikely]] {
            u64 table = tables_.first.root;
            for (unsigned level = 4; level-- > 1;)
                table = tables_.first.word(behind((table & frame_mask) | (iova >> (9 + 9 * level) & 0xFF8)));
            kept = {(iova >> 21) + 1, behind(table & frame_mask)};
        }
        return kept.table;
    }
    u64 second_leaves(u64 ipa) {
        Kept& kept = second_[ipa >> 21 & (second_.size() - 1)];
        if (kept.span != (ipa >> 21) + 1) [[unlikely]] {
            u64 table = tables_.second.root;
            for (unsigned level = 4; level-- > 1;) table = tables_.second.load(table, ipa, level);
            kept = {(ipa >> 21) + 1, table};
        }
        return kept.table;
    }
    u64 behind(u64 ipa) { return (tables_.second.load(second_leaves(ipa), ipa, 0) & frame_mask) | (ipa & 0xFFF); }

    BareNested tables_;
    std::vector<Kept> first_, second_;
};

}  // namespace viommu::bench
