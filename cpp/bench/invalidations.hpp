// What it costs to forget.
#pragma once

#include "bare_tlb.hpp"
#include "world.hpp"

namespace viommu::bench {

// Full of so many pages, in twice as many slots.
struct Filled {
    explicit Filled(std::size_t pages)
        : tables(pages),
          engine(tables.ram.memory, test::x86_at(tables.tables.root()), NoStage{},
                 IotlbGeometry{.entries = 2 * pages}) {
        engine.ask_for(shuffled(tables.iovas()));
    }
    SingleStage tables;
    Engine engine;
};

inline Paths invalidations(std::vector<std::size_t> fills) {
    constexpr std::size_t times = 20'000;
    Paths paths;
    for (const std::size_t pages : fills) {
        const auto w = std::make_shared<Filled>(pages);
        const auto refill = [w] { w->engine.batch(); };
        const auto add = [&](const char* what, auto invalidate) {
            const auto run = [w, invalidate] {
                Translator& t = w->engine.translator();
                for (std::size_t i = 0; i < times; ++i) invalidate(t, w->engine.iovas()[i]);
                return times;
            };
            paths.push_back({std::string("invalidate ") + what + ", " + counted(pages) + " entries", run, refill});
        };
        add("by ASID", [](Translator& t, u64) { t.invalidate_stage1_tag(0, 0); });
        add("by VMID", [](Translator& t, u64) { t.invalidate_stage2_tag(0, false); });
        add("all", [](Translator& t, u64) { t.invalidate_all(); });
        add("by page", [](Translator& t, u64 iova) { t.invalidate_range(0, 0, iova, iova + 4095, true); });
        const auto bare = std::make_shared<BareTlb>(2 * pages);
        const auto drop = [w, bare] {
            for (std::size_t i = 0; i < times; ++i) bare->drop(w->engine.iovas()[i] >> 12);
            return times;
        };
        paths.push_back({"bare drop, " + counted(pages) + " entries", drop, [w, bare] {
                             for (std::size_t i = 0; i < times; ++i) bare->insert(w->engine.iovas()[i] >> 12, i);
                         }});
    }
    return paths;
}

}  // namespace viommu::bench
