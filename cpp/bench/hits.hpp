// Translations that the IOTLB answers.
#pragma once

#include "bare_tlb.hpp"
#include "world.hpp"

namespace viommu::bench {

// So many pages are in a cache of twice as many slots.
struct Hits {
    explicit Hits(std::size_t pages)
        : tables(pages),
          engine(tables.ram.memory, test::x86_at(tables.tables.root()), NoStage{}, IotlbGeometry{.entries = 2 * pages}),
          bare(2 * pages),
          out(std::max(pages, rows_of_a_batch)) {
        engine.ask_for(shuffled(engine.cached(tables.iovas())));
        engine.check(place_of);
        for (const u64 iova : tables.iovas()) bare.insert(iova >> 12, iova);
    }

    SingleStage tables;
    Engine engine;
    BareTlb bare;
    HugeVector<u64> out;
};

inline Paths hits(std::size_t pages) {
    const auto w = std::make_shared<Hits>(pages);
    const auto bare = [w] {
        u64 sum = 0;
        for (const u64 iova : w->engine.iovas()) {
            u64 pa = 0;
            w->bare.find(iova, pa);
            sum += pa;
        }
        sink = sum;
        return w->engine.iovas().size();
    };
    const auto bare_batch = [w] {
        w->bare.find_all(w->engine.iovas(), w->out.data());
        return w->engine.iovas().size();
    };
    return {{"bare probe", bare},
            {"scalar hit, C++", [w] { return w->engine.one_by_one(); }},
            {"bare probes, batch", bare_batch},
            {"batch of hits, C++", [w] { return w->engine.batch(); }}};
}

}  // namespace viommu::bench
