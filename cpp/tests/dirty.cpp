// Dirty tracking: the pages that leaves say were written, and forgetting that they were.
#include "viommu/dirty.hpp"

#include "check.hpp"
#include "tables.hpp"

namespace viommu::test {
namespace {

constexpr u64 page = 0x1000;

std::string dirty(const Ram& ram, const Context& context, u64 start, u64 pages, bool clear = false) {
    const std::vector<u8> bytes = read_dirty(*ram.memory, context, start, start + pages * page - 1, 12, clear);
    std::string out;
    for (u64 at = 0; at < pages; ++at) out += bytes[at / 8] >> at % 8 & 1 ? 'D' : '.';
    return out;
}

void pages() {
    Ram ram;
    Tables tables(ram, layout::x86);
    const Context context(x86_at(tables.root()), NoStage{}, {});
    for (u64 at = 0; at < 10; ++at)
        if (at != 4) tables.map(at * page, at * page);
    for (const u64 written : {1, 7, 9}) walked(ram, context, written * page, access::write);
    walked(ram, context, 2 * page, access::read);
    equals(dirty(ram, context, 0, 10), std::string(".D.....D.D"));
    equals(dirty(ram, context, 2 * page, 6), std::string(".....D"));
    equals(dirty(ram, context, 0, 8, true), std::string(".D.....D"));
    equals(dirty(ram, context, 0, 10), std::string(".........D"));  // beyond the range nothing was forgotten
}

void large_pages() {
    Ram ram;
    Tables tables(ram, layout::vtd);
    auto format = vtd_at(tables.root());
    format.accessed_dirty = true;
    const Context context(NoStage{}, format, {});
    tables.map(0x20'0000, 0, 1);
    walked(ram, context, 0x2F'0000, access::write);
    equals(dirty(ram, context, 0x1F'E000, 4), std::string("..DD"));
    equals(dirty(ram, context, 0x3F'E000, 4), std::string("DD.."));
}

void reading_leaves_no_trace() {
    Ram ram;
    Tables tables(ram, layout::x86);
    tables.map(0, 0);
    ram[tables.entry(0)] &= ~u64{0x20};
    const std::vector<u64> before = ram.words();
    dirty(ram, Context(x86_at(tables.root()), NoStage{}, {}), 0, 8);
    check(ram.words() == before, "no accessed flag was set");
}

// The halves of an Arm address space may have granules of their own.
void each_half_by_its_granule() {
    Ram ram;
    Tables low(ram, {2, layout::arm.table_entry, layout::arm.leaf_entry, 16}, 0, 0x1'0000), high(ram, layout::arm);
    auto format = arm_at(high.root());
    format.has_upper = format.hardware_access = format.hardware_dirty = true;
    format.halves[0].table = low.root();
    format.halves[0].granule_lg2 = 16;
    constexpr u64 upper = 0xFFFF'0000'0000'0000;
    for (u64 at = 0; at < 8; ++at) {
        high.map(at * page, at * page);
        ram[high.entry(at * page)] |= bit(51) | (at == 5 ? 0 : bit(7));  // DBM; all but one read-only: clean
    }
    equals(dirty(ram, Context(format, NoStage{}, {}), upper, 8), std::string(".....D.."));
}

}  // namespace
}  // namespace viommu::test

int main() {
    using namespace viommu::test;
    return run({
        {"pages that were written are dirty until that is forgotten", pages},
        {"a large page is dirty throughout", large_pages},
        {"reading dirty pages leaves no trace", reading_leaves_no_trace},
        {"each half is read by its own granule", each_half_by_its_granule},
    });
}
