// What a page-table format must answer. A format is a small immutable value; the walker (walk.hpp) knows no vendor.
#pragma once

#include <concepts>

#include "viommu/types.hpp"

namespace viommu {

// Where a walk starts.
struct Begin {
    u64 table = 0;
    u8 level = 0;
    FaultKind fault = FaultKind::none;
};

// What is gathered on the way down.
struct WalkState {
    Rights rights = Rights::all();
    u8 half = 0;  // which of two roots (Arm TTB0/TTB1)
};

// What one entry means for one access, checks in the vendor's order.
struct Step {
    enum class Verdict : u8 { table, leaf, fault };

    Verdict verdict = Verdict::fault;
    FaultKind fault = FaultKind::none;
    u8 level = 0;    // table: level of the next table
    u8 lg2 = 0;      // leaf: log2 of its size in bytes
    u8 missing = 0;  // permission fault: the rights that lack
    bool clean = false;
    u64 address = 0;  // next table, or the leaf's frame
    u64 updated = 0;  // the entry once accessed/dirty flags are set; the entry itself where nothing is to be stored

    static constexpr Step refuse(FaultKind kind, u8 missing = 0) { return {.fault = kind, .missing = missing}; }
    static constexpr Step table_at(u64 address, unsigned level, u64 updated) {
        return {.verdict = Verdict::table, .level = static_cast<u8>(level), .address = address, .updated = updated};
    }
    static constexpr Step leaf_of(u64 address, unsigned lg2, u64 updated, bool clean = false) {
        return {.verdict = Verdict::leaf,
                .lg2 = static_cast<u8>(lg2),
                .clean = clean,
                .address = address,
                .updated = updated};
    }
};

// The look of an ordinary table entry of one level: where `(raw & mask) == value`, `step` says, whatever the access and
// the rights so far: a table of the level below at `(raw & address) << shift`, the rights are as they were, and nothing
// is to be stored. Groups of walks pass such entries by without asking; an unusual one is no worse off.
struct PlainTable {
    u64 mask = 0, value = 1;  // nothing looks like this
    u64 address = 0;
    u64 shift = 0;

    constexpr bool matches(u64 raw) const { return (raw & mask) == value; }
    constexpr u64 table(u64 raw) const { return (raw & address) << shift; }
};

// The bits of a leaf that are its address and nothing else: of another that differs in these alone, `step` says the
// same but for the address, which is `(raw & address) << shift`. Groups of walks ask once for many such leaves.
struct PlainLeaf {
    u64 address = 0;
    u64 shift = 0;
};

// Inputs that `begin` has nothing against, whatever the access: where `(input + bias) & beyond` is zero. It says the
// same of each, and half 0. Groups of walks take such inputs alone.
struct PlainInput {
    u64 bias = 0, beyond = 0;
    bool any = true;

    static constexpr PlainInput below_bit(unsigned bits) { return {0, ~below(bits)}; }
    // All bits from `sign_bit` up are equal.
    static constexpr PlainInput extended_from(unsigned sign_bit) { return {bit(sign_bit), ~below(sign_bit + 1)}; }
    static constexpr PlainInput none() { return {.any = false}; }

    constexpr bool has(u64 input) const { return any && !((input + bias) & beyond); }
};

template <typename F>
concept Format = requires(const F& f, u64 raw, u64 input, unsigned level, WalkState& state, u8 access) {
    { F::name } -> std::convertible_to<const char*>;
    // Checks the input address and gives the top table.
    { f.begin(input, state, access) } -> std::same_as<Begin>;
    // log2 of what one entry of a level covers.
    { f.span_lg2(level, state) } -> std::convertible_to<unsigned>;
    { f.entry_address(u64{}, input, level, state) } -> std::same_as<u64>;
    { f.step(raw, input, level, state, access) } -> std::same_as<Step>;
    { f.plain_input() } -> std::same_as<PlainInput>;
    { f.plain_table(level, state) } -> std::same_as<PlainTable>;
    { f.plain_leaf(raw, level, state) } -> std::same_as<PlainLeaf>;
    { f.attrs(raw, level, state) } -> std::same_as<u8>;
    { f.global(raw) } -> std::same_as<bool>;
    { f.big_endian() } -> std::same_as<bool>;
    { f.updates_allowed() } -> std::same_as<bool>;
    // Dirty tracking: whether a leaf says that its page was written, and the leaf once that is forgotten.
    { f.dirty(raw) } -> std::same_as<bool>;
    { f.cleaned(raw) } -> std::same_as<u64>;
};

// Answers that most formats share.
struct FormatDefaults {
    static constexpr bool has_halves = false;  // WalkState::half is always 0
    bool operator==(const FormatDefaults&) const = default;
    static constexpr bool global(u64) { return false; }
    static constexpr bool big_endian() { return false; }
    static constexpr bool updates_allowed() { return true; }
};

// Whether all bits of `input` from 63 down to `sign_bit` are equal.
constexpr bool sign_extended(u64 input, unsigned sign_bit) {
    const auto high = static_cast<std::int64_t>(input) >> sign_bit;
    return high == 0 || high == -1;
}

// Index arithmetic of tables with 512 entries of 8 bytes in 4 KiB.
struct NineBitLevels {
    bool operator==(const NineBitLevels&) const = default;
    static constexpr unsigned span_lg2(unsigned level, const WalkState&) { return 12 + 9 * level; }
    static constexpr u64 entry_address(u64 table, u64 input, unsigned level, const WalkState&) {
        return table | ((input >> (12 + 9 * level)) & 0x1FF) << 3;
    }
};

}  // namespace viommu
