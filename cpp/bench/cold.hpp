// Translations that walk: the IOTLB is emptied before each batch, and holds few of its pages.
#pragma once

#include "world.hpp"

namespace viommu::bench {

inline constexpr IotlbGeometry small_iotlb{.entries = thousand};

template <typename Tables> struct Cold {
    Cold(std::size_t pages, auto first, auto second, std::size_t walk_cache_entries = 0, const auto&... more)
        : tables(pages, more...),
          engine(tables.ram.memory, first(tables), second(tables), small_iotlb, walk_cache_entries) {
        engine.ask_for(shuffled(tables.iovas()));
        engine.check([this](u64 iova) { return tables.place(iova); });
        out.resize(engine.iovas().size());
    }

    Tables tables;
    Engine engine;
    HugeVector<u64> out;
};

inline Path cold_batch(std::string name, const auto& w) {
    return {std::move(name), [w] { return w->engine.batch(); }, [w] { w->engine.translator().invalidate_all(); }};
}

inline Paths cold(std::size_t pages) {
    const auto w = std::make_shared<Cold<SingleStage>>(
        pages, [](const auto& t) { return test::x86_at(t.tables.root()); }, [](const auto&) { return NoStage{}; });
    const auto rows = [w] { return w->engine.iovas().size(); };
    const auto bare = [=, tables = w->tables.bare()] {
        tables.walk_all(w->engine.iovas(), w->out.data());
        return rows();
    };
    const auto in_turn = [=, tables = w->tables.bare()] {
        sink = tables.walk_in_turn(w->engine.iovas());
        return rows();
    };
    return {{"bare walks, interleaved", bare},
            cold_batch("cold batch, C++", w),
            {"bare walks, each after the other", in_turn}};
}

inline Paths nested(std::size_t pages) {
    const auto first = [](const auto& t) { return test::x86_at(t.first.root()); };
    const auto second = [](const auto& t) { return test::vtd_at(t.second.root()); };
    // Both have room for 4096 tables of each stage: twice as many as lead to pages.
    constexpr std::size_t spans = 4096;
    const auto off = std::make_shared<Cold<TwoStages>>(pages, first, second);
    const auto on = std::make_shared<Cold<TwoStages>>(pages, first, second, 2 * spans);
    const auto combined = std::make_shared<BareCombined>(on->tables.bare(), spans);
    const auto bare = [off, tables = off->tables.bare()] {
        tables.walk_all(off->engine.iovas(), off->out.data());
        return off->engine.iovas().size();
    };
    const auto bare_combined = [on, combined] {
        combined->walk_all(on->engine.iovas(), on->out.data());
        return on->engine.iovas().size();
    };
    // The walk cache is meant to be warm, and the IOTLB cold: a smaller IOTLB than pages, and no invalidation.
    return {{"bare nested walks, interleaved", bare},
            cold_batch("nested cold batch, C++", off),
            {"bare nested walks, combined caches", bare_combined},
            {"nested cold batch, walk caches, C++", [on] { return on->engine.batch(); }}};
}

}  // namespace viommu::bench
