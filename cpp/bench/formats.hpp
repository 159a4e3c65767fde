// The same pages in every format, four levels each.
#pragma once

#include "cold.hpp"

namespace viommu::bench {

inline fmt::Riscv riscv_at(u64 table) {
    fmt::Riscv f;
    f.table = table;
    return f;
}
inline fmt::AmdV1 amd_at(u64 table) {
    fmt::AmdV1 f;
    f.table = table;
    return f;
}
// x86's tables, told at run time.
inline fmt::Described described_at(u64 table) {
    fmt::Described f;
    f.table = table;
    f.level_count = 4;
    for (u8 level = 0; level <= 4; ++level) f.span[level] = static_cast<u8>(12 + 9 * level);
    f.input_bits = 48;
    f.address_mask = bits(51, 12);
    f.present_mask = f.present_value = 1;
    f.leaf_levels = 0b111;
    f.leaf_mask = f.leaf_value = bit(7);
    f.write_mask = 2, f.user_mask = 4, f.execute_mask = f.inverted_rights = bit(63);
    f.accessed_mask = bit(5), f.dirty_mask = bit(6);
    return f;
}

inline Paths formats(std::size_t pages) {
    Paths paths;
    const auto add = [&](const char* name, const Layout& layout, auto first, auto second) {
        const auto w = std::make_shared<Cold<SingleStage>>(pages, first, second, 0, layout);
        paths.push_back(cold_batch(name, w));
    };
    const auto none = [](const auto&) { return NoStage{}; };
    const auto at = [](auto format) { return [format](const SingleStage& t) { return format(t.tables.root()); }; };
    add("X86", test::layout::x86, at(test::x86_at), none);
    add("ArmStage1", test::layout::arm, at(test::arm_at), none);
    add("Riscv", test::layout::riscv, at(riscv_at), none);
    add("ArmStage2", test::layout::arm_stage2, none, at(test::arm_stage2_at));
    add("VtdSecondStage", test::layout::vtd, none, at(test::vtd_at));
    add("AmdV1", test::layout::amd, none, at(amd_at));
    add("Described", test::layout::x86, at(described_at), none);
    return paths;
}

}  // namespace viommu::bench
