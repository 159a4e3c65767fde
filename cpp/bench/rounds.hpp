// How the benchmarks measure: every path once a round, in thread CPU time; round after round, so that a moment's
// disturbance meets neighbours alike.
//
// A program has groups of paths that are compared with each other. Without arguments it lists its groups, one a line.
// With a group's name it answers each line on its standard input with one round: a line of JSON, the nanoseconds of one
// operation of each path. So whoever asks (tools/bench) interleaves rounds of several programs. With a group, a path
// and a number it runs that path so often and prints how many operations that were: for tools that count instructions.
#pragma once

#include <time.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
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
    std::function<std::size_t()> run = {};  // gives how many operations it did
    std::function<void()> prepare = [] {};  // not measured
    std::function<double()> figure = {};    // instead of `run`: what was measured otherwise, bytes, say
};

using Paths = std::vector<Path>;

// Each run is preceded by one that is not measured: the path before it had the caches to itself.
inline double measured(const Path& path) {
    if (path.figure) return path.figure();
    path.prepare();
    path.run();
    path.prepare();
    const double before = cpu_ns();
    const std::size_t operations = path.run();
    return (cpu_ns() - before) / static_cast<double>(operations);
}

class Groups {
public:
    void add(std::string name, std::function<Paths()> make) { groups_.emplace_back(std::move(name), std::move(make)); }

    int main(int count, char** arguments) {
        if (count < 2) {
            for (const auto& [name, make] : groups_) std::printf("%s\n", name.c_str());
            return 0;
        }
        for (const auto& [name, make] : groups_) {
            if (name != arguments[1]) continue;
            return count == 4 ? repeat(make(), arguments[2], std::atoi(arguments[3])) : serve(make());
        }
        std::fprintf(stderr, "%s has no group \"%s\"; without arguments it lists them\n", arguments[0], arguments[1]);
        return 2;
    }

private:
    static int serve(const Paths& paths) {
        for (int c; (c = std::getchar()) != EOF;) {
            if (c != '\n') continue;
            const char* separator = "{";
            for (const Path& path : paths) {
                std::printf("%s\"%s\": %.4f", separator, path.name.c_str(), measured(path));
                separator = ", ";
            }
            std::printf("}\n");
            std::fflush(stdout);
        }
        return 0;
    }

    static int repeat(const Paths& paths, const std::string& name, int times) {
        std::size_t operations = 0;
        for (const Path& path : paths) {
            if (path.name != name) continue;
            for (int time = 0; time < times; ++time) {
                path.prepare();
                operations += path.run();
            }
        }
        std::printf("%zu\n", operations);
        return operations ? 0 : 2;
    }

    std::vector<std::pair<std::string, std::function<Paths()>>> groups_;
};

}  // namespace viommu::bench
