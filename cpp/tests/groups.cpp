// Batches go in groups, which walk ahead and fill the IOTLB in bulk. Nobody may be able to tell: twins, one asked row
// by row and one in batches, answer alike, count alike, hold the same pages, and leave the same memory.
#include <random>

#include "check.hpp"
#include "engine.hpp"

namespace viommu::test {
namespace {

using access::read, access::write;

// What is random is random in the same way for both twins.
struct Recipe {
    unsigned seed;
    IotlbGeometry geometry{.entries = 16};
    std::size_t walk_cache_entries = 0;
    bool nested = false, small_stage2 = false;
    ContextSettings settings{};
};

struct Twin {
    explicit Twin(const Recipe& r) : engine(r.geometry, r.walk_cache_entries), random(r.seed) {}

    u64 some(u64 n) { return random() % n; }

    Engine engine;
    std::mt19937_64 random;
    std::unique_ptr<Tables> first, second;
};

// Two regions of pages, far apart, and a few large pages.
constexpr u64 pages = 96;
u64 page_at(u64 index) { return (index < pages / 2 ? 0x4000'0000 : 0x7F'C000'0000) + (index << 12); }
u64 large_at(u64 index) { return 0x20'0000 * (8 + index); }

// A leaf as software may leave it: with some flag, right or bit other than its neighbours'.
void change_leaf(Twin& t, u64 input, u64 to, unsigned level, u64 interesting) {
    t.first->map(input, to, level);
    u64& entry = t.engine.ram[t.first->entry(input, level)];
    if (t.some(4) == 0) entry ^= (t.random() & t.random() & t.random()) & interesting;
    if (t.some(24) == 0) entry = 0;
}
void change_table(Twin& t, u64 input, u64 interesting) {
    u64& entry = t.engine.ram[t.first->entry(input, 1 + static_cast<unsigned>(t.some(3)))];
    entry ^= bit(static_cast<unsigned>(t.some(64))) & interesting;
}

void build(Twin& t, const Layout& layout, u64 interesting) {
    for (u64 i = 0; i < pages; ++i) change_leaf(t, page_at(i), 0x9000'0000 + (t.some(4096) << 12), 0, interesting);
    for (u64 i = 0; i < 4; ++i)
        change_leaf(t, large_at(i), 0x20'0000 * (0x500 + i), 1, layout.top_level ? interesting : 0);
}
void change(Twin& t, u64 interesting) {
    for (u64 i = t.some(6); i--;)
        change_leaf(t, page_at(t.some(pages)), 0x9000'0000 + (t.some(4096) << 12), 0, interesting);
    if (t.some(8) == 0) change_table(t, page_at(t.some(pages)), interesting);
}
void invalidate(Twin& t) {
    switch (t.some(5)) {
    case 0: return t.engine.translator.invalidate_all();
    case 1: return t.engine.translator.invalidate_stage1_tag(0, 0);
    case 2: return t.engine.translator.invalidate_range(0, 0, page_at(0), page_at(8), t.some(2));
    case 3: return t.engine.translator.invalidate_stage2_range(0, page_at(0), page_at(8), t.some(2));
    default: return;
    }
}

struct Asked {
    std::vector<u64> inputs;
    std::vector<u8> accesses;
};
Asked asked(std::mt19937_64& random) {
    Asked a;
    const u64 style = random() % 4, near = 1 + random() % pages;
    for (std::size_t row = 0, rows = 1 + random() % 200; row < rows; ++row) {
        u64 input = page_at(random() % near) | (random() & 0xFFF);
        if (style == 1 && random() % 8 == 0) input = large_at(random() % 4) | (random() & 0x1F'FFFF);
        if (random() % 512 == 0) input ^= bit(static_cast<unsigned>(random() % 64));
        a.inputs.push_back(input);
        a.accesses.push_back(style == 2 && random() % 4 == 0 ? write : style == 3 ? u8(read | write) : read);
    }
    return a;
}

void same_batch(Twin& one, Twin& many, const Asked& a, Where where) {
    const std::size_t size = a.inputs.size();
    const std::vector<u32> requesters(size);
    std::vector<u64> pa(size);
    std::vector<u8> kind(size), lg2(size), rights(size);
    Columns out{pa.data(), kind.data(), lg2.data(), rights.data(), {}};
    BatchTranslation(many.engine.translator, {requesters.data(), nullptr, a.inputs.data(), a.accesses.data(), size},
                     out)
        .run([&](ContextKey key) { return many.engine.resolve(key); });
    for (std::size_t row = 0; row < size; ++row) {
        const Result r = one.engine(0, a.inputs[row], a.accesses[row]);
        equals(kind[row], static_cast<u8>(r.kind), where);
        equals(pa[row], r.ok() ? r.pa : 0, where);
        equals(lg2[row], r.ok() ? r.page_lg2 : 0, where);
        equals(rights[row], r.ok() ? r.rights.granted(r.access) : 0, where);
    }
    const Counters b = many.engine.translator.counters(), c = one.engine.translator.counters();
    equals(b.streams.translations, c.streams.translations, where);
    equals(b.streams.lookups, c.streams.lookups, where);
    equals(b.streams.hits, c.streams.hits, where);
    equals(b.streams.walks, c.streams.walks, where);
    equals(b.streams.entry_loads, c.streams.entry_loads, where);
    equals(b.streams.all_faults(), c.streams.all_faults(), where);
    equals(b.insertions, c.insertions, where);
    equals(b.evictions, c.evictions, where);
    equals(b.walk_cache_hits, c.walk_cache_hits, where);
    equals(one.engine.translator.live_entries(), many.engine.translator.live_entries(), where);
    check(one.engine.ram.words() == many.engine.ram.words(), "memory is the same", where);
}

template <typename Stages>
void twins(const Recipe& recipe, const Layout& layout, u64 interesting, Stages&& stages, Where where) {
    Twin one(recipe), many(recipe);
    for (Twin* t : {&one, &many}) {
        if (recipe.nested) {
            t->second = std::make_unique<Tables>(t->engine.ram, layout::vtd);
            if (recipe.small_stage2)
                for (u64 page = 0; page < 256; ++page)
                    t->second->map(0x8000'0000 + page * 4096, 0x8000'0000 + page * 4096);
            else
                t->second->map(0x8000'0000, 0x8000'0000, 1);
            for (u64 page = 0; page < 4096; ++page)
                if (page % 50) t->second->map(0x9000'0000 + page * 4096, 0xA000'0000 + (page ^ 5) * 4096);
            for (u64 page = 0; page < 4; ++page)
                t->second->map(0x20'0000 * (0x500 + page), 0x20'0000 * (0x700 + page), page & 1);
        }
        t->first = std::make_unique<Tables>(t->engine.ram, layout);
        build(*t, layout, interesting);
        const auto [first, second] = stages(*t);
        t->engine.add(first, second, recipe.settings);
    }
    std::mt19937_64 random(recipe.seed + 1);
    for (int round = 0; round < 12; ++round) {
        same_batch(one, many, asked(random), where);
        for (Twin* t : {&one, &many}) {
            if (round % 3 == 2) change(*t, interesting);
            invalidate(*t);
        }
    }
    // What is still cached, and in what order it goes, shows in what hits from here on.
    for (u64 i = 0; i < pages; ++i) {
        one.engine(0, page_at(i)), many.engine(0, page_at(i));
        equals(one.engine.hits(), many.engine.hits(), where);
    }
}

using Pair = std::pair<Stage1, Stage2>;

template <typename Stages>
void all_recipes(const Layout& layout, u64 interesting, bool nested, Stages&& stages, Where where = Where::current()) {
    for (unsigned seed = 0; seed < 24; ++seed) {
        Recipe recipe{.seed = seed, .nested = nested, .small_stage2 = seed % 4 < 2};
        recipe.geometry.entries = seed % 3 ? 16 : 1024;
        recipe.walk_cache_entries = seed % 2 ? std::size_t{4} << seed % 5 : 0;
        if (seed % 7 == 6) recipe.settings.blocked_output = AddressRange{0x9000'0000, 0x9003'FFFF};
        if (seed % 11 == 10) recipe.settings.rights = read;
        twins(recipe, layout, interesting, stages, where);
    }
}

constexpr u64 x86_bits = 0x67 | bit(63), arm_bits = 0x8C1 | bits(54, 51), vtd_bits = 3 | bit(8) | bit(9);

void one_stage() {
    all_recipes(layout::x86, x86_bits, false, [](Twin& t) { return Pair{x86_at(t.first->root()), NoStage{}}; });
    all_recipes(layout::arm, arm_bits | bits(62, 59), false, [](Twin& t) {
        fmt::ArmStage1 f = arm_at(t.first->root());
        f.has_upper = f.hardware_access = f.hardware_dirty = true;
        return Pair{f, NoStage{}};
    });
    all_recipes(layout::riscv, 0xFE, false, [](Twin& t) {
        fmt::Riscv f = riscv_at(t.first->root());
        f.hardware_update = true;
        return Pair{f, NoStage{}};
    });
    all_recipes(layout::x86, x86_bits, false, [](Twin& t) { return Pair{described_at(t.first->root()), NoStage{}}; });
    all_recipes(layout::vtd, vtd_bits, false, [](Twin& t) {
        fmt::VtdSecondStage f = vtd_at(t.first->root());
        f.accessed_dirty = true;
        return Pair{NoStage{}, f};
    });
    all_recipes(layout::amd, 0x61 | bits(62, 61), false, [](Twin& t) {
        fmt::AmdV1 f = amd_at(t.first->root());
        f.sets_accessed = f.sets_dirty = true;
        return Pair{NoStage{}, f};
    });
    all_recipes(layout::arm_stage2, 0x4C0 | bits(54, 51), false, [](Twin& t) {
        fmt::ArmStage2 f = arm_stage2_at(t.first->root());
        f.hardware_access = f.hardware_dirty = true;
        return Pair{NoStage{}, f};
    });
}
void two_stages() {
    all_recipes(layout::x86, x86_bits, true,
                [](Twin& t) { return Pair{x86_at(t.first->root()), vtd_at(t.second->root())}; });
    all_recipes(layout::arm, arm_bits, true, [](Twin& t) {
        fmt::VtdSecondStage second = vtd_at(t.second->root());
        second.accessed_dirty = true;
        return Pair{arm_at(t.first->root()), second};
    });
}

}  // namespace
}  // namespace viommu::test

int main() {
    using namespace viommu::test;
    return run({
        {"groups of one stage are rows one by one", one_stage},
        {"groups of two stages are rows one by one", two_stages},
    });
}
