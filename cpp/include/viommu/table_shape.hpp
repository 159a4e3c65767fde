// How the entries of one kind of page table look, by masks: what a writer of tables must know, and a walker need not.
#pragma once

#include <algorithm>
#include <array>

#include "viommu/types.hpp"

namespace viommu {

// Level 0 holds the smallest leaf. An entry that is all zeros is absent in every format.
struct TableShape {
    static constexpr unsigned max_levels = 6;

    u8 levels = 4;
    u8 granule_lg2 = 12;   // of tables, and of the smallest leaf
    u8 top_index_lg2 = 9;  // more than a granule's: concatenated tables; less: a short one
    u8 leaf_levels = 1;    // bit n: level n may hold leaves
    u8 address_shift = 0;  // an entry holds the address shifted right by this
    u8 high_shift = 0;     // and those of `high_mask` by this instead
    u64 address_mask = 0;  // the bits of an address that an entry holds, in the address's own places
    u64 high_mask = 0;     // those that stand elsewhere
    std::array<u64, max_levels> table_flags{};  // of an entry of level n that leads to a table of level n - 1
    std::array<u64, max_levels> leaf_flags{};   // of a leaf in a table of level n
    std::array<u64, 4> rights{};                // added to a leaf for: nothing, READ, WRITE, both

    unsigned stride() const { return granule_lg2 - 3u; }
    unsigned span_lg2(unsigned level) const { return granule_lg2 + stride() * level; }
    unsigned top() const { return levels - 1u; }
    // log2 of the entries of a table
    unsigned index_lg2(unsigned level) const { return level == top() ? top_index_lg2 : stride(); }
    unsigned index(unsigned level, u64 input) const {
        return static_cast<unsigned>((input >> span_lg2(level)) & below(index_lg2(level)));
    }
    unsigned table_lg2(unsigned level) const { return index_lg2(level) + 3; }
    unsigned input_bits() const { return std::min(64u, span_lg2(top()) + top_index_lg2); }
    bool may_be_leaf(unsigned level) const { return leaf_levels >> level & 1; }

    bool holds(u64 address) const { return !(address & ~(address_mask | high_mask)); }
    u64 encoded(u64 address) const {
        return (address & address_mask) >> address_shift | (address & high_mask) >> high_shift;
    }
    // The address of a leaf in an entry, whose flags may share bits with addresses smaller than the leaf.
    u64 address(u64 entry, unsigned level) const {
        return ((entry << address_shift & address_mask) | (entry << high_shift & high_mask)) & ~below(span_lg2(level));
    }
};

}  // namespace viommu
