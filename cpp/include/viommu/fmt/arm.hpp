// Arm VMSAv8-64 stage 1 and stage 2 (IHI 0070; DDI 0487, D8). Arm's level L is our level 3 - L.
#pragma once

#include <algorithm>

#include "viommu/format.hpp"

namespace viommu::fmt {

// What both stages share: where addresses lie in a descriptor and which levels may hold blocks.
struct ArmGeometry {
    u8 granule_lg2 = 12;
    u8 output_bits = 48;
    bool large_52 = false;  // DS: 52-bit addresses with the 4K and 16K granules

    static constexpr u64 valid = bit(0), table_or_page = bit(1), af = bit(10), dbm = bit(51), contiguous = bit(52);

    constexpr unsigned stride() const { return granule_lg2 - 3; }
    constexpr unsigned span_lg2(unsigned level) const { return granule_lg2 + stride() * level; }
    constexpr bool within_output(u64 address) const { return !(address & ~below(output_bits)); }

    // The address of a table (lg2 of the granule) or of a leaf of 2^lg2 bytes.
    constexpr u64 address(u64 raw, unsigned lg2) const {
        if (large_52 && granule_lg2 != 16) return (raw & bits(49, lg2)) | (raw & bits(9, 8)) << 42;
        const u64 low = raw & bits(47, lg2);
        return granule_lg2 == 16 && output_bits > 48 ? low | (raw & bits(15, 12)) << 36 : low;
    }
    constexpr bool block_allowed(unsigned level) const {
        const bool wide = granule_lg2 == 16 ? output_bits > 48 : large_52;
        return level <= (granule_lg2 == 12 ? 2u : 1u) + wide;
    }
    // A table is aligned to its size: the address bits below it take no part.
    constexpr u64 entry_address(u64 table, u64 input, unsigned level, unsigned index_bits) const {
        return (table & ~below(index_bits + 3)) | ((input >> span_lg2(level)) & below(index_bits)) << 3;
    }
    // A table entry whose address lies in one run of bits; `flags` are set, `forbidden` clear.
    constexpr PlainTable plain_table(u64 flags, u64 forbidden) const {
        if (large_52 || output_bits > 48) return {};
        const u64 address = bits(47, granule_lg2);
        return {.mask = valid | table_or_page | flags | forbidden | (address & ~below(output_bits)),
                .value = valid | table_or_page | flags,
                .address = address};
    }
    constexpr PlainLeaf plain_leaf(unsigned level) const {
        if (large_52 || output_bits > 48) return {};
        return {.address = bits(47, span_lg2(level)) & below(output_bits)};
    }
    // SH, which DS gives up for address bits.
    constexpr u8 shareability(u64 raw) const { return large_52 && granule_lg2 != 16 ? 0 : (raw >> 8) & 3; }

    // Everything up to the leaf's own rules: true where `step` is settled (a table, or a fault).
    constexpr bool settle(u64 raw, unsigned level, u64 table_update, Step& step) const {
        if (!(raw & valid) || (level == 0 && !(raw & table_or_page)) ||
            (level > 0 && !(raw & table_or_page) && !block_allowed(level))) {
            step = Step::refuse(FaultKind::translation);
            return true;
        }
        const bool table = level > 0 && (raw & table_or_page);
        const u64 to = address(raw, table ? granule_lg2 : span_lg2(level));
        if (!within_output(to)) {
            step = Step::refuse(FaultKind::address_size);
            return true;
        }
        step = table ? Step::table_at(to, level - 1, raw | table_update) : Step::leaf_of(to, span_lg2(level), raw);
        return table;
    }
};

// One half of a stage-1 address space.
struct ArmHalf {
    u64 table = 0;
    u8 input_bits = 48;
    u8 granule_lg2 = 12;
    bool top_byte_ignore = false;
    bool walks_disabled = false;         // EPD
    bool unprivileged_disabled = false;  // E0PD
    bool ignore_hierarchical = false;    // HAD

    bool operator==(const ArmHalf&) const = default;
};

struct ArmStage1 : FormatDefaults {
    bool operator==(const ArmStage1&) const = default;

    static constexpr const char* name = "ArmStage1";
    static constexpr bool has_halves = true;
    static constexpr u64 ap_unprivileged = bit(6), ap_read_only = bit(7), ng = bit(11), pxn = bit(53), uxn = bit(54);
    static constexpr u64 pxn_table = bit(59), uxn_table = bit(60), no_unprivileged = bit(61), no_write = bit(62);

    ArmHalf halves[2];
    bool has_upper = false;
    u8 output_bits = 48;
    bool access_flag_faults = true;
    bool hardware_access = false;
    bool hardware_dirty = false;
    bool hardware_table_access = false;
    bool write_implies_no_execute = false;
    bool privileged_access_never = false;
    bool single_privilege = false;
    bool large_52 = false;
    bool swapped = false;

    constexpr bool big_endian() const { return swapped; }
    constexpr const ArmHalf& half(const WalkState& state) const { return halves[state.half]; }
    constexpr ArmGeometry geometry(const ArmHalf& half) const { return {half.granule_lg2, output_bits, large_52}; }

