// How evenly pages spread over an IOTLB's sets: what is lost to conflicts when it is asked to hold half of what it can.
#include "viommu/hash.hpp"

#include <random>
#include <set>

#include "check.hpp"
#include "engine.hpp"

namespace viommu::test {
namespace {

// Tables in which every entry of a level leads to the one table below, and every page to one frame: all of 48 bits of
// input is mapped.
class Everywhere {
public:
    Everywhere(Ram& ram) {
        u64 below_it = 0x1000;
        for (unsigned level = 0; level < 4; ++level) {
            table_ = ram.table();
            for (u64 entry = 0; entry < 512; ++entry)
                ram[table_ + entry * 8] =
                    level ? layout::x86.table_entry(below_it, level) : layout::x86.leaf_entry(below_it, 0);
            below_it = table_;
        }
    }
    u64 root() const { return table_; }

private:
    u64 table_ = 0;
};

// Percent of the pages that are not held any more once all have been asked for. Spaces take turns.
double lost(std::size_t entries, const std::vector<u64>& pages, u32 spaces = 1) {
    Engine engine(IotlbGeometry{.entries = entries});
    const Everywhere tables(engine.ram);
    for (u32 space = 0; space < spaces; ++space) {
        ContextSettings settings;
        settings.stage1_tag = space + 1;
        engine.add(x86_at(tables.root()), {}, settings);
    }
    u32 turn = 0;
    for (const u64 page : pages) engine(turn++ % spaces, page << 12);
    return 100 - 100 * static_cast<double>(engine.translator.live_entries()) / static_cast<double>(pages.size());
}

std::vector<u64> strided(std::size_t count, u64 stride) {
    std::vector<u64> pages(count);
    for (std::size_t i = 0; i < count; ++i) pages[i] = 0x4'0000 + i * stride;
    return pages;
}
// No page twice.
std::vector<u64> random_pages(std::size_t count) {
    std::mt19937_64 random(count);
    std::set<u64> pages;
    while (pages.size() < count) pages.insert(random() & below(35));
    return {pages.begin(), pages.end()};
}

// Four ways and two pages a set on average: 3.7 % of pages find their set full, were sets drawn by lot. Fewer may.
constexpr double by_lot = 3.7, a_little = 1.8;
constexpr std::size_t least = 1024, most = 1024 * 1024;

template <typename Pages> void spread(Pages&& pages, u32 spaces = 1, Where where = Where::current()) {
    for (std::size_t entries = least; entries <= most; entries *= 2) {
        const double percent = lost(entries, pages(entries / 2), spaces);
        // Of few pages, a few more are many.
        const double allowed = by_lot + a_little * (entries == least ? 2 : 1);
        if (percent > allowed)
            fail(std::to_string(percent) + " % lost of " + std::to_string(entries / 2) + " pages in " +
                     std::to_string(entries) + " slots",
                 where);
    }
}

void random_is_by_lot() { spread(random_pages); }
void sequential() {
    spread([](std::size_t count) { return strided(count, 1); });
}
void strides() {
    // A table's worth; a prime; what aligns with sets; 64 KiB.
    for (const u64 stride : {512, 509, 4096, 16})
        spread([=](std::size_t count) { return strided(count, stride & below(35)); });
}
void shared_pages() {
    // Each space has the same few pages.
    spread(
        [](std::size_t count) {
            std::vector<u64> pages = strided(count, 1);
            for (std::size_t i = 0; i < count; ++i) pages[i] = 0x4'0000 + i / 64;
            return pages;
        },
        64);
}

}  // namespace
}  // namespace viommu::test

int main() {
    using namespace viommu::test;
    return run({{"random pages spread as by lot", random_is_by_lot},
                {"sequential pages spread as well as random ones", sequential},
                {"strided pages spread as well as random ones", strides},
                {"the same pages of many address spaces spread as well as random ones", shared_pages}});
}
