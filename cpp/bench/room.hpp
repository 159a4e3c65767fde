// How much memory the IOTLB takes.
#pragma once

#include <unistd.h>

#include <fstream>

#include "world.hpp"

namespace viommu::bench {

inline double resident_bytes() {
    u64 all = 0, resident = 0;
    std::ifstream("/proc/self/statm") >> all >> resident;
    return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE));
}

// What this process grows by when a large IOTLB is made and every slot of it is filled.
inline double bytes_of_a_slot() {
    constexpr std::size_t slots = 4 * million, pages = 4 * slots;
    static SingleStage tables(pages);
    const auto engine_of = [](std::size_t entries) {
        return std::make_unique<Engine>(tables.ram.memory, test::x86_at(tables.tables.root()), NoStage{},
                                        IotlbGeometry{.entries = entries});
    };
    std::vector<u64> iovas = pages_from(range, million);
    Batch batch(iovas);
    engine_of(thousand)->batch(batch);  // touches all that is not the cache
    const double before = resident_bytes();
    const auto engine = engine_of(slots);
    for (std::size_t done = 0; done < pages; done += iovas.size()) {
        engine->batch(batch);
        for (u64& iova : iovas) iova += iovas.size() * 4096;
    }
    if (engine->translator().live_entries() < slots * 99 / 100) throw std::logic_error("the IOTLB is not full");
    return (resident_bytes() - before) / static_cast<double>(engine->translator().live_entries());
}

inline Paths room() {
    Path path{"IOTLB slot"};
    path.figure = [] {
        static const double bytes = bytes_of_a_slot();
        return bytes;
    };
    return {path};
}

}  // namespace viommu::bench
