// What groups of walks take for granted about ordinary entries is what `step` says of them.
#include <random>

#include "check.hpp"
#include "viommu/context.hpp"

namespace viommu::test {
namespace {

std::mt19937_64 random_bits(1);

u64 some() { return random_bits(); }
bool flip() { return some() & 1; }
unsigned within(unsigned low, unsigned high) { return low + static_cast<unsigned>(some() % (high - low + 1)); }
// Entries with few bits set, or all but a few, are as likely as any.
u64 entry() {
    switch (within(0, 3)) {
    case 0: return some() & some() & some();
    case 1: return some() | some() | some();
    default: return some();
    }
}

fmt::ArmGeometry arm_sizes() {
    static constexpr u8 granules[] = {12, 14, 16}, outputs[] = {32, 40, 44, 48, 52};
    return {granules[within(0, 2)], outputs[within(0, 4)], flip()};
}
void vary(fmt::ArmStage1& f) {
    const fmt::ArmGeometry sizes = arm_sizes();
    f.output_bits = sizes.output_bits, f.large_52 = sizes.large_52, f.has_upper = flip();
    for (fmt::ArmHalf& half : f.halves) {
        half.granule_lg2 = sizes.granule_lg2, half.ignore_hierarchical = flip();
        half.unprivileged_disabled = flip();
    }
    f.access_flag_faults = flip(), f.hardware_access = flip(), f.hardware_dirty = flip();
    f.hardware_table_access = flip(), f.write_implies_no_execute = flip(), f.privileged_access_never = flip();
    f.single_privilege = flip();
}
void vary(fmt::ArmStage2& f) {
    const fmt::ArmGeometry sizes = arm_sizes();
    f.granule_lg2 = sizes.granule_lg2, f.output_bits = sizes.output_bits, f.large_52 = sizes.large_52;
    f.access_flag_faults = flip(), f.hardware_access = flip(), f.hardware_dirty = flip();
    f.execute_never_extended = flip(), f.protect_table_walk = flip();
}
void vary(fmt::X86& f) {
    f.output_bits = static_cast<u8>(within(36, 52)), f.levels = static_cast<u8>(within(4, 5));
    f.write_protect = flip(), f.no_execute = flip(), f.extended_accessed = flip(), f.sets_accessed = flip();
    f.sets_dirty = flip(), f.page_1g = flip();
}
void vary(fmt::VtdSecondStage& f) {
    f.output_bits = static_cast<u8>(within(36, 52)), f.levels = static_cast<u8>(within(3, 5));
    f.page_2m = flip(), f.page_1g = flip(), f.accessed_dirty = flip(), f.snoop_reserved = flip();
    f.transient_reserved = flip(), f.legacy_order = flip();
}
void vary(fmt::AmdV1& f) {
    f.output_bits = static_cast<u8>(within(36, 52)), f.mode = static_cast<u8>(within(1, 6));
    f.sets_accessed = flip(), f.sets_dirty = flip();
}
void vary(fmt::Riscv& f) {
    f.output_bits = static_cast<u8>(within(36, 56)), f.levels = static_cast<u8>(within(3, 5));
    f.guest_stage = flip(), f.hardware_update = flip(), f.svpbmt = flip(), f.svnapot = flip();
    f.svrsw60t59b = flip(), f.supervisor_user_access = flip();
}
void vary(fmt::Described& f) {
    f.level_count = 4;
    for (unsigned level = 0; level <= 4; ++level) f.span[level] = static_cast<u8>(12 + 9 * level);
    f.address_shift = static_cast<u8>(within(0, 2)), f.output_bits = static_cast<u8>(within(40, 64));
    f.leaf_levels = static_cast<u32>(within(0, 15)), f.address_mask = bits(51, 12) >> f.address_shift;
    f.present_mask = flip() ? 1 : 3, f.present_value = some() & f.present_mask;
    f.leaf_mask = flip() ? 0 : (some() & 0x380), f.leaf_value = some() & f.leaf_mask;
    f.read_mask = flip() ? 4 : 0, f.write_mask = flip() ? 8 : 4, f.execute_mask = flip() ? 16 : 0;
    f.user_mask = flip() ? 32 : 0, f.inverted_rights = some() & 0x3C;
    f.accessed_mask = flip() ? bit(10) : 0, f.dirty_mask = flip() ? bit(11) : 0;
    f.table_reserved = some() & bits(62, 56), f.leaf_reserved = some() & bits(62, 56), f.hierarchical = flip();
}

WalkState some_state() { return {Rights(static_cast<u8>(some()), static_cast<u8>(some())), 0}; }
u8 some_access() { return static_cast<u8>(some() & 31); }

template <Format F> void tables() {
    unsigned held = 0;
    for (int i = 0; i < 20'000; ++i) {
        F f;
        vary(f);
        const unsigned level = within(1, 3);
        const PlainTable plain = f.plain_table(level, {});
        const u64 raw = (entry() & ~plain.mask) | plain.value;
        if (!plain.matches(raw)) continue;
        ++held;
        const WalkState before = some_state();
        WalkState state = before;
        const Step step = f.step(raw, some(), level, state, some_access());
        check(step.verdict == Step::Verdict::table && step.level == level - 1 && step.address == plain.table(raw) &&
                  step.updated == raw && state.rights.packed() == before.rights.packed() && state.half == before.half,
              F::name);
    }
    check(held > 1000, "ordinary entries are met");
}

template <Format F> void leaves() {
    unsigned held = 0;
    for (int i = 0; i < 60'000; ++i) {
        F f;
        vary(f);
        const unsigned level = within(0, 2);
        // Few leaves have reserved bits, or AMD's level field.
        const u64 raw = (entry() & below(52) & ~(flip() ? bits(11, 9) : 0)) | (flip() ? some() & bits(63, 61) : 0);
        const u64 input = some();
        const u8 access = some_access() & 1;
        const WalkState before;
        WalkState one = before, two = before;
        const Step first = f.step(raw, input, level, one, access);
        if (first.verdict != Step::Verdict::leaf) continue;
        const PlainLeaf plain = f.plain_leaf(raw, level, one);
        if (!plain.address) continue;
        ++held;
        const u64 other = raw ^ (some() & plain.address);
        const Step second = f.step(other, input, level, two, access);
        check(second.verdict == Step::Verdict::leaf && second.lg2 == first.lg2 && second.clean == first.clean &&
                  (second.updated ^ other) == (first.updated ^ raw) && two.rights.packed() == one.rights.packed(),
              F::name);
        check(splice(second.address, input, second.lg2) ==
                  splice((other & plain.address) << plain.shift, input, second.lg2),
              F::name);
        check(f.attrs(other, level, two) == f.attrs(raw, level, one) && f.global(other) == f.global(raw), F::name);
    }
    check(held > 100, F::name);
}

// Where a walk begins, and where each entry of it lies, by the numbers that groups go by and by the format.
template <Format F> void stages() {
    unsigned held = 0;
    for (int i = 0; i < 20'000; ++i) {
        F f;
        vary(f);
        if constexpr (requires { f.halves; })
            for (fmt::ArmHalf& half : f.halves)
                half.table = some() & bits(47, 16), half.input_bits = static_cast<u8>(within(32, 48));
        else
            f.table = some() & bits(47, 16);
        const PlainStage stage(f);
        if (!stage.usable) continue;
        const u64 input = flip() ? some() >> within(0, 40) : ~(some() >> within(12, 40));
        if (!stage.takes(&input, 1, 0)) continue;
        ++held;
        WalkState state;
        const Begin begin = f.begin(input, state, static_cast<u8>(some() & 15));
        check(begin.fault == FaultKind::none && begin.level == stage.top && !state.half, F::name);
        u64 table = stage.root;
        for (unsigned level = stage.top;; --level) {
            const PlainStage::Level& at = stage.levels[level];
            equals(table + (input >> at.shift & at.index),
                   f.entry_address(level == stage.top ? begin.table : table, input, level, state));
            if (!level) break;
            const PlainTable plain = f.plain_table(level, state);
            const u64 raw = (entry() & ~plain.mask) | plain.value;
            if (!plain.matches(raw)) break;
            table = at.table.table(raw);
        }
    }
    check(held > 100, F::name);
}
void inputs_apart() {
    fmt::X86 f;
    const PlainStage stage(f);
    const u64 high = ~below(47), inputs[] = {0x1000, high | 0x1000, bit(47)};
    check(stage.takes(inputs, 2, inputs[0] ^ inputs[1]), "both halves are its inputs");
    check(!stage.takes(inputs, 3, ~u64{0}), "what lies between them is not");
    check(!stage.takes(inputs + 2, 1, 0), "nor alone");
}

void ordinary_stages() {
    stages<fmt::ArmStage1>(), stages<fmt::ArmStage2>(), stages<fmt::X86>(), stages<fmt::VtdSecondStage>();
    stages<fmt::AmdV1>(), stages<fmt::Riscv>(), stages<fmt::Described>();
}
void ordinary_tables() {
    tables<fmt::ArmStage1>(), tables<fmt::ArmStage2>(), tables<fmt::X86>(), tables<fmt::VtdSecondStage>();
    tables<fmt::AmdV1>(), tables<fmt::Riscv>(), tables<fmt::Described>();
}
void ordinary_leaves() {
    leaves<fmt::ArmStage1>(), leaves<fmt::ArmStage2>(), leaves<fmt::X86>(), leaves<fmt::VtdSecondStage>();
    leaves<fmt::AmdV1>(), leaves<fmt::Riscv>(), leaves<fmt::Described>();
}

}  // namespace
}  // namespace viommu::test

int main() {
    using namespace viommu::test;
    return run({
        {"an ordinary table entry is what step says of it", ordinary_tables},
        {"entries of ordinary walks lie where the format says", ordinary_stages},
        {"inputs are taken together as they are alone", inputs_apart},
        {"leaves that differ in their address alone are told alike", ordinary_leaves},
    });
}
