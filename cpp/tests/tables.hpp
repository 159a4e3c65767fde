// Memory for tests, and tables written into it as an operating system would: by plain index arithmetic.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "viommu/context.hpp"

namespace viommu::test {

// Zeroed memory in one region; pages are handed out from its start.
class Ram {
public:
    explicit Ram(u64 start = 0x8000'0000, std::size_t size = 1 << 20) : start_(start), next_(start), words_(size / 8) {
        memory->add({start, start + size - 1, reinterpret_cast<std::byte*>(words_.data()), true, nullptr, nullptr});
    }
    Ram(const Ram&) = delete;

    u64& operator[](u64 pa) { return words_[(pa - start_) / 8]; }
    // A zeroed table, aligned to its size.
    u64 table(u64 size = 4096) {
        const u64 at = (next_ + size - 1) & ~(size - 1);
        next_ = at + size;
        return at;
    }
    const std::vector<u64>& words() const { return words_; }

    std::shared_ptr<Memory> memory = std::make_shared<Memory>();

private:
    u64 start_, next_;
    std::vector<u64> words_;
};

// How a kind of tables is written: what no format's own code has a say in.
struct Layout {
    unsigned top_level;
    u64 (*table_entry)(u64 address, unsigned level);
    u64 (*leaf_entry)(u64 address, unsigned level);
    unsigned granule_lg2 = 12;

    unsigned stride() const { return granule_lg2 - 3; }
    unsigned span_lg2(unsigned level) const { return granule_lg2 + stride() * level; }
};

namespace layout {
inline constexpr Layout x86{3, [](u64 a, unsigned) { return a | 0x07; },
                            [](u64 a, unsigned l) { return a | (l ? 0x87u : 0x07u); }};
inline constexpr Layout vtd{3, [](u64 a, unsigned) { return a | 3; },
                            [](u64 a, unsigned l) { return a | (l ? 0x83u : 3u); }};
inline constexpr Layout amd{3, [](u64 a, unsigned l) { return a | u64{3} << 61 | u64{l} << 9 | 1; },
                            [](u64 a, unsigned) { return a | u64{3} << 61 | 1; }};
inline constexpr Layout riscv{3, [](u64 a, unsigned) { return a >> 2 | 1; },
                              [](u64 a, unsigned) { return a >> 2 | 0xDF; }};
// Stage 1: AF, AP[1] (all may read and write), nG.
inline constexpr Layout arm{3, [](u64 a, unsigned) { return a | 3; },
                            [](u64 a, unsigned l) { return a | (l ? 0xC41u : 0xC43u); }};
// Stage 2: AF, S2AP read and write, normal memory.
inline constexpr Layout arm_stage2{3, [](u64 a, unsigned) { return a | 3; },
                                   [](u64 a, unsigned l) { return a | (l ? 0x4FDu : 0x4FFu); }};
}  // namespace layout

// Tables in a Ram. Those of a stage 1 behind a stage 2 may be shifted: an address in an entry is where they lie plus
// `shift`.
class Tables {
public:
    Tables(Ram& ram, const Layout& layout, u64 shift = 0, u64 root_size = 4096)
        : ram_(ram), layout_(layout), shift_(shift), root_(ram.table(root_size)) {}

    u64 root() const { return root_ + shift_; }
    // Where the entry that decides about `input` at `level` lies; makes the tables above it.
    u64 entry(u64 input, unsigned level = 0) {
        u64 table = root_;
        for (unsigned at = layout_.top_level; at > level; --at) {
            const u64 entry = table + index(input, at) * 8;
            u64& below_it = made_[entry];
            if (!below_it) {
                below_it = ram_.table(u64{1} << layout_.granule_lg2);
                ram_[entry] = layout_.table_entry(below_it + shift_, at);
            }
            table = below_it;
        }
        return table + index(input, level) * 8;
    }
    void map(u64 input, u64 to, unsigned level = 0) { ram_[entry(input, level)] = layout_.leaf_entry(to, level); }

private:
    u64 index(u64 input, unsigned level) const { return (input >> layout_.span_lg2(level)) & below(layout_.stride()); }

    Ram& ram_;
    Layout layout_;
    u64 shift_, root_;
    std::unordered_map<u64, u64> made_;  // where an entry lies -> the table it leads to
};

// One access through the tables, no cache.
inline Result walked(const Ram& ram, const Context& context, u64 iova, u8 wanted = access::read) {
    View view = ram.memory->view();
    Unobserved observer;
    Result result;
    context.walk(view, {}, iova, context.overridden(wanted), result, observer);
    return result;
}

inline fmt::X86 x86_at(u64 table) {
    fmt::X86 f;
    f.table = table;
    return f;
}
inline fmt::VtdSecondStage vtd_at(u64 table) {
    fmt::VtdSecondStage f;
    f.table = table;
    return f;
}
inline fmt::ArmStage1 arm_at(u64 table) {
    fmt::ArmStage1 f;
    f.halves[0].table = f.halves[1].table = table;
    return f;
}
inline fmt::ArmStage2 arm_stage2_at(u64 table) {
    fmt::ArmStage2 f;
    f.table = table;
    return f;
}
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

}  // namespace viommu::test
