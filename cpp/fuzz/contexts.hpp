// Contexts of every pair of formats, and tables for them, from a fuzzer's input.
//
// Memory is 64 KiB at address 0 in which a few words of the input repeat, most of them as pointers into it. So every
// pointer finds a table, and tables that hold themselves are common.
#pragma once

#include "fields.hpp"
#include "viommu/context.hpp"

namespace viommu {

inline constexpr std::size_t memory_words = 8192;
inline constexpr u64 page_mask = memory_words * 8 - 4096;

inline u64 page(Fields& in) { return in.take<u16>() * u64{4096} & page_mask; }
inline u8 granule(Fields& in) { return static_cast<u8>(12 + 2 * in.within(0, 2)); }

inline fmt::ArmHalf arm_half(Fields& in) {
    const u8 lg2 = granule(in);
    return {page(in), in.within(lg2 + 1, 55), lg2, in.flag(), in.flag(), in.flag(), in.flag()};
}

inline fmt::ArmStage1 arm_stage1(Fields& in) {
    fmt::ArmStage1 f;
    f.halves[0] = arm_half(in);
    f.halves[1] = arm_half(in);
    f.output_bits = in.within(32, 56);
    for (bool* setting :
         {&f.has_upper, &f.access_flag_faults, &f.hardware_access, &f.hardware_dirty, &f.hardware_table_access,
          &f.write_implies_no_execute, &f.privileged_access_never, &f.single_privilege, &f.large_52, &f.swapped})
        *setting = in.flag();
    return f;
}

inline fmt::ArmStage2 arm_stage2(Fields& in) {
    fmt::ArmStage2 f;
    f.table = page(in);
    f.granule_lg2 = granule(in);
    f.top_level = in.within(0, f.granule_lg2 == 12 ? 4 : 3);
    const unsigned span = f.geometry().span_lg2(f.top_level);
    f.input_bits = in.within(span + 1, std::max(span + 1, std::min(span + f.geometry().stride() + 4, 56u)));
    f.output_bits = in.within(32, 56);
    for (bool* setting : {&f.access_flag_faults, &f.hardware_access, &f.hardware_dirty, &f.execute_never_extended,
                          &f.forced_write_back, &f.protect_table_walk, &f.large_52, &f.swapped})
        *setting = in.flag();
    return f;
}

inline fmt::X86 x86(Fields& in) {
    fmt::X86 f;
    f.table = page(in);
    f.levels = in.within(4, 5);
    f.output_bits = in.within(32, 52);
    for (bool* setting : {&f.sign_extended, &f.write_protect, &f.no_execute, &f.extended_accessed, &f.sets_accessed,
                          &f.sets_dirty, &f.may_update, &f.page_1g})
        *setting = in.flag();
    return f;
}

inline fmt::VtdSecondStage vtd_second_stage(Fields& in) {
    fmt::VtdSecondStage f;
    f.table = page(in);
    f.levels = in.within(3, 5);
    f.input_bits = in.within(12, 64);
    f.output_bits = in.within(32, 52);
    for (bool* setting : {&f.page_2m, &f.page_1g, &f.accessed_dirty, &f.may_update, &f.snoop_reserved,
                          &f.transient_reserved, &f.legacy_order})
        *setting = in.flag();
    return f;
}

inline fmt::AmdV1 amd_v1(Fields& in) {
    fmt::AmdV1 f;
    f.table = page(in);
    f.mode = in.within(1, 6);
    f.output_bits = in.within(32, 52);
    f.sets_accessed = in.flag();
    f.sets_dirty = in.flag();
    return f;
}

inline fmt::Riscv riscv(Fields& in, bool guest_stage) {
    fmt::Riscv f;
    f.guest_stage = guest_stage;
    f.table = page(in) & (guest_stage ? ~u64{0x3FFF} : ~u64{0});
    f.levels = in.within(3, 5);
    f.output_bits = in.within(32, 56);
    for (bool* setting :
         {&f.hardware_update, &f.svpbmt, &f.svnapot, &f.svrsw60t59b, &f.supervisor_user_access, &f.swapped})
        *setting = in.flag();
    return f;
}

inline fmt::Described described(Fields& in) {
    fmt::Described f;
    f.table = page(in);
    f.level_count = in.within(1, fmt::Described::max_levels);
    f.span[0] = in.within(3, 30);
    for (unsigned level = 0; level < f.level_count; ++level) {
        // At least one bit for each level that is still to come.
        const unsigned most = 64 - f.span[level] - (f.level_count - level - 1);
        f.span[level + 1] = static_cast<u8>(f.span[level] + in.within(1, std::min(20u, most)));
    }
    f.input_bits = in.within(f.span[0], f.span[f.level_count]);
    f.output_bits = in.within(12, 64);
    f.address_shift = in.within(0, 32);
    f.leaf_levels = in.take<u32>();
    for (u64* mask :
         {&f.address_mask, &f.present_mask, &f.leaf_mask, &f.read_mask, &f.write_mask, &f.execute_mask, &f.user_mask,
          &f.inverted_rights, &f.accessed_mask, &f.dirty_mask, &f.table_reserved, &f.leaf_reserved})
        *mask = in.take<u64>();
    f.present_value = in.take<u64>() & f.present_mask;
    f.leaf_value = in.take<u64>() & f.leaf_mask;
    f.sign_extended = in.flag();
    f.hierarchical = in.flag();
    f.swapped = in.flag();
    return f;
}

inline Stage1 stage1(Fields& in) {
    switch (in.within(0, 4)) {
    case 0: return arm_stage1(in);
    case 1: return x86(in);
    case 2: return riscv(in, false);
    case 3: return described(in);
    default: return NoStage{};
    }
}

inline Stage2 stage2(Fields& in) {
    switch (in.within(0, 5)) {
    case 0: return arm_stage2(in);
    case 1: return vtd_second_stage(in);
    case 2: return amd_v1(in);
    case 3: return riscv(in, true);
    case 4: return described(in);
    default: return NoStage{};
    }
}

inline Context context(Fields& in) {
    ContextSettings settings;
    settings.rights = in.take<u8>() & access::wants;
    settings.input_bits = in.within(12, 64);
    if (in.flag()) settings.blocked_output = AddressRange{0xFEE0'0000, 0xFEEF'FFFF};
    if (in.flag()) settings.privileged = in.flag();
    if (in.flag()) settings.instruction = in.flag();
    if (in.flag()) settings.untranslated_input = {{0x1000, 0x1FFF}};
    settings.privileged_refused = in.within(0, 15) == 15;
    Stage1 first = stage1(in);
    return {std::move(first), stage2(in), settings};
}

inline std::vector<u64> tables(Fields& in) {
    std::vector<u64> words;
    while (in.left() && words.size() < 64) {
        const u64 word = in.take<u64>();
        words.push_back(in.take<u8>() & 3 ? word & (~bits(51, 12) | page_mask) : word);
    }
    std::vector<u64> memory(memory_words);
    for (std::size_t i = 0; !words.empty() && i < memory.size(); ++i)
        memory[i] = words[i * 0x9E37'79B9 / 7 % words.size()];
    return memory;
}

}  // namespace viommu
