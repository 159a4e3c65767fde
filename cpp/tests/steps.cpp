// What one entry means, format by format, decided when this file is compiled. Entries are written as specifications
// print them; the walks are in walk.cpp.
#include "viommu/context.hpp"

namespace viommu {
namespace {

using namespace fmt;
using enum FaultKind;
using Verdict = Step::Verdict;
using access::execute, access::privileged, access::read, access::table_fetch, access::write;

constexpr u64 frame = 0x8020'0000;  // aligned to 2 MiB
constexpr u64 all_ones = ~u64{0};

template <typename F> constexpr F with(auto... changes) {
    F f;
    (changes(f), ...);
    return f;
}
template <typename F> constexpr Step step(const F& f, u64 raw, unsigned level = 0, u8 wanted = read, u64 input = 0) {
    WalkState state;
    return f.step(raw, input, level, state, wanted);
}
template <typename F> constexpr u8 rights(const F& f, u64 raw, u8 privilege = 0) {
    WalkState state;
    f.step(raw, 0, 0, state, static_cast<u8>(read | privilege));
    return state.rights.granted(privilege);
}
constexpr bool leaf(const Step& s, u64 address, unsigned lg2) {
    return s.verdict == Verdict::leaf && s.address == address && s.lg2 == lg2;
}
constexpr bool table(const Step& s, u64 address, unsigned level) {
    return s.verdict == Verdict::table && s.address == address && s.level == level;
}
constexpr bool fault(const Step& s, FaultKind kind, u8 missing = 0) {
    return s.verdict == Verdict::fault && s.fault == kind && s.missing == missing;
}
template <typename F> constexpr u64 entry(const F& f, u64 table, u64 input, unsigned level, u8 half = 0) {
    return f.entry_address(table, input, level, WalkState{.half = half});
}
template <typename F> constexpr FaultKind begins(const F& f, u64 input, u8 wanted = read) {
    WalkState state;
    return f.begin(input, state, wanted).fault;
}
template <typename F> constexpr unsigned top_level(const F& f) {
    WalkState state;
    return f.begin(0, state, read).level;
}

// Rights

static_assert(Rights::both(read | write).missing(read | write) == 0);
static_assert(Rights(read, read | write).missing(write) == write &&
              Rights(read, read | write).missing(write | privileged) == 0);
static_assert(Rights::all().without(Rights::both(write)).granted(privileged) == (read | execute));
static_assert((Rights(7, 1) & Rights(3, 3)).unprivileged() == 3 && (Rights(7, 1) & Rights(3, 3)).privileged() == 1);

// x86-64

constexpr X86 x86;
static_assert(entry(x86, 0x1000, 0x0000'7FFF'FFFF'FFFF, 3) == 0x1000 + 0xFF * 8);
static_assert(entry(x86, 0x1000, 0x0000'0080'4020'1000, 3) == 0x1008 &&
              entry(x86, 0x1000, 0x0000'0080'4020'1000, 0) == 0x1008);
static_assert(top_level(x86) == 3 && top_level(with<X86>([](X86& f) { f.levels = 5; })) == 4);
static_assert(begins(x86, 0x0000'7FFF'FFFF'FFFF) == none && begins(x86, 0xFFFF'8000'0000'0000) == none);
static_assert(begins(x86, 0x0000'8000'0000'0000) == input_size && begins(x86, 0xFFFF'7FFF'FFFF'FFFF) == input_size);
static_assert(begins(with<X86>([](X86& f) { f.sign_extended = false; }), 0xFFFF'8000'0000'0000) == input_size);

static_assert(fault(step(x86, all_ones & ~u64{1}), translation));
static_assert(table(step(x86, 0x1007, 3), 0x1000, 2) && table(step(x86, 0x1007, 1), 0x1000, 0));
static_assert(leaf(step(x86, frame | 0x7), frame, 12) && leaf(step(x86, frame | 0x87, 1), frame, 21));
static_assert(leaf(step(x86, 0x8000'0087, 2), 0x8000'0000, 30));
static_assert(fault(step(x86, frame | 0x87, 3), reserved) && fault(step(x86, frame | 0x2087, 1), reserved));
static_assert(leaf(step(x86, frame | 0x1087, 1), frame, 21));  // bit 12 of a large leaf is PAT
static_assert(fault(step(with<X86>([](X86& f) { f.page_1g = false; }), 0x8000'0087, 2), reserved));
static_assert(fault(step(with<X86>([](X86& f) { f.output_bits = 40; }), bit(40) | 7), reserved));
static_assert(fault(step(x86, frame | 0x3, 0, read), permission, privileged) &&
              leaf(step(x86, frame | 0x3, 0, read | privileged), frame, 12));
static_assert(fault(step(x86, frame | 0x5, 0, write), permission, write));
static_assert(fault(step(x86, frame | 0x5, 0, write | privileged), permission, write));
static_assert(leaf(step(with<X86>([](X86& f) { f.write_protect = false; }), frame | 0x5, 0, write | privileged), frame,
                   12));
static_assert(fault(step(x86, bit(63) | frame | 0x7, 0, execute), permission, execute));
static_assert(leaf(step(with<X86>([](X86& f) { f.no_execute = false; }), bit(63) | frame | 0x7, 0, execute), frame,
                   12));
// U/S is looked at before RW, and rights before reserved bits.
static_assert(fault(step(x86, frame | 0x1, 0, write), permission, privileged) &&
              fault(step(x86, frame | 0x2085, 1, write), permission, write));
static_assert(step(x86, frame | 0x7, 0, read).updated == (frame | 0x27) && step(x86, frame | 0x7, 0, read).clean);
static_assert(step(x86, frame | 0x7, 0, write).updated == (frame | 0x67) && !step(x86, frame | 0x7, 0, write).clean);
static_assert(step(x86, 0x1007, 3, write).updated == 0x1027);  // D is a leaf's
static_assert(step(with<X86>([](X86& f) { f.extended_accessed = true; }), 0x1007, 3).updated == 0x1427);
static_assert(step(with<X86>([](X86& f) { f.sets_accessed = f.sets_dirty = false; }), frame | 0x7, 0, write).updated ==
              (frame | 0x7));

// VT-d second stage

constexpr VtdSecondStage vtd;
static_assert(begins(vtd, bit(48)) == input_size && begins(vtd, below(48)) == none);
static_assert(begins(with<VtdSecondStage>([](VtdSecondStage& f) { f.input_bits = 39; }), bit(39)) == input_size);
static_assert(fault(step(vtd, frame | 0x80, 1), translation));  // neither R nor W: not present, whatever else is set
static_assert(table(step(vtd, 0x1001, 3), 0x1000, 2) && leaf(step(vtd, frame | 0x83, 1), frame, 21));
static_assert(fault(step(vtd, frame | 0x83, 3), reserved) && fault(step(vtd, frame | 0x1083, 1), reserved));
static_assert(fault(step(with<VtdSecondStage>([](VtdSecondStage& f) { f.page_2m = false; }), frame | 0x83, 1),
                    reserved));
static_assert(fault(step(vtd, frame | 0x1, 0, write), permission, write) &&
              table(step(vtd, 0x1001, 3, write), 0x1000, 2));
constexpr auto vtd_legacy = with<VtdSecondStage>([](VtdSecondStage& f) { f.legacy_order = true; });
static_assert(fault(step(vtd_legacy, 0x1001, 3, write), permission, write));
static_assert(leaf(step(vtd, frame | 0x1, 0, execute), frame, 12) &&
              fault(step(vtd, frame | 0x2, 0, execute), permission, execute));
constexpr auto vtd_ad = with<VtdSecondStage>([](VtdSecondStage& f) { f.accessed_dirty = true; });
static_assert(step(vtd, frame | 3, 0, write).updated == (frame | 3) && !step(vtd, frame | 3, 0, read).clean);
static_assert(step(vtd_ad, frame | 3, 0, read).updated == (frame | 0x103) && step(vtd_ad, frame | 3, 0, read).clean);
static_assert(step(vtd_ad, frame | 3, 0, write).updated == (frame | 0x303) &&
              step(vtd_ad, 0x1003, 2, write).updated == 0x1103);

// AMD v1

constexpr AmdV1 amd;
constexpr u64 amd_rw = bit(0) | bit(61) | bit(62);
constexpr u64 amd_next(unsigned n) { return u64{n} << 9; }
static_assert(top_level(with<AmdV1>([](AmdV1& f) { f.mode = 6; })) == 5 &&
              begins(with<AmdV1>([](AmdV1& f) { f.mode = 6; }), all_ones) == none);
static_assert(begins(with<AmdV1>([](AmdV1& f) { f.mode = 1; }), bit(21)) == input_size);
static_assert(fault(step(amd, frame | (amd_rw & ~bit(0))), translation));
static_assert(table(step(amd, 0x1000 | amd_rw | amd_next(3), 3), 0x1000, 2));
static_assert(table(step(amd, 0x1000 | amd_rw | amd_next(1), 3), 0x1000, 0));  // two levels skipped
static_assert(fault(step(amd, 0x1000 | amd_rw | amd_next(1), 3, read, bit(21)),
                    malformed));  // a skipped IOVA bit is set
static_assert(table(step(amd, 0x1000 | amd_rw | amd_next(1), 3, read, bit(39) | below(21)), 0x1000, 0));
static_assert(fault(step(amd, 0x1000 | amd_rw | amd_next(4), 3), malformed));  // a level that does not fall
static_assert(leaf(step(amd, frame | amd_rw, 0), frame, 12) && leaf(step(amd, frame | amd_rw, 1), frame, 21));
static_assert(leaf(step(amd, 0x8000'0000 | 0x7000 | amd_rw | amd_next(7), 0), 0x8000'0000, 16));  // 64 KiB
static_assert(leaf(step(amd, 0x8000'0000 | amd_rw | amd_next(7), 0), 0x8000'0000, 13));           // 8 KiB
static_assert(fault(step(amd, 0x8000'0000 | 0x7000 | amd_rw | amd_next(7), 1), malformed));  // smaller than its level
static_assert(fault(step(amd, 0x8000'0000 | 0xFF000 | amd_rw | amd_next(7), 0),
                    malformed));                                                // as large as the level above
static_assert(leaf(step(amd, bits(51, 12) | amd_rw | amd_next(7), 4), 0, 53));  // no clear bit below 52
static_assert(fault(step(amd, frame | amd_rw, 5), malformed));
static_assert(fault(step(amd, frame | (amd_rw & ~bit(62)), 0, write), permission, write));
static_assert(fault(step(amd, frame | bit(52) | amd_rw), reserved) &&
              fault(step(amd, 0x1000 | bit(60) | amd_rw | amd_next(3), 3), reserved));
static_assert(fault(step(with<AmdV1>([](AmdV1& f) { f.output_bits = 40; }), bit(40) | amd_rw), address_size));
static_assert(step(amd, frame | amd_rw, 0, write).updated == (frame | amd_rw) && !step(amd, frame | amd_rw).clean);
constexpr auto amd_ad = with<AmdV1>([](AmdV1& f) { f.sets_accessed = f.sets_dirty = true; });
static_assert(step(amd_ad, frame | amd_rw, 0, write).updated == (frame | amd_rw | 0x60));
static_assert(step(amd_ad, frame | amd_rw, 0, read).updated == (frame | amd_rw | 0x20) &&
              step(amd_ad, frame | amd_rw).clean);

// Arm stage 1

constexpr ArmStage1 arm = with<ArmStage1>([](ArmStage1& f) { f.has_upper = true; });
constexpr u64 arm_page = frame | bit(10) | 3;  // AF, page; AP 00: privileged read and write
static_assert(top_level(arm) == 3);
static_assert(top_level(with<ArmStage1>([](ArmStage1& f) { f.halves[0].input_bits = 25; })) == 1);
static_assert(top_level(with<ArmStage1>([](ArmStage1& f) { f.halves[0] = {.input_bits = 42, .granule_lg2 = 16}; })) ==
              1);
static_assert(begins(arm, below(48)) == none && begins(arm, ~below(48)) == none && begins(arm, bit(48)) == input_size);
static_assert(begins(arm, bit(55)) == input_size && begins(arm, 0xAA00'0000'0000'0000) == input_size);
constexpr auto arm_tbi = with<ArmStage1>([](ArmStage1& f) { f.has_upper = true, f.halves[0].top_byte_ignore = true; });
static_assert(begins(arm_tbi, 0xAA00'0000'0000'0000) == none && begins(arm_tbi, 0xAAFF'0000'0000'0000) == input_size);
static_assert(begins(with<ArmStage1>([](ArmStage1& f) { f.halves[0].walks_disabled = true; }), 0) == input_size);
constexpr auto arm_e0pd = with<ArmStage1>([](ArmStage1& f) { f.halves[0].unprivileged_disabled = true; });
static_assert(begins(arm_e0pd, 0) == input_size && begins(arm_e0pd, 0, read | privileged) == none);
static_assert(begins(with<ArmStage1>([](ArmStage1&) {}), ~below(48)) == input_size);  // there is no upper half
// A start table smaller than a page: bits above its size take part in its address.
static_assert(entry(with<ArmStage1>([](ArmStage1& f) { f.halves[0].input_bits = 41; }), 0x1040, bit(40), 3) ==
              0x1040 + 2 * 8);
static_assert(entry(arm, 0x1FFF, 0x5000, 0) == 0x1000 + 5 * 8);  // and bits below it do not
static_assert(entry(with<ArmStage1>([](ArmStage1& f) { f.halves[0] = {.input_bits = 48, .granule_lg2 = 16}; }), 0x10000,
                    0x1234'5678'0000, 0) == 0x10000 + (0x1234'5678'0000 >> 16 & 0x1FFF) * 8);

static_assert(fault(step(arm, frame | bit(10) | 2), translation) && fault(step(arm, frame | bit(10) | 1), translation));
static_assert(fault(step(arm, frame | bit(10) | 1, 3), translation) && table(step(arm, 0x1003, 3), 0x1000, 2));
static_assert(leaf(step(arm, arm_page, 0, read | privileged), frame, 12));
static_assert(leaf(step(arm, frame | bit(10) | 1, 1, read | privileged), frame, 21));
static_assert(fault(step(arm, frame | 3, 0, read | privileged), access_flag));
static_assert(fault(step(with<ArmStage1>([](ArmStage1& f) { f.output_bits = 32; }), bit(32) | 0x403), address_size));
static_assert(leaf(step(with<ArmStage1>([](ArmStage1& f) { f.access_flag_faults = false; }), frame | 3, 0,
                        read | privileged),
                   frame, 12));
constexpr auto arm_ha = with<ArmStage1>([](ArmStage1& f) { f.hardware_access = true; });
static_assert(step(arm_ha, frame | 3, 0, read | privileged).updated == (frame | 3 | bit(10)));
static_assert(step(with<ArmStage1>([](ArmStage1& f) { f.hardware_access = f.hardware_table_access = true; }), 0x1003, 3)
                  .updated == (0x1003 | bit(10)));
constexpr auto arm_hd = with<ArmStage1>([](ArmStage1& f) { f.hardware_access = f.hardware_dirty = true; });
constexpr u64 arm_clean = arm_page | bit(51) | bit(7) | bit(6);  // DBM and AP 11: writable, not yet written
static_assert(step(arm_hd, arm_clean, 0, write).updated == (arm_clean & ~bit(7)) &&
              step(arm_hd, arm_clean, 0, read).clean);
static_assert(fault(step(arm_ha, arm_clean, 0, write), permission, write));
// AP[2:1]: 00 privileged RW; 01 all RW; 10 privileged RO; 11 all RO.
static_assert(rights(arm, arm_page, privileged) == 7 && rights(arm, arm_page) == execute);
static_assert(rights(arm, arm_page | bit(6), privileged) == 3 &&
              rights(arm, arm_page | bit(6)) == 7);  // EL0 may write: EL1 may not run it
static_assert(rights(arm, arm_page | bit(7), privileged) == 5 && rights(arm, arm_page | bit(7) | bit(6)) == 5);
static_assert(rights(arm, arm_page | bit(6) | bit(54)) == 3 &&
              rights(arm, arm_page | bit(7) | bit(53), privileged) == 1);
constexpr auto arm_el2 = with<ArmStage1>([](ArmStage1& f) { f.single_privilege = true; });
static_assert(rights(arm_el2, arm_page) == 7 && rights(arm_el2, arm_page | bit(54)) == 3 &&
              rights(arm_el2, arm_page | bit(53)) == 7);
static_assert(rights(with<ArmStage1>([](ArmStage1& f) { f.write_implies_no_execute = true; }), arm_page | bit(6)) == 3);
static_assert((rights(with<ArmStage1>([](ArmStage1& f) { f.privileged_access_never = true; }), arm_page | bit(6),
                      privileged) &
               3) == 0);
static_assert(!ArmStage1::global(arm_page | bit(11)) && ArmStage1::global(arm_page));
// The 64K granule's high address bits, and DS's.
static_assert(leaf(step(with<ArmStage1>([](ArmStage1& f) { f.halves[0].granule_lg2 = 16, f.output_bits = 52; }),
                        0x8000'0000 | 0xA000 | 0x443, 0),
                   0xA'0000'8000'0000, 16));
static_assert(leaf(step(with<ArmStage1>([](ArmStage1& f) { f.large_52 = true, f.output_bits = 52; }),
                        bit(49) | frame | 0x343 | bit(10), 0),
                   0xE'0000'0000'0000 | frame, 12));

// Arm stage 2

constexpr ArmStage2 arm2;
constexpr u64 arm2_page = frame | bit(10) | 0xF << 2 | bit(6) | bit(7) | 3;
static_assert(begins(arm2, bit(48)) == input_size && begins(arm2, below(48)) == none);
// Two concatenated start tables: a 40-bit input from level 2 (Arm's level 1).
constexpr auto arm2_concatenated = with<ArmStage2>([](ArmStage2& f) { f.input_bits = 40, f.top_level = 2; });
static_assert(entry(arm2_concatenated, 0x2000, bit(39), 2) == 0x3000 &&
              entry(arm2_concatenated, 0x1000, 0, 1) == 0x1000);
static_assert(leaf(step(arm2, arm2_page, 0, read | write | execute), frame, 12));
static_assert(fault(step(arm2, arm2_page & ~bit(7), 0, write), permission, write) &&
              fault(step(arm2, arm2_page & ~bit(6)), permission, read));
static_assert(rights(arm2, arm2_page | bit(54)) == 3 && rights(arm2, arm2_page | bit(53)) == 7);
constexpr auto arm2_xnx = with<ArmStage2>([](ArmStage2& f) { f.execute_never_extended = true; });
static_assert(rights(arm2_xnx, arm2_page | bit(53)) == 7 && rights(arm2_xnx, arm2_page | bit(53), privileged) == 3);
static_assert(rights(arm2_xnx, arm2_page | 3ull << 53) == 3 &&
              rights(arm2_xnx, arm2_page | 3ull << 53, privileged) == 7);
constexpr auto arm2_ptw = with<ArmStage2>([](ArmStage2& f) { f.protect_table_walk = true; });
constexpr u64 arm2_device = arm2_page & ~(u64{0xF} << 2);
static_assert(fault(step(arm2_ptw, arm2_device, 0, read | table_fetch), permission, read) &&
              leaf(step(arm2_ptw, arm2_device), frame, 12));
static_assert(leaf(step(arm2_ptw, arm2_page, 0, read | table_fetch), frame, 12));
constexpr auto arm2_hd = with<ArmStage2>([](ArmStage2& f) { f.hardware_access = f.hardware_dirty = true; });
static_assert(step(arm2_hd, (arm2_page & ~bit(7)) | bit(51), 0, write).updated == (arm2_page | bit(51)));

// RISC-V

constexpr Riscv riscv = with<Riscv>([](Riscv& f) { f.levels = 3; });
constexpr u64 riscv_page = frame >> 2 | 0xDF;  // D A U X W R V
static_assert(begins(riscv, below(38)) == none && begins(riscv, bit(38)) == input_size &&
              begins(riscv, ~below(38)) == none);
constexpr auto guest_stage = with<Riscv>([](Riscv& f) { f.levels = 3, f.guest_stage = true; });
static_assert(begins(guest_stage, below(41)) == none && begins(guest_stage, bit(41)) == input_size);
static_assert(entry(guest_stage, 0x4000, below(41), 2) == 0x4000 + 2047 * 8 &&
              entry(guest_stage, 0x4000, below(41), 1) == 0x4000 + 511 * 8);
static_assert(leaf(step(riscv, riscv_page), frame, 12) && leaf(step(riscv, riscv_page, 1), frame, 21) &&
              table(step(riscv, 0x401, 2), 0x1000, 1));
static_assert(fault(step(riscv, riscv_page & ~u64{1}), translation) &&
              fault(step(riscv, riscv_page & ~u64{2}), translation));
static_assert(fault(step(riscv, 0x401, 0), translation) && fault(step(riscv, 0x401 | 0x40, 2), translation));
static_assert(fault(step(riscv, riscv_page | bit(54)), translation) &&
              fault(step(riscv, riscv_page | bit(61)), translation));
static_assert(fault(step(riscv, riscv_page | 0x400, 1), malformed));
static_assert(leaf(step(riscv, bit(63) | (0x8000'0000 | 0x8000) >> 2 | 0xDF), 0x8000'0000, 16));  // NAPOT, 64 KiB
static_assert(fault(step(riscv, bit(63) | (0x8000'0000 | 0x4000) >> 2 | 0xDF), translation));
static_assert(fault(step(riscv, riscv_page & ~u64{0x10}), permission, read | privileged));
static_assert(fault(step(riscv, riscv_page, 0, read | privileged), permission, read | privileged));
static_assert(leaf(step(with<Riscv>([](Riscv& f) { f.supervisor_user_access = true; }), riscv_page, 0,
                        read | privileged),
                   frame, 12));
static_assert(fault(step(guest_stage, riscv_page & ~u64{0x10}), permission, read | privileged));
static_assert(fault(step(riscv, riscv_page & ~u64{0x80}, 0, write), access_flag) &&
              step(riscv, riscv_page & ~u64{0x80}).clean);
constexpr auto riscv_adue = with<Riscv>([](Riscv& f) { f.hardware_update = true; });
static_assert(step(riscv_adue, riscv_page & ~u64{0xC0}, 0, write).updated == riscv_page);
static_assert(step(riscv_adue, riscv_page & ~u64{0xC0}, 0, read).updated == (riscv_page & ~u64{0x80}));

// Described

constexpr Described toy = with<Described>([](Described& f) {
    f.level_count = 2;
    f.span[0] = 10, f.span[1] = 14, f.span[2] = 20;
    f.input_bits = 20;
    f.address_mask = 0xFFFF'FFFF'FC00, f.present_mask = f.present_value = 1;
    f.leaf_levels = 2, f.leaf_mask = f.leaf_value = 2;
    f.read_mask = 4, f.write_mask = 8, f.inverted_rights = 8, f.dirty_mask = 0x10, f.leaf_reserved = 0x20;
});
static_assert(begins(toy, below(20)) == none && begins(toy, bit(20)) == input_size && top_level(toy) == 1);
static_assert(entry(toy, 0x1000, 0xFFC00, 1) == 0x1000 + 63 * 8 && entry(toy, 0x1000, 0xFFC00, 0) == 0x1000 + 15 * 8);
static_assert(table(step(toy, 0x1C01, 1), 0x1C00, 0) && leaf(step(toy, 0x4007, 1), 0x4000, 14) &&
              leaf(step(toy, 0x1C05, 0), 0x1C00, 10));
static_assert(fault(step(toy, 0x4407, 1), malformed) && fault(step(toy, 0x1C25, 0), reserved) &&
              fault(step(toy, 0x1C04, 0), translation));
static_assert(fault(step(toy, 0x1C01, 0), permission, read) && fault(step(toy, 0x1C0D, 0, write), permission, write));
static_assert(step(toy, 0x1C05, 0, write).updated == 0x1C15 && step(toy, 0x1C05, 0, read).clean &&
              !step(toy, 0x1C15, 0, read).clean);

}  // namespace
}  // namespace viommu

int main() {}
