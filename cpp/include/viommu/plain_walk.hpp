// Ordinary walks of one context, many at once and level by level: tight loops over a `PlainStage`'s numbers.
//
// Rows are taken from the first on, as long as they are ordinary and alike: of one depth, through tables with nothing
// special to them, to leaves of few kinds. What is left is for others to walk. An entry that all rows go through is
// read once for all.
#pragma once

#include "viommu/memory.hpp"
#include "viommu/plain_stage.hpp"
#include "viommu/walk_cache.hpp"
#include "viommu/walk_group.hpp"

namespace viommu {

// Every bit that two of some words differ in.
inline u64 differing(const u64* words, unsigned count) {
    const u64 first = words[0];
    u64 differ = 0;
    for (unsigned k = 1; k < count; ++k) differ |= words[k] ^ first;
    return differ;
}

// Entries at physical addresses.
struct AtOnce {
    static constexpr u32 loads = 0, resumes = 0;
    unsigned operator()(u64*, unsigned count, u64) const { return count; }
};

class PlainStageWalk {
public:
    static constexpr unsigned most = GroupRows::most;

    u64 address[most];  // what the rows came to
    u32 loads = 0;      // of each row
    u32 resumes = 0;    // of each row: walks that a walk cache let begin lower
    u8 lg2 = 0;
    bool one_kind = true;  // of leaf, for all
    // Of a row's leaf, in `LeafKinds`.
    unsigned kind(unsigned k) const { return kind_[one_kind ? 0 : k]; }

    // Walks the first rows of some; gives how many. `differ` has each bit that two inputs differ in.
    // `ask(raw, input, level, access, kind)` asks what a leaf is. `locate(addresses, count, apart)` turns entries'
    // addresses into where they really lie, for the first rows of some; gives how many.
    template <typename Ask, typename Locate>
    unsigned walk(const PlainStage& stage, const WalkCache::Scope& cache, LeafKinds& kinds, View& memory,
                  const u64* inputs, unsigned count, u64 differ, u8 access, Ask&& ask, Locate&& locate) {
        loads = resumes = 0;
        if (!count || !stage.takes(inputs, count, differ)) return 0;
        unsigned level = stage.top;
        count = cache ? walk_kept(stage, cache, memory, inputs, count, level, locate)
                      : walk_down(stage, memory, inputs, count, differ, level, locate);
        return count ? arrive(kinds, inputs, count, level, access, ask) : 0;
    }

    // Leaves out the rows from the first on whose page meets a range. `other_lg2`: the other stage's page.
    template <typename Range> unsigned allowed(const Range* blocked, unsigned count, u8 other_lg2) const {
        if (!blocked) return count;
        for (unsigned k = 0; k < count; ++k)
            if (blocked->meets_page(address[k], std::min(lg2, other_lg2))) return k;
        return count;
    }

private:
    // Reads the entries where walks end, and gives at which level. An entry that all rows go through is read once.
    template <typename Locate>
    unsigned walk_down(const PlainStage& stage, View& memory, const u64* inputs, unsigned count, u64 differ,
                       unsigned& level, Locate&& locate) {
        u64 table = stage.root;
        for (; level && !(differ >> stage.levels[level].shift & stage.levels[level].index); --level) {
            const PlainStage::Level& at = stage.levels[level];
            address[0] = table + (inputs[0] >> at.shift & at.index);
            if (!read(memory, 1, 0, locate)) return 0;
            if (!at.table.matches(raw_[0])) {
                std::fill_n(raw_ + 1, count - 1, raw_[0]);
                return count;
            }
            table = at.table.table(raw_[0]);
        }
        const PlainStage::Level& first = stage.levels[level];
        for (unsigned k = 0; k < count; ++k) address[k] = table;
        enter(first, inputs, address, count);
        for (u64 apart = differ >> first.shift & first.index;; --level, apart = unknown) {
            count = read(memory, count, apart, locate);
            if (!level || !count) return count;
            const PlainTable plain = stage.levels[level].table;
            if (pass(plain, stage.levels[level - 1], raw_, inputs, address, count)) [[likely]]
                continue;
            const bool tables = plain.matches(raw_[0]);
            count = leading(count, [&](unsigned k) { return plain.matches(raw_[k]) == tables; });
            if (!tables) return count;
        }
    }
    // The same where the tables that leaves lie in are kept in a walk cache, for all rows at the lowest level that
    // holds one for the first. (An entry that leads to a table is no leaf: its row is left out.)
    template <typename Locate>
    unsigned walk_kept(const PlainStage& stage, const WalkCache::Scope& cache, View& memory, const u64* inputs,
                       unsigned count, unsigned& level, Locate&& locate) {
        for (unsigned lower = 0;; ++lower) {
            if (lower == stage.top) return 0;
            const WalkCache::Probe probe = cache.probe(lower, stage.levels[lower + 1].shift + 3);
            if (!probe.find(inputs[0], address[0])) {
                count = leading(count, [&](unsigned k) { return !probe.find(inputs[k], address[k]); });
                continue;
            }
            count = leading(count, [&](unsigned k) { return probe.find(inputs[k], address[k]); });
            level = lower;
            break;
        }
        enter(stage.levels[level], inputs, address, count);
        ++resumes;
        return read(memory, count, unknown, locate);
    }
    static constexpr u64 unknown = ~u64{0};

