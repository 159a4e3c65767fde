// AMD host tables (48882, 2.2.3): levels may be skipped, a leaf may have any power-of-two size. AMD level n is our n
// - 1.
#pragma once

#include "viommu/format.hpp"

namespace viommu::fmt {

struct AmdV1 : FormatDefaults, NineBitLevels {
    bool operator==(const AmdV1&) const = default;

    static constexpr const char* name = "AmdV1";
    static constexpr u64 present = bit(0), accessed_bit = bit(5), dirty_bit = bit(6), ir = bit(61), iw = bit(62);
    static constexpr u64 frame = bits(51, 12), table_reserved = bits(60, 52), leaf_reserved = bits(56, 52);
    static constexpr unsigned size_in_address = 7;

    u64 table = 0;
    u8 mode = 4;
    bool sets_accessed = false;
    bool sets_dirty = false;
    u8 output_bits = 52;

    constexpr Begin begin(u64 input, WalkState&, u8) const {
        const bool fits = mode == 6 || !(input >> (12 + 9 * mode));
        return {table, static_cast<u8>(mode - 1), fits ? FaultKind::none : FaultKind::input_size};
    }

    constexpr Step step(u64 raw, u64 input, unsigned level, WalkState& state, u8 access) const {
        using namespace viommu::access;
        if (!(raw & present)) return Step::refuse(FaultKind::translation);
        const Rights here = Rights::both((raw & ir ? read | execute : 0) | (raw & iw ? write : 0));
        state.rights = state.rights & here;
        if (const u8 missing = here.missing(access)) return Step::refuse(FaultKind::permission, missing);

        const unsigned next = (raw >> 9) & 7;
        const bool leaf = next == 0 || next == size_in_address;
        const unsigned lg2 = next == 0 ? span(level) : encoded_lg2(raw);
        if (leaf ? !leaf_allowed(level, next, lg2) : next > level || skipped(input, level, next))
            return Step::refuse(FaultKind::malformed);
        if (raw & (leaf ? leaf_reserved : table_reserved)) return Step::refuse(FaultKind::reserved);
        const u64 address = leaf ? raw & frame & ~below(lg2) : raw & frame;
        if (address & ~below(output_bits)) return Step::refuse(FaultKind::address_size);
        if (!leaf) return Step::table_at(address, next - 1, raw);

        u64 updated = raw;
        if (sets_accessed) updated |= accessed_bit;
        if (sets_dirty && (access & write)) updated |= dirty_bit;
        return Step::leaf_of(address, lg2, updated, sets_dirty && !(updated & dirty_bit));
    }

    constexpr PlainInput plain_input() const { return mode == 6 ? PlainInput{} : PlainInput::below_bit(12 + 9 * mode); }

    constexpr PlainTable plain_table(unsigned level, const WalkState&) const {
        return {.mask = present | ir | iw | bits(11, 9) | table_reserved | (frame & ~below(output_bits)),
                .value = present | ir | iw | u64{level} << 9,
                .address = frame};
    }

    // Not of pages with a size of their own, which stands among the address bits.
    constexpr PlainLeaf plain_leaf(u64 raw, unsigned level, const WalkState&) const {
        return {.address = level == 0 && !(raw & bits(11, 9)) ? frame & below(output_bits) : 0};
    }

    static constexpr u8 attrs(u64 raw, unsigned, const WalkState&) {
        return static_cast<u8>(((raw >> 60) & 1) | ((raw >> 59) & 1) << 1);
    }

    static constexpr bool dirty(u64 raw) { return raw & dirty_bit; }
    static constexpr u64 cleaned(u64 raw) { return raw & ~dirty_bit; }

private:
    static constexpr unsigned span(unsigned level) { return 12 + 9 * level; }
    // NextLevel 7: the lowest clear address bit tells the size.
    static constexpr unsigned encoded_lg2(u64 raw) {
        return static_cast<unsigned>(std::countr_one((raw & frame) >> 12)) + 13;
    }
    static constexpr bool leaf_allowed(unsigned level, unsigned next, unsigned lg2) {
        if (level >= 5) return false;
        return next == 0 || (lg2 > span(level) && lg2 < span(level + 1));
    }
    // IOVA bits of the levels that a pointer passes over.
    static constexpr u64 skipped(u64 input, unsigned level, unsigned next) {
        return input & below(span(level)) & ~below(span(next));
    }
};

static_assert(Format<AmdV1>);

}  // namespace viommu::fmt
