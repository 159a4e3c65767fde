// x86-64 4- and 5-level tables: VT-d first stage (VT-d 3.6) and AMD v2 (48882, 2.2.6). PTE is level 0.
#pragma once

#include "viommu/format.hpp"

namespace viommu::fmt {

struct X86 : FormatDefaults, NineBitLevels {
    bool operator==(const X86&) const = default;

    static constexpr const char* name = "X86";
    static constexpr u64 present = bit(0), rw = bit(1), us = bit(2), accessed = bit(5), dirty_bit = bit(6), ps = bit(7);
    static constexpr u64 extended = bit(10), xd = bit(63), frame = bits(51, 12);

    u64 table = 0;
    u8 levels = 4;
    u8 output_bits = 52;
    bool sign_extended = true;
    bool write_protect = true;
    bool no_execute = true;
    bool extended_accessed = false;
    bool sets_accessed = true;
    bool sets_dirty = true;
    bool may_update = true;
    bool page_1g = true;

    constexpr bool updates_allowed() const { return may_update; }

    constexpr Begin begin(u64 input, WalkState&, u8) const {
        const unsigned sign_bit = 12 + 9 * levels - 1;
        const bool fits = sign_extended ? viommu::sign_extended(input, sign_bit) : !(input >> sign_bit);
        return {table, static_cast<u8>(levels - 1), fits ? FaultKind::none : FaultKind::input_size};
    }

    constexpr Step step(u64 raw, u64, unsigned level, WalkState& state, u8 access) const {
        using namespace viommu::access;
        if (!(raw & present)) return Step::refuse(FaultKind::translation);
        const Rights here = rights(raw);
        state.rights = state.rights & here;
        if (!(access & privileged) && !(raw & us)) return Step::refuse(FaultKind::permission, privileged);
        if (const u8 missing = here.missing(access)) return Step::refuse(FaultKind::permission, missing);

        const bool leaf = level == 0 || (raw & ps);
        if (raw & reserved(level, leaf)) return Step::refuse(FaultKind::reserved);
        u64 updated = raw;
        if (sets_accessed) updated |= accessed | (extended_accessed ? extended : 0);
        if (!leaf) return Step::table_at(raw & frame, level - 1, updated);
        if (sets_dirty && (access & write)) updated |= dirty_bit;
        const unsigned lg2 = 12 + 9 * level;
        return Step::leaf_of(raw & frame & ~below(lg2), lg2, updated, sets_dirty && !(updated & dirty_bit));
    }

    constexpr PlainInput plain_input() const {
        const unsigned sign_bit = 12 + 9 * levels - 1;
        return sign_extended ? PlainInput::extended_from(sign_bit) : PlainInput::below_bit(sign_bit);
    }

    constexpr PlainTable plain_table(unsigned level, const WalkState&) const {
        const u64 flags = sets_accessed ? accessed | (extended_accessed ? extended : 0) : 0;
        return {.mask = present | rw | us | ps | (no_execute ? xd : 0) | flags | reserved(level, false),
                .value = present | rw | us | flags,
                .address = frame};
    }

    constexpr PlainLeaf plain_leaf(u64, unsigned level, const WalkState&) const {
        return {.address = level == 0 ? frame & below(output_bits) : 0};
    }

    // PAT lies where a table entry says PS: in bit 7 of a 4K leaf, in bit 12 of a larger one.
    static constexpr u8 attrs(u64 raw, unsigned level, const WalkState&) {
        return static_cast<u8>(((raw >> 3) & 3) | ((raw >> (level == 0 ? 7 : 12)) & 1) << 2 | ((raw >> 8) & 1) << 3);
    }

    static constexpr bool dirty(u64 raw) { return raw & dirty_bit; }
    static constexpr u64 cleaned(u64 raw) { return raw & ~dirty_bit; }

private:
    constexpr Rights rights(u64 raw) const {
        using namespace viommu::access;
        const u8 x = no_execute && (raw & xd) ? 0 : execute;
        const u8 w = raw & rw ? write : 0;
        const u8 user = raw & us ? read | w | x : 0;
        return {user, static_cast<u8>(read | x | (write_protect ? w : write))};
    }
    constexpr u64 reserved(unsigned level, bool leaf) const {
        const u64 beyond = frame & ~below(output_bits);
        if (level >= 3) return beyond | ps;
        if (level == 0 || !leaf) return beyond;
        if (level == 2 && !page_1g) return beyond | ps;
        return beyond | bits(12 + 9 * level - 1, 13);  // bit 12 is PAT there
    }
};

static_assert(Format<X86>);

}  // namespace viommu::fmt
