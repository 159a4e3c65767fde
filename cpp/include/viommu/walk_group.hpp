// Many walks of one context at once, level by level, so that their loads wait for memory together.
//
// The rules are the formats' own (`step`). A group answers for what is plain: every entry is present, permits the
// access, lies in this process's memory and needs no flag set. What is not plain is left to the walker (walk.hpp),
// which alone tells faults and stores flags.
#pragma once

#include "viommu/leaf_facts.hpp"
#include "viommu/walk.hpp"

namespace viommu {

// What a plain walk comes to; the names are Result's.
struct PlainWalk {
    u64 pa = 0;
    u64 ipa = 0;
    PackedFacts facts;
    u32 loads = 0;
    u8 page_lg2 = 0;
    bool global = false;
};

// Some rows out of 32.
struct GroupRows {
    static constexpr unsigned most = 32;

    unsigned count = 0;
    u32 row[most];  // (bytes, which may alias anything, would cost every loop its registers)

    void add(unsigned index) { row[count++] = index; }
};

struct WalkGroup {
    static constexpr unsigned most = GroupRows::most;

    // By row:
    u64 input[most];  // as caches know it
    u8 access[most];
    bool plain[most];  // whether `walk` has the answer
    PlainWalk walk[most];
};

// Entries at physical addresses.
struct LocateDirectly {
    void operator()(u64*, const GroupRows&) const {}
};
template <typename Locate> inline constexpr bool direct = std::is_same_v<std::remove_cvref_t<Locate>, LocateDirectly>;

// One stage of a group. What it makes of each row is in the columns.
template <Format F> class StageGroup {
public:
    StageGroup(const F& format, View& memory, const AddressRange* blocked)
        : format_(format), memory_(memory), blocked_(blocked) {}

    u64 address[GroupRows::most];
    PackedFacts facts[GroupRows::most];  // attributes stand as stage 1's
    u32 loads[GroupRows::most];
    u8 lg2[GroupRows::most];
    bool global[GroupRows::most];

    // Walks `rows`, and leaves in it those that were plain all the way. `access_of(row)`, and `other_lg2_of(row)`: the
    // other stage's page. `locate(addresses, rows)` turns entries' addresses into where they really lie, and drops the
    // rows it cannot say that of.
    template <typename AccessOf, typename OtherLg2Of, typename Locate>
    void walk(const u64* inputs, GroupRows& rows, AccessOf&& access_of, OtherLg2Of&& other_lg2_of, Locate&& locate) {
        start(inputs, rows, access_of);
        GroupRows arrived;
        for (u32 loaded = 1; rows.count; ++loaded) {
            const unsigned level = level_[rows.row[0]];
            if (direct<Locate> && alike_)
                load_level(inputs, rows, level);
            else
                load(inputs, rows, locate);
            if (alike_ && level) {
                pass(rows, level);
            } else {
                asking_ = rows;
                rows.count = 0;
            }
            for (unsigned k = 0; k < asking_.count; ++k) {
                const unsigned row = asking_.row[k];
                const Step::Verdict verdict = step(row, inputs[row], access_of(row), other_lg2_of(row));
                if (verdict == Step::Verdict::table) rows.add(row);
                if (verdict != Step::Verdict::leaf) continue;
                loads[row] = loaded;
                arrived.add(row);
            }
        }
        rows = arrived;
    }

private:
    static constexpr unsigned most_levels = 8;

    template <typename AccessOf> void start(const u64* inputs, GroupRows& rows, AccessOf&& access_of) {
        unsigned left = 0, top = 0;
        alike_ = true;
        for (unsigned k = 0; k < rows.count; ++k) {
            const unsigned row = rows.row[k];
            WalkState state;
            const Begin begin = format_.begin(inputs[row], state, access_of(row));
            loads[row] = 0;
            if (begin.fault != FaultKind::none || begin.level >= most_levels) continue;
            state_[row] = state;
            table_[row] = begin.table;
            level_[row] = begin.level;
            alike_ &= begin.level == level_[rows.row[0]];
            rows.row[left++] = row;
            top = std::max<unsigned>(top, begin.level);
        }
        rows.count = left;
        for (unsigned level = 1; level <= top; ++level) plain_[level] = format_.plain_table(level, {});
    }
    // Entries are read before any is looked at: reads that depend on nothing overlap. Rows whose entry this process has
    // no memory for are dropped.
    template <typename Locate> void load(const u64* inputs, GroupRows& rows, Locate&& locate) {
        for (unsigned k = 0; k < rows.count; ++k) {
            const unsigned row = rows.row[k];
            address[row] = format_.entry_address(table_[row], inputs[row], level_[row], state_[row]);
        }
        locate(address, rows);
        unsigned left = 0;
        for (unsigned k = 0; k < rows.count; ++k) {
            const unsigned row = rows.row[k];
            u64 raw;
            if (!memory_.load_plain(address[row], raw)) [[unlikely]]
                continue;
            raw_[row] = raw;
            rows.row[left++] = row;
        }
        rows.count = left;
        if (format_.big_endian()) swap(rows);
    }
    // The same where all are of one level, and at their addresses.
    void load_level(const u64* inputs, GroupRows& rows, unsigned level) {
        const F format = format_;
        const View::Run run = memory_.run();
        const unsigned count = rows.count;
        unsigned left = 0;
        for (unsigned k = 0; k < count; ++k) {
            const unsigned row = rows.row[k];
            const u64 at = format.entry_address(table_[row], inputs[row], level, state_of(row));
            u64 raw;
            if (!run.load(at, raw) && !memory_.load_plain(at, raw)) [[unlikely]]
                continue;
            raw_[row] = raw;
            rows.row[left++] = row;
        }
        rows.count = left;
        if (format.big_endian()) swap(rows);
    }
    void swap(const GroupRows& rows) {
        for (unsigned k = 0; k < rows.count; ++k) raw_[rows.row[k]] = __builtin_bswap64(raw_[rows.row[k]]);
    }
    // Goes on with ordinary table entries of one level, and leaves all others in `asking_`.
    void pass(GroupRows& rows, unsigned level) {
        const PlainTable plain = plain_[level];
        const unsigned count = rows.count, below_it = level - 1;
        unsigned left = 0, asking = 0;
        for (unsigned k = 0; k < count; ++k) {
            const unsigned row = rows.row[k];
            const u64 raw = raw_[row];
            if (plain.matches(raw) && !state_of(row).half) [[likely]] {
                table_[row] = plain.table(raw);
                level_[row] = below_it;
                rows.row[left++] = row;
            } else {
                asking_.row[asking++] = row;
            }
        }
        rows.count = left;
        asking_.count = asking;
    }
    WalkState state_of(unsigned row) const {
        if constexpr (F::has_halves) return state_[row];
        return {};
    }
    // Any entry: `fault` where it is not plain.
    Step::Verdict step(unsigned row, u64 input, u8 access, u8 other_lg2) {
        const u64 raw = raw_[row];
        const unsigned level = level_[row];
        WalkState state = state_[row];
        if (known_.is(raw, level, access, state)) {
            const u64 found = known_.fixed | (raw & known_.plain.address) << known_.plain.shift;
            address[row] = splice(found, input, known_.lg2);
            lg2[row] = known_.lg2;
            facts[row] = known_.facts;
            global[row] = known_.global;
            return allowed(row, other_lg2);
        }
        const WalkState before = state;
        const Step step = format_.step(raw, input, level, state, access);
        if (step.verdict == Step::Verdict::fault || step.updated != raw) return Step::Verdict::fault;
        if (step.verdict == Step::Verdict::table) {
            state_[row] = state;
            table_[row] = step.address;
            level_[row] = step.level;
            alike_ = false;
            return step.level < level ? Step::Verdict::table : Step::Verdict::fault;
        }
        address[row] = splice(step.address, input, step.lg2);
        lg2[row] = step.lg2;
        facts[row] = {state.rights, static_cast<u8>(level), format_.attrs(raw, level, state), 0, step.clean};
        global[row] = format_.global(raw);
        const PlainLeaf plain = format_.plain_leaf(raw, level, state);
        const u64 fixed = step.address & ~(plain.address << plain.shift);
        known_ = {raw, plain, fixed, facts[row], before, level, access, step.lg2, global[row]};
        return allowed(row, other_lg2);
    }
    Step::Verdict allowed(unsigned row, u8 other_lg2) const {
        const bool blocked = blocked_ && blocked_->meets_page(address[row], std::min(lg2[row], other_lg2));
        return blocked ? Step::Verdict::fault : Step::Verdict::leaf;
    }

    // The last leaf that was asked for, and what was said.
    struct Known {
        u64 raw = 0;
        PlainLeaf plain;
        u64 fixed = 0;  // the rest of its address
        PackedFacts facts;
        WalkState before;
        unsigned level = ~0u;
        u8 access = 0;
        u8 lg2 = 0;
        bool global = false;

        bool is(u64 other, unsigned at, u8 wanted, const WalkState& state) const {
            return !((other ^ raw) & ~plain.address) && at == level && wanted == access && state.half == before.half &&
                   state.rights.packed() == before.rights.packed();
        }
    };

    const F& format_;
    View& memory_;
    const AddressRange* blocked_;
    bool alike_ = true;  // all rows are at one level
    Known known_;
    PlainTable plain_[most_levels];  // of half 0
    u64 table_[GroupRows::most], raw_[GroupRows::most];
    WalkState state_[GroupRows::most];
    u32 level_[GroupRows::most];
    GroupRows asking_;  // whose entries are out of the ordinary
};

// Entries that stage 2 leads to.
template <Format S2> class LocateBehind {
public:
    LocateBehind(const S2& stage2, View& memory, u32* loads) : stage_(stage2, memory, nullptr), loads_(loads) {}

    void operator()(u64* addresses, GroupRows& rows) {
        const GroupRows asked = rows;
        stage_.walk(
            addresses, rows, [](unsigned) { return static_cast<u8>(access::read | access::table_fetch); },
            [](unsigned) { return whole_lg2; }, LocateDirectly{});
        for (unsigned k = 0; k < asked.count; ++k) loads_[asked.row[k]] += stage_.loads[asked.row[k]];
        for (unsigned k = 0; k < rows.count; ++k) addresses[rows.row[k]] = stage_.address[rows.row[k]];
    }

private:
    StageGroup<S2> stage_;
    u32* loads_;
};

}  // namespace viommu