    // How many rows, from the first on, are so.
    template <typename Is> static unsigned leading(unsigned count, Is&& is) {
        unsigned k = 0;
        while (k < count && is(k)) ++k;
        return k;
    }
    // Reads the entries at `address`; `apart` is what these differ in.
    template <typename Locate> unsigned read(View& memory, unsigned count, u64 apart, Locate&& locate) {
        count = load(memory, locate(address, count, apart));
        loads += 1 + locate.loads;
        resumes += locate.resumes;
        return count;
    }
    // From where tables lie to where their entries do.
    static void enter(const PlainStage::Level level, const u64* __restrict inputs, u64* __restrict address,
                      unsigned count) {
        for (unsigned k = 0; k < count; ++k) address[k] += inputs[k] >> level.shift & level.index;
    }
    // Whether all entries are ordinary, and lead to tables: where the entries of those lie.
    static bool pass(const PlainTable plain, const PlainStage::Level next, const u64* __restrict raw,
                     const u64* __restrict inputs, u64* __restrict address, unsigned count) {
        u64 unlike = 0;
        for (unsigned k = 0; k < count; ++k) {
            unlike |= (raw[k] ^ plain.value) & plain.mask;
            address[k] = ((raw[k] & plain.address) << plain.shift) + (inputs[k] >> next.shift & next.index);
        }
        return !unlike;
    }
    // Where leaves lead; gives the bits that are not as in leaves of a kind.
    static u64 leave(const LeafKind kind, const u64* __restrict raw, const u64* __restrict inputs,
                     u64* __restrict address, unsigned count) {
        const u64 inside = below(kind.lg2);
        u64 unlike = 0;
        for (unsigned k = 0; k < count; ++k) {
            unlike |= kind.differs(raw[k]);
            address[k] = kind.fixed | (raw[k] & kind.plain.address) << kind.plain.shift | (inputs[k] & inside);
        }
        return unlike;
    }
    // Reads that depend on nothing overlap.
    unsigned load(View& memory, unsigned count) {
        const View::Run run = memory.run();
        const u64* const from = address;
        u64* const to = raw_;
        for (unsigned k = 0; k < count; ++k) {
            u64 value;
            if (!run.load(from[k], value)) [[unlikely]] {
                u64 elsewhere;
                if (!memory.load_plain(from[k], elsewhere)) return k;
                value = elsewhere;
            }
            to[k] = value;
        }
        return count;
    }
    template <typename Ask>
    unsigned arrive(LeafKinds& kinds, const u64* inputs, unsigned count, unsigned level, u8 access, Ask&& ask) {
        const auto find = [&](unsigned k) {
            return kinds.find(raw_[k], level, access,
                              [&](LeafKind& kind) { return ask(raw_[k], inputs[k], level, access, kind); });
        };
        const unsigned first = find(0);
        if (first == LeafKinds::none) return 0;
        const LeafKind all = kinds[first];
        kind_[0] = static_cast<u8>(first);
        one_kind = true;
        lg2 = all.lg2;
        if (!leave(all, raw_, inputs, address, count)) [[likely]]
            return count;
        one_kind = false;
        for (unsigned k = 1; k < count; ++k) {
            const unsigned found = find(k);
            if (found == LeafKinds::none || kinds[found].lg2 != lg2) return k;
            kind_[k] = static_cast<u8>(found);
            address[k] = kinds[found].address(raw_[k], inputs[k]);
        }
        return count;
    }

