// IO page tables as a driver fills them: what hardware sees meanwhile, and that no frame is lost.
#include "viommu/table_writer.hpp"

#include <atomic>
#include <thread>

#include "check.hpp"
#include "tables.hpp"

namespace viommu::test {
namespace {

constexpr u64 page = 0x1000, large = 0x20'0000, ram_start = 0x8000'0000;

TableShape vtd_shape() {
    TableShape shape;
    shape.leaf_levels = 7;
    shape.address_mask = bits(51, 12);
    shape.table_flags = {3, 3, 3, 3};
    shape.leaf_flags = {0, 0x80, 0x80};
    shape.rights = {0, 1, 2, 3};
    return shape;
}

struct Driver {
    explicit Driver(u64 frames = 128) {
        pool->add(ram_start, frames * page, 12);
        std::vector<Frame> root;
        pool->take(12, 1, root);
        writer = std::make_unique<TableWriter>(pool, vtd_shape(), root.front());
        format.table = writer->root();
    }
    Mapped map(u64 iova, u64 pa, u64 length, unsigned largest_lg2 = 64) {
        return writer->map({iova, iova + length - 1, pa, 3, largest_lg2});
    }
    Unmapped unmap(u64 iova, u64 length) { return writer->unmap(iova, iova + length - 1); }
    Result walk(u64 iova) const { return walked(ram, Context(NoStage{}, format, {}), iova, access::write); }

    Ram ram{ram_start};
    std::shared_ptr<FramePool> pool = std::make_shared<FramePool>(ram.memory);
    std::unique_ptr<TableWriter> writer;
    fmt::VtdSecondStage format;
};

void counts_up() {
    for (const u64 pages : {1, 3, 4, 7, 8, 9, 505, 512, 1030})
        for (const u64 first : {0, 1, 5, 511}) {
            Driver driver;
            driver.map(first * page, 0x10'0000'0000, pages * page, 12);
            for (u64 at = 0; at < pages; ++at) {
                const Result result = driver.walk((first + at) * page + 8);
                check(result.ok(), "mapped");
                equals(result.pa, 0x10'0000'0000 + at * page + 8);
            }
            check(!driver.walk((first + pages) * page).ok(), "nothing behind it");
            if (first) check(!driver.walk((first - 1) * page).ok(), "nothing before it");
        }
}

void lacks_frames() {
    Driver driver(3);
    const Mapped small = driver.map(0, 0, 2 * large, 12);
    check(small.outcome == MapOutcome::lacks_frames, "two directories, two tables of small pages");
    equals(small.frames, 4u);
    equals(driver.pool->available(12), 2u);
    equals(driver.writer->tables(), 1u);
    check(driver.map(0, 0, large).outcome == MapOutcome::mapped, "a large leaf takes two directories");
    equals(driver.pool->available(12), 0u);
    check(driver.map(large, 0, large).outcome == MapOutcome::mapped, "and its neighbour none");
}

// Hardware walks all the while: it finds nothing, or the page that is meant, never a table half made.
void never_half_made() {
    Driver driver;
    std::atomic<bool> stop{false};
    std::atomic<u64> wrong{0}, found{0};
    const auto hardware = [&] {
        View view = driver.ram.memory->view();
        const Context context(NoStage{}, driver.format, {});
        Unobserved observer;
        for (u64 at = 0; !stop; at = (at + 37 * page) % (4 * large)) {
            Result result;
            context.walk(view, {}, at, access::read, result, observer);
            if (result.ok() ? result.pa != at + (u64{1} << 40) : result.kind != FaultKind::translation) ++wrong;
            found += result.ok();
        }
    };
    std::thread walkers[2]{std::thread(hardware), std::thread(hardware)};
    std::vector<Unmapped> gone;
    // Tables that go stay out of use until the end, as they do until caches have been told.
    for (u64 round = 0; round < 20 || !found; ++round) {
        const u64 start = round % 3 * page, length = 2 * large + round % 5 * page;
        const unsigned largest_lg2 = round % 2 ? 12 : 64;
        if (driver.map(start, (u64{1} << 40) + start, length, largest_lg2).outcome != MapOutcome::mapped) break;
        for (int spin = 0; spin < 1000; ++spin) driver.writer->find(start);
        gone.push_back(driver.unmap(start, length));
    }
    stop = true;
    for (std::thread& walker : walkers) walker.join();
    equals(wrong.load(), 0u);
    for (const Unmapped& one : gone) driver.writer->reclaim(one.id);
    equals(driver.pool->available(12), 127u);
}

void two_owners_of_a_pool() {
    Driver driver;
    std::vector<Frame> root;
    driver.pool->take(12, 1, root);
    TableWriter other(driver.pool, vtd_shape(), root.front());
    const auto churn = [](TableWriter& writer) {
        for (u64 round = 0; round < 2000; ++round) {
            const u64 start = round % 7 * page;
            if (writer.map({start, start + 3 * page - 1, start, 3}).outcome != MapOutcome::mapped) continue;
            writer.reclaim(writer.unmap(start, start + 3 * page - 1).id);
        }
    };
    std::thread first([&] { churn(*driver.writer); }), second([&] { churn(other); });
    first.join();
    second.join();
    equals(driver.pool->available(12), 126u);
    other.clear();
    driver.writer->clear();
    equals(driver.pool->available(12), 128u);
}

}  // namespace
}  // namespace viommu::test

int main() {
    using namespace viommu::test;
    return run({
        {"addresses count up over any number of entries, from anywhere in a table", counts_up},
        {"where frames lack nothing changes, and what is wanted is told", lacks_frames},
        {"hardware never sees a table half made", never_half_made},
        {"two tables share a pool", two_owners_of_a_pool},
    });
}
