// A format described at run time: masks and widths, so that a driver written in Python only brings its own tables.
#pragma once

#include "viommu/format.hpp"

namespace viommu::fmt {

struct Described : FormatDefaults {
    bool operator==(const Described&) const = default;

    static constexpr const char* name = "Described";
    static constexpr unsigned max_levels = 8;

    u64 table = 0;
    u8 level_count = 1;
    u8 span[max_levels + 1] = {};  // span[n]: log2 covered by one entry of level n; the last one is the whole input
    u8 input_bits = 64;
    u8 output_bits = 64;
    u8 address_shift = 0;  // entry's address field, shifted left by this, is an address
    u32 leaf_levels = 1;
    u64 address_mask = 0;
    u64 present_mask = 0, present_value = 0;
    u64 leaf_mask = 0, leaf_value = 0;
    u64 read_mask = 0, write_mask = 0, execute_mask = 0, user_mask = 0, inverted_rights = 0;
    u64 accessed_mask = 0, dirty_mask = 0;
    u64 table_reserved = 0, leaf_reserved = 0;
    bool sign_extended = false;
    bool hierarchical = true;
    bool swapped = false;

    constexpr bool big_endian() const { return swapped; }

    constexpr Begin begin(u64 input, WalkState&, u8) const {
        const bool fits = sign_extended ? viommu::sign_extended(input, input_bits - 1) : !(input & ~below(input_bits));
        return {table, static_cast<u8>(level_count - 1), fits ? FaultKind::none : FaultKind::input_size};
    }
    constexpr unsigned span_lg2(unsigned level, const WalkState&) const { return span[level]; }
    constexpr u64 entry_address(u64 table_address, u64 input, unsigned level, const WalkState&) const {
        return (table_address & ~u64{7}) + (((input >> span[level]) & below(span[level + 1] - span[level])) << 3);
    }

    constexpr Step step(u64 raw, u64, unsigned level, WalkState& state, u8 access) const {
        using namespace viommu::access;
        if ((raw & present_mask) != present_value) return Step::refuse(FaultKind::translation);
        const bool leaf = level == 0 || ((leaf_levels >> level & 1) && leaf_mask && (raw & leaf_mask) == leaf_value);
        if (raw & (leaf ? leaf_reserved : table_reserved)) return Step::refuse(FaultKind::reserved);
        const u64 address = (raw & address_mask) << address_shift;
        if (leaf && (address & below(span[level]))) return Step::refuse(FaultKind::malformed);
        if (address & ~below(output_bits)) return Step::refuse(FaultKind::address_size);

        if (hierarchical || leaf) state.rights = state.rights & rights(raw);
        u64 updated = raw | accessed_mask;
        if (!leaf) return Step::table_at(address, level - 1, raw);
        if (const u8 missing = state.rights.missing(access)) return Step::refuse(FaultKind::permission, missing);
        if (access & write) updated |= dirty_mask;
        return Step::leaf_of(address, span[level], updated, (updated & dirty_mask) != dirty_mask);
    }

    constexpr PlainInput plain_input() const {
        return sign_extended ? PlainInput::extended_from(input_bits - 1) : PlainInput::below_bit(input_bits);
    }

    constexpr PlainTable plain_table(unsigned level, const WalkState&) const {
        PlainTable plain{.mask = 0, .value = 0, .address = address_mask, .shift = address_shift};
        bool possible = true;
        const auto require = [&](u64 mask, u64 value) {
            possible &= !((plain.value ^ value) & plain.mask & mask);
            plain.mask |= mask;
            plain.value |= value & mask;
        };
        require(present_mask, present_value);
        require(table_reserved | ((~below(output_bits) >> address_shift) & address_mask), 0);
        if (hierarchical) require(read_mask | write_mask | execute_mask | user_mask, ~inverted_rights);
        // One bit that no leaf has is enough.
        if ((leaf_levels >> level & 1) && leaf_mask) require(leaf_mask & -leaf_mask, ~leaf_value);
        return possible ? plain : PlainTable{};
    }

    constexpr PlainLeaf plain_leaf(u64, unsigned level, const WalkState&) const {
        const u64 flags = present_mask | leaf_mask | read_mask | write_mask | execute_mask | user_mask | accessed_mask |
                          dirty_mask | leaf_reserved;
        if (flags & address_mask) return {};
        const u64 zero = (below(span[level]) | ~below(output_bits)) >> address_shift;
        return {.address = address_mask & ~zero, .shift = address_shift};
    }

    static constexpr u8 attrs(u64, unsigned, const WalkState&) { return 0; }

    constexpr bool dirty(u64 raw) const { return dirty_mask && (raw & dirty_mask) == dirty_mask; }
    constexpr u64 cleaned(u64 raw) const { return raw & ~dirty_mask; }

private:
    constexpr bool has(u64 raw, u64 mask) const { return ((raw ^ inverted_rights) & mask) == mask; }
    constexpr Rights rights(u64 raw) const {
        using namespace viommu::access;
        const u8 granted = (has(raw, read_mask) ? read : 0) | (has(raw, write_mask) ? write : 0) |
                           (has(raw, execute_mask) ? execute : 0);
        return {static_cast<u8>(has(raw, user_mask) ? granted : 0), granted};
    }
};

static_assert(Format<Described>);

}  // namespace viommu::fmt