    constexpr Begin begin(u64 input, WalkState& state, u8 access) const {
        state.half = has_upper && (input & bit(55));
        const ArmHalf& h = half(state);
        const ArmGeometry g = geometry(h);
        const unsigned top = (h.input_bits - g.granule_lg2 + g.stride() - 1) / g.stride() - 1;
        const u64 checked = bits(h.top_byte_ignore ? 55 : 63, h.input_bits);
        const bool fits = (input & checked) == (state.half ? checked : 0);
        const bool closed = h.walks_disabled || (h.unprivileged_disabled && !(access & access::privileged));
        return {h.table, static_cast<u8>(top), fits && !closed ? FaultKind::none : FaultKind::input_size};
    }
    constexpr unsigned span_lg2(unsigned level, const WalkState& state) const {
        return geometry(half(state)).span_lg2(level);
    }
    constexpr u64 entry_address(u64 table, u64 input, unsigned level, const WalkState& state) const {
        const ArmHalf& h = half(state);
        const ArmGeometry g = geometry(h);
        return g.entry_address(table, input, level, std::min(g.stride(), h.input_bits - g.span_lg2(level)));
    }

    constexpr Step step(u64 raw, u64, unsigned level, WalkState& state, u8 access) const {
        const ArmHalf& h = half(state);
        const bool table_access = hardware_access && hardware_table_access;
        Step step;
        if (geometry(h).settle(raw, level, table_access ? ArmGeometry::af : 0, step)) {
            if (step.verdict == Step::Verdict::table && !h.ignore_hierarchical) inherit(raw, state);
            return step;
        }
        if (!(raw & ArmGeometry::af)) {
            if (hardware_access)
                step.updated |= ArmGeometry::af;
            else if (access_flag_faults)
                return Step::refuse(FaultKind::access_flag);
        }
        const bool writable_clean =
            hardware_access && hardware_dirty && (raw & ArmGeometry::dbm) && (raw & ap_read_only);
        state.rights = leaf_rights(raw, writable_clean, state.rights);
        // E0PD binds whoever finds this page in a cache, too.
        if (h.unprivileged_disabled) state.rights = state.rights & Rights(0, access::wants);
        if (const u8 missing = state.rights.missing(access)) return Step::refuse(FaultKind::permission, missing);
        if (writable_clean && (access & access::write))
            step.updated &= ~ap_read_only;
        else
            step.clean = writable_clean;
        return step;
    }

    constexpr PlainInput plain_input() const {
        const ArmHalf& h = halves[0];
        if (h.walks_disabled || h.unprivileged_disabled) return PlainInput::none();
        return {0, bits(h.top_byte_ignore ? 55 : 63, h.input_bits) | (has_upper ? bit(55) : 0)};
    }

    constexpr PlainTable plain_table(unsigned, const WalkState& state) const {
        const ArmHalf& h = half(state);
        return geometry(h).plain_table(hardware_access && hardware_table_access ? ArmGeometry::af : 0,
                                       h.ignore_hierarchical ? 0 : no_write | no_unprivileged | uxn_table | pxn_table);
    }

    constexpr PlainLeaf plain_leaf(u64, unsigned level, const WalkState& state) const {
        return geometry(half(state)).plain_leaf(level);
    }

    constexpr u8 attrs(u64 raw, unsigned, const WalkState& state) const {
        return static_cast<u8>(((raw >> 2) & 7) | geometry(half(state)).shareability(raw) << 3 | ((raw >> 5) & 1) << 5 |
                               ((raw >> 11) & 1) << 6 | ((raw >> 52) & 1) << 7);
    }
    static constexpr bool global(u64 raw) { return !(raw & ng); }
    // Writable-dirty: DBM, and writable. Writable-clean is the same page once it is read-only.
    static constexpr bool dirty(u64 raw) { return (raw & ArmGeometry::dbm) && !(raw & ap_read_only); }
    static constexpr u64 cleaned(u64 raw) { return raw | ap_read_only; }

private:
    // APTable, UXNTable, PXNTable take rights away from all that lies beneath.
    constexpr void inherit(u64 raw, WalkState& state) const {
        using namespace access;
        u8 user = 7, privileged = 7;
        if (raw & no_write) user &= ~write, privileged &= ~write;
        if ((raw & no_unprivileged) && !single_privilege) user &= ~(read | write);
        if (raw & uxn_table) user &= ~execute;
        if (raw & (single_privilege ? uxn_table : pxn_table)) privileged &= ~execute;
        state.rights = state.rights & Rights(user, privileged);
    }

