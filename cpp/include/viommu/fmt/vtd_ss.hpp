// VT-d second-stage tables (VT-d 3.7; entries in 9.8). SS-PTE is level 0, SS-PML5E level 4.
#pragma once

#include <algorithm>

#include "viommu/format.hpp"

namespace viommu::fmt {

struct VtdSecondStage : FormatDefaults, NineBitLevels {
    bool operator==(const VtdSecondStage&) const = default;

    static constexpr const char* name = "VtdSecondStage";
    static constexpr u64 r = bit(0), w = bit(1), ps = bit(7), accessed = bit(8), dirty_bit = bit(9), snp = bit(11),
                         tm = bit(62);
    static constexpr u64 frame = bits(51, 12);

    u64 table = 0;
    u8 levels = 4;
    u8 input_bits = 64;
    u8 output_bits = 52;
    bool page_2m = true;
    bool page_1g = true;
    bool accessed_dirty = false;
    bool may_update = true;
    bool snoop_reserved = false;
    bool transient_reserved = true;
    bool legacy_order = false;

    constexpr bool updates_allowed() const { return may_update; }

    constexpr Begin begin(u64 input, WalkState&, u8) const {
        const unsigned width = std::min<unsigned>(input_bits, 12 + 9 * levels);
        return {table, static_cast<u8>(levels - 1), input & ~below(width) ? FaultKind::input_size : FaultKind::none};
    }

    constexpr Step step(u64 raw, u64, unsigned level, WalkState& state, u8 access) const {
        using namespace viommu::access;
        // There is no present bit: any right means present.
        if (!(raw & (r | w))) return Step::refuse(FaultKind::translation);
        // Execute is not a right of its own without execute requests: it needs R.
        const Rights here = Rights::both((raw & r ? read | execute : 0) | (raw & w ? write : 0));
        state.rights = state.rights & here;
        if (const u8 missing = here.missing(access); legacy_order && missing)
            return Step::refuse(FaultKind::permission, missing);

        const bool leaf = level == 0 || (raw & ps);
        if (raw & reserved(level, leaf)) return Step::refuse(FaultKind::reserved);
        u64 updated = accessed_dirty ? raw | accessed : raw;
        if (!leaf) return Step::table_at(raw & frame, level - 1, updated);

        if (const u8 missing = state.rights.missing(access)) return Step::refuse(FaultKind::permission, missing);
        if (accessed_dirty && (access & write)) updated |= dirty_bit;
        const unsigned lg2 = 12 + 9 * level;
        return Step::leaf_of(raw & frame & ~below(lg2), lg2, updated, accessed_dirty && !(updated & dirty_bit));
    }

    constexpr PlainInput plain_input() const {
        return PlainInput::below_bit(std::min<unsigned>(input_bits, 12 + 9 * levels));
    }

    constexpr PlainTable plain_table(unsigned level, const WalkState&) const {
        const u64 flags = accessed_dirty ? accessed : 0;
        return {.mask = r | w | ps | flags | reserved(level, false), .value = r | w | flags, .address = frame};
    }

    constexpr PlainLeaf plain_leaf(u64, unsigned level, const WalkState&) const {
        return {.address = level == 0 ? frame & below(output_bits) : 0};
    }

    static constexpr u8 attrs(u64 raw, unsigned, const WalkState&) {
        return static_cast<u8>(((raw >> 11) & 1) | ((raw >> 62) & 1) << 1);
    }

    static constexpr bool dirty(u64 raw) { return raw & dirty_bit; }
    static constexpr u64 cleaned(u64 raw) { return raw & ~dirty_bit; }

private:
    constexpr u64 reserved(unsigned level, bool leaf) const {
        const u64 beyond = frame & ~below(output_bits);
        if (level >= 3) return beyond | ps | snp | tm;
        if (!leaf) return beyond | snp | tm;
        const u64 in_leaf = beyond | (snoop_reserved ? snp : 0) | (transient_reserved ? tm : 0);
        if (level == 0) return in_leaf;
        if (!(level == 1 ? page_2m : page_1g)) return in_leaf | ps;
        return in_leaf | bits(12 + 9 * level - 1, 12);
    }
};

static_assert(Format<VtdSecondStage>);

}  // namespace viommu::fmt
