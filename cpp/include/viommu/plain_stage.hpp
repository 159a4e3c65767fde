// A stage's tables as numbers, as far as they are ordinary: what groups of walks go by, whatever the format.
//
// The rules are the formats' own: what an ordinary table entry looks like (`plain_table`), which inputs have nothing to
// be said against (`plain_input`), and what `step` says of a leaf, asked once for all that differ in their address.
#pragma once

#include <array>

#include "viommu/format.hpp"
#include "viommu/leaf_facts.hpp"

namespace viommu {

// Leaves that differ in their address alone, for one access: what is said of them.
struct LeafKind {
    u64 raw = 0;        // one of them
    PlainLeaf plain;    // which bits are the address
    u64 fixed = 0;      // the rest of the address
    PackedFacts facts;  // attributes stand as stage 1's
    u8 level = 0;
    u8 access = 0;
    u8 lg2 = 0;
    bool global = false;

    u64 differs(u64 other) const { return (other ^ raw) & ~plain.address; }
    u64 address(u64 other, u64 input) const {
        return fixed | (other & plain.address) << plain.shift | (input & below(lg2));
    }
};

struct PlainStage {
    static constexpr unsigned most_levels = 8;

    struct Level {
        PlainTable table;  // not of level 0
        u64 index = 0;     // where an entry lies in its table: (input >> shift) & index
        unsigned shift = 0;
    };

    bool usable = false;
    u8 top = 0;
    u64 root = 0;
    PlainInput input;
    std::array<Level, most_levels> levels;

    // Whether inputs, that differ in these bits, have nothing to be said against.
    bool takes(const u64* inputs, unsigned count, u64 differ) const {
        const u64 deciding = input.beyond | input.bias;
        if (!(differ & (u64{0} - (deciding & -deciding)))) [[likely]]
            return input.has(inputs[0]);
        u64 reached = 0;
        for (unsigned k = 0; k < count; ++k) reached |= inputs[k] + input.bias;
        return !(reached & input.beyond);
    }

    PlainStage() = default;
    template <Format F> explicit PlainStage(const F& format) : input(format.plain_input()) {
        WalkState state;
        const Begin begin = format.begin(u64{0} - input.bias, state, access::read | access::privileged);
        if (!input.any || begin.fault != FaultKind::none || begin.level >= most_levels || format.big_endian() ||
            state.half)
            return;
        top = begin.level;
        root = format.entry_address(begin.table, 0, top, {});
        for (unsigned at = 0; at <= top; ++at) {
            Level& level = levels[at];
            const unsigned span = format.span_lg2(at, {});
            if (span < 3 || span >= 64) return;
            level.index = format.entry_address(0, ~u64{0}, at, {});
            level.shift = span - 3;
            if (!at) continue;
            level.table = format.plain_table(at, {});
            level.table.address &= ~(u64{7} >> level.table.shift);
        }
        usable = !(root & (levels[top].index | 7));
    }
};

// What `step` says of a leaf that is met at a level with all rights left; false where it is out of the ordinary: a
// fault, a table, a flag to be set.
template <Format F> bool ask_leaf(const F& format, u64 raw, u64 input, unsigned level, u8 access, LeafKind& kind) {
    WalkState state;
    const Step step = format.step(raw, input, level, state, access);
    if (step.verdict != Step::Verdict::leaf || step.updated != raw) return false;
    kind.raw = raw;
    kind.plain = format.plain_leaf(raw, level, state);
    kind.fixed = step.address & ~(kind.plain.address << kind.plain.shift);
    kind.facts = {state.rights, static_cast<u8>(level), format.attrs(raw, level, state), 0, step.clean};
    kind.level = static_cast<u8>(level);
    kind.access = access;
    kind.lg2 = step.lg2;
    kind.global = format.global(raw);
    return true;
}

// The kinds of leaves that a stage was seen to have lately.
class LeafKinds {
public:
    static constexpr unsigned most = 4, none = most;

    const LeafKind& operator[](unsigned index) const { return kinds_[index]; }
    // Where the kind of a leaf is; `none`. `ask(kind)` asks for one that was not met before.
    template <typename Ask> unsigned find(u64 raw, unsigned level, u8 access, Ask&& ask) {
        for (unsigned index = 0; index < count_; ++index) {
            const LeafKind& kind = kinds_[index];
            if (!kind.differs(raw) && kind.level == level && kind.access == access) return index;
        }
        if (count_ == most || !ask(kinds_[count_])) return none;
        return count_++;
    }
    // Makes room, where there is little: between groups, which know kinds by where they are.
    void settle() {
        if (count_ > most / 2) count_ = 0;
    }
    void clear() { count_ = 0; }

private:
    std::array<LeafKind, most> kinds_;
    unsigned count_ = 0;
};

}  // namespace viommu