    constexpr Rights leaf_rights(u64 raw, bool writable_clean, Rights inherited) const {
        using namespace access;
        const u8 data = static_cast<u8>((raw & ap_read_only) && !writable_clean ? read : read | write);
        u8 user = (single_privilege || (raw & ap_unprivileged) ? data : 0) & inherited.unprivileged();
        u8 privileged = data & inherited.privileged();
        const u64 privileged_xn = single_privilege ? uxn : pxn;
        bool user_x = !(raw & uxn) && (inherited.unprivileged() & execute);
        bool privileged_x = !(raw & privileged_xn) && (inherited.privileged() & execute);
        if (write_implies_no_execute) user_x &= !(user & write), privileged_x &= !(privileged & write);
        if (!single_privilege && (user & write)) privileged_x = false;
        if (privileged_access_never && !single_privilege && (user & (read | write))) privileged = 0;
        if (user_x) user |= execute;
        if (privileged_x) privileged |= execute;
        return {user, privileged};
    }
};

struct ArmStage2 : FormatDefaults {
    bool operator==(const ArmStage2&) const = default;

    static constexpr const char* name = "ArmStage2";
    static constexpr u64 s2ap_read = bit(6), s2ap_write = bit(7);

    u64 table = 0;
    u8 input_bits = 48;
    u8 granule_lg2 = 12;
    u8 top_level = 3;
    u8 output_bits = 48;
    bool access_flag_faults = true;
    bool hardware_access = false;
    bool hardware_dirty = false;
    bool execute_never_extended = false;
    bool forced_write_back = false;
    bool protect_table_walk = false;
    bool large_52 = false;
    bool swapped = false;

    constexpr bool big_endian() const { return swapped; }
    constexpr ArmGeometry geometry() const { return {granule_lg2, output_bits, large_52}; }

    constexpr Begin begin(u64 input, WalkState&, u8) const {
        return {table, top_level, input & ~below(input_bits) ? FaultKind::input_size : FaultKind::none};
    }
    constexpr unsigned span_lg2(unsigned level, const WalkState&) const { return geometry().span_lg2(level); }
    constexpr u64 entry_address(u64 table_address, u64 input, unsigned level, const WalkState&) const {
        const ArmGeometry g = geometry();
        // The start table may be up to 16 concatenated ones.
        const unsigned index_bits = level == top_level ? input_bits - g.span_lg2(level) : g.stride();
        return g.entry_address(table_address, input, level, index_bits);
    }

    constexpr Step step(u64 raw, u64, unsigned level, WalkState& state, u8 access) const {
        Step step;
        if (geometry().settle(raw, level, 0, step)) return step;
        if (!(raw & ArmGeometry::af)) {
            if (hardware_access)
                step.updated |= ArmGeometry::af;
            else if (access_flag_faults)
                return Step::refuse(FaultKind::access_flag);
        }
        const bool writable_clean =
            hardware_access && hardware_dirty && (raw & ArmGeometry::dbm) && !(raw & s2ap_write);
        state.rights = leaf_rights(raw, writable_clean);
        const u8 missing = state.rights.missing(access);
        if (missing) return Step::refuse(FaultKind::permission, missing);
        if ((access & access::table_fetch) && protect_table_walk && device(raw))
            return Step::refuse(FaultKind::permission, access & access::wants);
        if (writable_clean && (access & access::write))
            step.updated |= s2ap_write;
        else
            step.clean = writable_clean;
        return step;
    }

    constexpr PlainInput plain_input() const { return PlainInput::below_bit(input_bits); }

    constexpr PlainTable plain_table(unsigned, const WalkState&) const { return geometry().plain_table(0, 0); }

    constexpr PlainLeaf plain_leaf(u64, unsigned level, const WalkState&) const { return geometry().plain_leaf(level); }

    constexpr u8 attrs(u64 raw, unsigned, const WalkState&) const {
        return static_cast<u8>(((raw >> 2) & 15) | geometry().shareability(raw) << 4 | ((raw >> 52) & 1) << 7);
    }
    static constexpr bool dirty(u64 raw) { return (raw & ArmGeometry::dbm) && (raw & s2ap_write); }
    static constexpr u64 cleaned(u64 raw) { return raw & ~s2ap_write; }

private:
    constexpr Rights leaf_rights(u64 raw, bool writable_clean) const {
        using namespace access;
        u8 data = 0;
        if (raw & s2ap_read) data |= read;
        if ((raw & s2ap_write) || writable_clean) data |= write;
        const unsigned xn = (raw >> 53) & 3;
        // XN[1] alone decides without XNX; with it 1 means "unprivileged only" and 3 "privileged only".
        const bool user_x = execute_never_extended ? xn < 2 : !(xn & 2);
        const bool privileged_x = execute_never_extended ? xn == 0 || xn == 3 : !(xn & 2);
        return {static_cast<u8>(data | (user_x ? execute : 0)), static_cast<u8>(data | (privileged_x ? execute : 0))};
    }
    // FWB keeps only "force Device" (MemAttr 001) as Device; otherwise MemAttr[3:2] = 0 is Device.
    constexpr bool device(u64 raw) const {
        const unsigned mem_attr = (raw >> 2) & 15;
        return forced_write_back ? (mem_attr & 7) < 4 : mem_attr < 4;
    }
};

static_assert(Format<ArmStage1> && Format<ArmStage2>);

}  // namespace viommu::fmt
