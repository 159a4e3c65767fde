// How the benchmarks measure: every path once a round, in thread CPU time; round after round, so that a moment's
// disturbance meets neighbours alike. Ratios are taken within each round.
#pragma once

#include <time.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "viommu/types.hpp"

namespace viommu::bench {

inline double cpu_ns() {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

// What the compiler must not find unused.
inline volatile u64 sink;

struct Path {
    std::string name;
    std::string beside;                     // the path that it is compared with; empty: none
    std::function<std::size_t()> run;       // gives how many operations it did
    std::function<void()> prepare = [] {};  // not measured
    std::vector<double> ns = {};            // of one operation, each round
};

class Rounds {
public:
    void add(Path path) { paths_.push_back(std::move(path)); }

    // One round goes unmeasured: it warms up.
    void run(int rounds) {
        for (int round = -1; round < rounds; ++round)
            for (Path& path : paths_) {
                path.prepare();
                const double before = cpu_ns();
                const std::size_t operations = path.run();
                const double each = (cpu_ns() - before) / static_cast<double>(operations);
                if (round >= 0) path.ns.push_back(each);
            }
    }
    // One JSON object a line, as tools/bench.py reads them.
    void print() const {
        for (const Path& path : paths_) {
            const auto [least, most] = std::minmax_element(path.ns.begin(), path.ns.end());
            std::printf("{\"path\": \"%s\", \"ns\": {\"median\": %.2f, \"min\": %.2f, \"max\": %.2f}, \"ratios\": {",
                        path.name.c_str(), median(path.ns), *least, *most);
            if (!path.beside.empty()) std::printf("\"%s\": %.2f", path.beside.c_str(), median(ratios(path)));
            std::printf("}}\n");
        }
    }

private:
    static double median(std::vector<double> values) {
        const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
        std::nth_element(values.begin(), middle, values.end());
        return *middle;
    }
    std::vector<double> ratios(const Path& path) const {
        const auto other =
            std::find_if(paths_.begin(), paths_.end(), [&](const Path& p) { return p.name == path.beside; });
        if (other == paths_.end()) throw std::logic_error("no path is named " + path.beside);
        std::vector<double> out;
        for (std::size_t round = 0; round < path.ns.size(); ++round) out.push_back(path.ns[round] / other->ns[round]);
        return out;
    }

    std::vector<Path> paths_;
};

}  // namespace viommu::bench
