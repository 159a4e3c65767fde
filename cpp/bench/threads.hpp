// Two threads on one engine: what a translation costs each of them.
#pragma once

#include <atomic>
#include <thread>

#include "cold.hpp"
#include "hits.hpp"

namespace viommu::bench {

// CPU time of all threads for each row; every thread has rows of its own. They start together.
class Together {
public:
    Together(Engine& engine, std::span<const u64> iovas, std::size_t threads, std::size_t times)
        : engine_(engine), times_(times) {
        for (std::size_t i = 0; i < threads; ++i)
            batches_.push_back(std::make_unique<Batch>(iovas.subspan(i * iovas.size() / 2, iovas.size() / 2)));
    }

    double run() {
        std::atomic<std::size_t> ready = 0;
        std::vector<double> ns(batches_.size());
        std::vector<std::thread> threads;
        for (std::size_t i = 0; i < batches_.size(); ++i)
            threads.emplace_back([&, i] {
                ++ready;
                while (ready != batches_.size()) std::this_thread::yield();
                const double before = cpu_ns();
                std::size_t rows = 0;
                for (std::size_t time = 0; time < times_; ++time) rows += engine_.batch(*batches_[i]);
                ns[i] = (cpu_ns() - before) / static_cast<double>(rows);
            });
        for (std::thread& thread : threads) thread.join();
        double sum = 0;
        for (const double each : ns) sum += each;
        return sum / static_cast<double>(ns.size());
    }

private:
    Engine& engine_;
    std::size_t times_;
    std::vector<std::unique_ptr<Batch>> batches_;
};

inline std::string in_words(const char* what, std::size_t threads) {
    return std::string(what) + (threads == 1 ? ", one thread" : ", two threads");
}

inline void add_threads(Paths& paths, const char* what, const auto& w, std::size_t times,
                        std::string (*name)(const char*, std::size_t) = in_words) {
    for (const std::size_t threads : {1, 2}) {
        const auto together = std::make_shared<Together>(w->engine, w->engine.iovas(), threads, times);
        Path path{name(what, threads)};
        path.figure = [w, together] {
            together->run();
            return together->run();
        };
        paths.push_back(std::move(path));
    }
}

inline Paths threads() {
    Paths paths;
    add_threads(paths, "hits, 1k pages", std::make_shared<Hits>(thousand), 32);
    const auto x86 = [](const auto& t) { return test::x86_at(t.tables.root()); };
    const auto none = [](const auto&) { return NoStage{}; };
    add_threads(paths, "walks, 16M pages", std::make_shared<Cold<SingleStage>>(many, x86, none), 1);
    return paths;
}

}  // namespace viommu::bench
