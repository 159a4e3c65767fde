// The same pages in every format, four levels each.
#pragma once

#include "cold.hpp"

namespace viommu::bench {

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
    add("Riscv", test::layout::riscv, at(test::riscv_at), none);
    add("ArmStage2", test::layout::arm_stage2, none, at(test::arm_stage2_at));
    add("VtdSecondStage", test::layout::vtd, none, at(test::vtd_at));
    add("AmdV1", test::layout::amd, none, at(test::amd_at));
    add("Described", test::layout::x86, at(test::described_at), none);
    return paths;
}

}  // namespace viommu::bench