    u64 raw_[most];
    u8 kind_[most];
};

// Entries of stage 1 that stage 2 leads to.
template <typename Ask> class BehindStage {
public:
    u32 loads = 0, resumes = 0;  // of each entry of the last call

    BehindStage(const PlainStage& stage, const WalkCache::Scope& cache, LeafKinds& kinds, View& memory, Ask ask)
        : stage_(stage), cache_(cache), kinds_(kinds), memory_(memory), ask_(ask) {}

    // `apart`: what the addresses differ in; all ones: who knows.
    unsigned operator()(u64* addresses, unsigned count, u64 apart) {
        if (apart == ~u64{0}) apart = differing(addresses, count);
        count = walk_.walk(stage_, cache_, kinds_, memory_, addresses, count, apart,
                           static_cast<u8>(access::read | access::table_fetch), ask_, AtOnce{});
        loads = walk_.loads;
        resumes = walk_.resumes;
        std::copy_n(walk_.address, count, addresses);
        return count;
    }

private:
    const PlainStage& stage_;
    const WalkCache::Scope& cache_;
    LeafKinds& kinds_;
    View& memory_;
    Ask ask_;
    PlainStageWalk walk_;
};

// What a walk of some row comes to, but for its addresses.
struct PlainLeafOf {
    PackedFacts facts;
    u8 lg2 = 0;
    bool global = false;
};

// Rows of one context and access that are walked together, and what came of the first of them.
struct PlainRows {
    static constexpr unsigned most = GroupRows::most;

    // What is asked, and which rows of a group they are.
    unsigned count = 0;
    u8 access = 0;
    u64 differ = 0;  // has every bit that two inputs differ in
    u64 input[most];
    u32 row[most];

    // What came of it.
    unsigned walked = 0;  // so many, from the first on
    u32 loads = 0;        // of each
    u32 resumes = 0;      // the same
    bool one_leaf = true;
    PlainLeafOf leaves[LeafKinds::most * LeafKinds::most];  // those that some row has
    PlainStageWalk first, second;
    const u64 *pa = nullptr, *ipa = nullptr;

    unsigned leaf_of(unsigned k) const { return leaf_[one_leaf ? 0 : k]; }
    // `index_of(k)` a row's leaf stands at; `make(k)` says what it is.
    template <typename IndexOf, typename Make> void set_leaves(bool one, IndexOf&& index_of, Make&& make) {
        one_leaf = one;
        u32 made = 0;
        for (unsigned k = 0, count = one ? std::min(walked, 1u) : walked; k < count; ++k) {
            const unsigned index = index_of(k);
            leaf_[k] = static_cast<u8>(index);
            if (!(made >> index & 1)) leaves[index] = make(k);
            made |= 1u << index;
        }
    }

    LeafKinds first_kinds, second_kinds, table_kinds;
    const void* context = nullptr;  // whose kinds these are

private:
    u8 leaf_[most];
};

}  // namespace viommu
