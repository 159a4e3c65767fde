// How cost grows, for the plots: paths are named "series @ x".
#pragma once

#include "cold.hpp"
#include "hits.hpp"
#include "threads.hpp"

namespace viommu::bench {

inline std::string at(const char* series, std::size_t x) { return std::string(series) + " @ " + std::to_string(x); }

inline void add_named(Paths& into, Paths from, std::initializer_list<std::pair<const char*, const char*>> names,
                      std::size_t x) {
    for (Path& path : from)
        for (const auto& [name, series] : names)
            if (path.name == name) {
                path.name = at(series, x);
                into.push_back(std::move(path));
                break;
            }
}

// Pages, with a cache of twice as many slots for hits, and a small one for walks.
inline Paths over_working_set() {
    Paths paths;
    for (std::size_t pages = 256; pages <= 4 * million; pages *= 4) {
        add_named(paths, hits(pages),
                  {{"bare probes, batch", "bare probes"},
                   {"scalar hit, C++", "scalar hits"},
                   {"batch of hits, C++", "batches of hits"}},
                  pages);
        if (pages < 4 * small_iotlb.entries) continue;  // else a batch comes back to what it has cached
        add_named(paths, cold(pages),
                  {{"bare walks, interleaved", "bare walks"}, {"cold batch, C++", "batches of walks"}}, pages);
        add_named(paths, nested(pages),
                  {{"bare nested walks, interleaved", "bare nested walks"},
                   {"nested cold batch, C++", "batches of nested walks"}},
                  pages);
    }
    return paths;
}

// Percent of the slots that pages are asked for: beyond 50, more and more of them find their set full.
inline Paths over_fill() {
    constexpr std::size_t slots = 64 * thousand;
    Paths paths;
    for (const std::size_t percent : {10, 25, 50, 75, 90, 100, 125, 150, 200}) {
        const std::size_t pages = slots * percent / 100;
        struct Asked {
            explicit Asked(std::size_t pages)
                : tables(pages),
                  engine(tables.ram.memory, test::x86_at(tables.tables.root()), NoStage{},
                         IotlbGeometry{.entries = slots}) {
                engine.ask_for(shuffled(tables.iovas()));
            }
            SingleStage tables;
            Engine engine;
        };
        const auto w = std::make_shared<Asked>(pages);
        paths.push_back({at("batches", percent), [w] { return w->engine.batch(); }});
    }
    return paths;
}

// VT-d second-stage tables of some depth. Fewer than four levels begin below the top table, more begin above it.
struct Deep : SingleStage {
    Deep(std::size_t count, unsigned level_count) : SingleStage(count, test::layout::vtd), levels(level_count) {}

    std::vector<u64> iovas() const { return pages_from(first(), pages); }
    u64 place(u64 iova) const { return iova - first() + data_start; }
    fmt::VtdSecondStage format() {
        fmt::VtdSecondStage f = test::vtd_at(tables.root());
        f.levels = static_cast<u8>(levels);
        if (levels == 3) f.table = ram[tables.root() + (range >> 39) * 8] & frame_mask;
        if (levels == 5) {
            f.table = ram.take(1);
            ram[f.table] = test::layout::vtd.table_entry(tables.root(), 4);
        }
        return f;
    }

    unsigned levels;

private:
    u64 first() const { return levels == 3 ? 0 : range; }
};

inline Paths over_depth(std::size_t pages) {
    Paths paths;
    for (const unsigned levels : {3, 4, 5}) {
        const auto w = std::make_shared<Cold<Deep>>(
            pages, [](const auto&) { return NoStage{}; }, [](Deep& t) { return t.format(); }, 0, levels);
        paths.push_back(cold_batch(at("walks", levels), w));
    }
    return paths;
}

inline Paths over_threads() {
    Paths paths;
    const auto x86 = [](const auto& t) { return test::x86_at(t.tables.root()); };
    const auto none = [](const auto&) { return NoStage{}; };
    add_threads(paths, "hits", std::make_shared<Hits>(thousand), 32, at);
    add_threads(paths, "walks", std::make_shared<Cold<SingleStage>>(million, x86, none), 1, at);
    return paths;
}

// Requesters that take turns at random; each has its own address space, all have the same pages.
class Streams {
public:
    explicit Streams(std::size_t count)
        : tables_(pages),
          translator_(tables_.ram.memory, std::make_shared<Iotlb>(IotlbGeometry{.entries = 64 * thousand}), count, 0),
          batch_(iovas_ = shuffled(tables_.iovas())) {
        std::mt19937_64 random(2);
        for (u32& requester : batch_.requesters()) requester = static_cast<u32>(random() % count);
        for (u32 id = 0; id < count; ++id) {
            ContextSettings settings;
            settings.stage1_tag = id;
            contexts_.push_back(
                std::make_shared<const Context>(test::x86_at(tables_.tables.root()), NoStage{}, settings));
        }
    }
    std::size_t run() {
        return batch_.run(translator_, [this](ContextKey key) { return contexts_[key.requester]; });
    }

private:
    static constexpr std::size_t pages = 8;

    SingleStage tables_;
    std::vector<ResolvedContext> contexts_;
    Translator translator_;
    std::vector<u64> iovas_;
    Batch batch_;
};

inline Paths over_streams() {
    Paths paths;
    for (std::size_t count = 1; count <= 4096; count *= 4) {
        const auto w = std::make_shared<Streams>(count);
        paths.push_back({at("batches", count), [w] { return w->run(); }});
    }
    return paths;
}

}  // namespace viommu::bench
