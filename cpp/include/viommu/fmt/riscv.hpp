// RISC-V Sv39/48/57 and Sv39x4/48x4/57x4, with Svnapot and Svpbmt (privileged specification, "Supervisor-Level ISA").
#pragma once

#include "viommu/format.hpp"

namespace viommu::fmt {

struct Riscv : FormatDefaults {
    bool operator==(const Riscv&) const = default;

    static constexpr const char* name = "Riscv";
    static constexpr u64 v = bit(0), r = bit(1), w = bit(2), x = bit(3), u = bit(4), g = bit(5), a = bit(6), d = bit(7);
    static constexpr u64 ppn = bits(53, 10), always_reserved = bits(58, 54), rsw_high = bits(60, 59),
                         pbmt = bits(62, 61), napot = bit(63);
    static constexpr unsigned napot_lg2 = 16;

    u64 table = 0;
    u8 levels = 4;
    bool guest_stage = false;
    bool hardware_update = false;
    bool svpbmt = false;
    bool svnapot = true;
    bool svrsw60t59b = false;  // bits 60:59 are software's
    bool supervisor_user_access = false;
    u8 output_bits = 56;
    bool swapped = false;

    constexpr bool big_endian() const { return swapped; }

    constexpr Begin begin(u64 input, WalkState&, u8) const {
        const unsigned width = 12 + 9 * levels;
        const bool fits = guest_stage ? !(input >> (width + 2)) : sign_extended(input, width - 1);
        return {table, static_cast<u8>(levels - 1), fits ? FaultKind::none : FaultKind::input_size};
    }
    static constexpr unsigned span_lg2(unsigned level, const WalkState&) { return 12 + 9 * level; }
    constexpr u64 entry_address(u64 table_address, u64 input, unsigned level, const WalkState&) const {
        // The root of a guest stage is four pages long.
        const unsigned index_bits = guest_stage && level == levels - 1u ? 11 : 9;
        return table_address | ((input >> (12 + 9 * level)) & below(index_bits)) << 3;
    }

    constexpr Step step(u64 raw, u64, unsigned level, WalkState& state, u8 access) const {
        using namespace viommu::access;
        if (!(raw & v) || ((raw & w) && !(raw & r)) || (raw & reserved())) return Step::refuse(FaultKind::translation);
        const bool leaf = raw & (r | x);
        const unsigned lg2 = raw & napot ? napot_lg2 : 12 + 9 * level;
        if (leaf ? !leaf_encoding(raw, level) : !table_encoding(raw, level))
            return Step::refuse(FaultKind::translation);
        const u64 address = (raw & ppn) << 2;
        const bool too_wide = address & ~below(output_bits);
        if (!leaf) return too_wide ? Step::refuse(FaultKind::address_size) : Step::table_at(address, level - 1, raw);

        state.rights = rights(raw);
        if (const u8 missing = state.rights.missing(access))
            return Step::refuse(FaultKind::permission, missing | (privilege_refuses(raw, access) ? privileged : 0));
        if (!(raw & napot) && (address & below(lg2))) return Step::refuse(FaultKind::malformed);

        const u64 updated = raw | a | (access & write ? d : 0);
        if (updated != raw && !hardware_update) return Step::refuse(FaultKind::access_flag);
        // What the walk finds wrong are page faults; an output that no memory has is found by using it.
        if (too_wide) return Step::refuse(FaultKind::address_size);
        return Step::leaf_of(address & ~below(lg2), lg2, updated, !(updated & d));
    }

    constexpr PlainInput plain_input() const {
        const unsigned width = 12 + 9 * levels;
        return guest_stage ? PlainInput::below_bit(width + 2) : PlainInput::extended_from(width - 1);
    }

    constexpr PlainTable plain_table(unsigned, const WalkState&) const {
        const u64 beyond = ((ppn << 2) & ~below(output_bits)) >> 2;
        return {.mask = v | r | w | x | a | d | u | napot | pbmt | reserved() | beyond,
                .value = v,
                .address = ppn,
                .shift = 2};
    }

    // Not of NAPOT pages, whose size stands among the address bits.
    constexpr PlainLeaf plain_leaf(u64 raw, unsigned level, const WalkState&) const {
        return {.address = level == 0 && !(raw & napot) ? ppn & below(output_bits - 2) : 0, .shift = 2};
    }

    static constexpr u8 attrs(u64 raw, unsigned, const WalkState&) {
        return static_cast<u8>(((raw >> 61) & 3) | ((raw >> 5) & 1) << 2);
    }
    constexpr bool global(u64 raw) const { return !guest_stage && (raw & g); }

    static constexpr bool dirty(u64 raw) { return raw & d; }
    static constexpr u64 cleaned(u64 raw) { return raw & ~d; }

private:
    constexpr u64 reserved() const {
        return always_reserved | (svrsw60t59b ? 0 : rsw_high) | (svpbmt ? 0 : pbmt) | (svnapot ? 0 : napot);
    }
    static constexpr bool table_encoding(u64 raw, unsigned level) {
        return level > 0 && !(raw & (a | d | u | napot | pbmt));
    }
    static constexpr bool leaf_encoding(u64 raw, unsigned level) {
        if ((raw & pbmt) == pbmt) return false;
        return !(raw & napot) || (level == 0 && ((raw >> 10) & 15) == 8);
    }
    constexpr Rights rights(u64 raw) const {
        using namespace viommu::access;
        const u8 granted = (raw & r ? read : 0) | (raw & w ? write : 0) | (raw & x ? execute : 0);
        if (guest_stage) return Rights::both(raw & u ? granted : 0);
        if (!(raw & u)) return {0, granted};
        return {granted, static_cast<u8>(supervisor_user_access ? granted & ~execute : 0)};
    }
    constexpr bool privilege_refuses(u64 raw, u8 access) const {
        if (guest_stage) return !(raw & u);
        const bool user_page = raw & u;
        if (!(access & viommu::access::privileged)) return !user_page;
        return user_page && (!supervisor_user_access || (access & viommu::access::execute));
    }
};

static_assert(Format<Riscv>);

}  // namespace viommu::fmt
