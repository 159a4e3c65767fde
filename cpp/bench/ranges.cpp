// Translations as an ordered map of ranges, as vhost and rust-vmm keep them: no ways, no tags, no bound.
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "rounds.hpp"

namespace viommu::bench {
namespace {

class Ranges {
public:
    void insert(u64 start, u64 last, u64 to, unsigned permission) { ranges_[start] = {last, to, permission}; }
    bool translate(u64 iova, unsigned wants, u64& pa) const {
        auto at = ranges_.upper_bound(iova);
        if (at == ranges_.begin()) return false;
        --at;
        if (iova > at->second.last || (wants & ~at->second.permission)) return false;
        pa = at->second.to + (iova - at->first);
        return true;
    }

private:
    struct Range {
        u64 last, to;
        unsigned permission;
    };
    std::map<u64, Range> ranges_;
};

Paths lookups(std::size_t pages) {
    constexpr std::size_t rows = 64 * 1024;
    constexpr u64 first = u64{1} << 39;
    const auto ranges = std::make_shared<Ranges>();
    const auto iovas = std::make_shared<std::vector<u64>>();
    std::mt19937_64 random(1);
    // Neighbours lead to places that are none: nobody could join them.
    for (u64 page = 0; page < pages; ++page)
        ranges->insert(first + page * 4096, first + page * 4096 + 4095, page << 13, 3);
    for (std::size_t row = 0; row < rows; ++row) iovas->push_back(first + random() % pages * 4096);
    return {{"ordered map of ranges", [=] {
                 u64 sum = 0, pa = 0;
                 for (const u64 iova : *iovas) {
                     if (!ranges->translate(iova, 1, pa)) throw std::logic_error("a page of the benchmark is missing");
                     sum += pa;
                 }
                 sink = sum;
                 return iovas->size();
             }}};
}

}  // namespace
}  // namespace viommu::bench

int main(int count, char** arguments) {
    using namespace viommu::bench;
    Groups groups;
    groups.add("hits, 1k pages", [] { return lookups(1024); });
    groups.add("hits, 16k pages", [] { return lookups(16 * 1024); });
    return groups.main(count, arguments);
}
