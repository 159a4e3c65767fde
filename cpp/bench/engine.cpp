// The engine's paths beside loops that do their memory work alone.
#include <memory>
#include <random>

#include "../tests/tables.hpp"
#include "bare.hpp"
#include "rounds.hpp"
#include "viommu/batch.hpp"

namespace viommu::bench {
namespace {

using test::Ram, test::Tables;

constexpr u64 mib = u64{1} << 20, first_iova = u64{1} << 30, ram_start = u64{1} << 40;
constexpr std::size_t thousand = 1024, some = 16 * thousand, million = 1024 * thousand, rows_of_a_batch = 64 * thousand;

std::string counted(std::size_t n) {
    return n >= million    ? std::to_string(n / million) + "M"
           : n >= thousand ? std::to_string(n / thousand) + "k"
                           : std::to_string(n);
}
// Pages in any order; fewer than a batch come up again and again.
std::vector<u64> shuffled(std::vector<u64> iovas) {
    std::mt19937_64 random(1);
    std::shuffle(iovas.begin(), iovas.end(), random);
    for (std::size_t i = 0; iovas.size() < rows_of_a_batch; ++i) iovas.push_back(iovas[i]);
    return iovas;
}

// One requester whose `pages` pages are mapped, and a translator in front of them.
class World {
public:
    World(std::size_t pages, const IotlbGeometry& geometry)
        : ram_(ram_start, 4 * mib + pages * 9),
          tables_(ram_, test::layout::x86),
          iovas_(pages),
          iotlb_(std::make_shared<Iotlb>(geometry)),
          translator_(ram_.memory, iotlb_, 16, 0) {
        for (std::size_t page = 0; page < pages; ++page) {
            iovas_[page] = first_iova + page * 4096;
            tables_.map(iovas_[page], ram_start + page * 4096);
        }
        context_ = std::make_shared<const Context>(test::x86_at(tables_.root()), NoStage{}, ContextSettings{});
        batch(iovas_);  // sets accessed flags
    }

    const std::vector<u64>& iovas() const { return iovas_; }
    Translator& translator() { return translator_; }
    BareTables bare() const { return {ram_.words().data(), ram_start, tables_.root()}; }

    // Pages that hit: a set-associative cache never holds all of as many as it has room for.
    std::vector<u64> cached() {
        std::vector<u64> out;
        for (const u64 iova : iovas_) {
            const u64 before = translator_.counters().streams.hits;
            one(iova);
            if (translator_.counters().streams.hits != before) out.push_back(iova);
        }
        return out;
    }

    u64 one(u64 iova) {
        Translator::Session session(translator_);
        Result result;
        session.translate(key, *session.context(key), iova, access::read, result);
        return result.pa;
    }
    std::size_t batch(const std::vector<u64>& iovas) {
        requesters_.resize(iovas.size());
        accesses_.assign(iovas.size(), access::read);
        pa_.resize(iovas.size());
        kind_.resize(iovas.size()), lg2_.resize(iovas.size()), rights_.resize(iovas.size());
        Columns out{pa_.data(), kind_.data(), lg2_.data(), rights_.data(), {}};
        const Rows rows{requesters_.data(), nullptr, iovas.data(), accesses_.data(), iovas.size()};
        BatchTranslation(translator_, rows, out).run([this](ContextKey) { return context_; });
        if (!out.faults.empty()) throw std::logic_error("a page of the benchmark faults");
        return iovas.size();
    }

private:
    static constexpr ContextKey key{0, no_pasid};

    Ram ram_;
    Tables tables_;
    std::vector<u64> iovas_;
    std::shared_ptr<Iotlb> iotlb_;
    Translator translator_;
    ResolvedContext context_;
    std::vector<u32> requesters_;
    std::vector<u8> accesses_, kind_, lg2_, rights_;
    std::vector<u64> pa_;
};

void hits(Rounds& rounds, std::size_t pages) {
    const std::size_t entries = 2 * pages;
    const auto world = std::make_shared<World>(pages, IotlbGeometry{.entries = entries});
    const auto iovas = std::make_shared<std::vector<u64>>(shuffled(world->cached()));
    const auto bare = std::make_shared<BareTlb>(entries);
    for (const u64 iova : world->iovas()) bare->insert(iova >> 12, iova);

    const std::string of = ", " + counted(pages) + " pages";
    rounds.add({"bare probe" + of, "", [=] {
                    u64 sum = 0;
                    for (const u64 iova : *iovas) sum += bare->find(iova >> 12);
                    sink = sum;
                    return iovas->size();
                }});
    rounds.add({"scalar hit" + of, "bare probe" + of, [=] {
                    u64 sum = 0;
                    for (const u64 iova : *iovas) sum += world->one(iova);
                    sink = sum;
                    return iovas->size();
                }});
    rounds.add({"bare probes, interleaved" + of, "", [=] {
                    sink = bare->find_all(*iovas);
                    return iovas->size();
                }});
    rounds.add({"batch of hits" + of, "bare probes, interleaved" + of, [=] { return world->batch(*iovas); }});
}

void cold(Rounds& rounds, std::size_t pages) {
    const auto world = std::make_shared<World>(pages, IotlbGeometry{.entries = thousand});
    const auto iovas = std::make_shared<std::vector<u64>>(shuffled(world->iovas()));
    const std::string of = ", " + counted(pages) + " pages";
    rounds.add({"bare 4-level walks, interleaved" + of, "", [=, bare = world->bare()] {
                    sink = bare.walk_all(*iovas);
                    return iovas->size();
                }});
    rounds.add({"cold batch" + of, "bare 4-level walks, interleaved" + of, [=] { return world->batch(*iovas); },
                [=] { world->translator().invalidate_all(); }});
}

// Stage 1 lies in a guest's memory, which begins at 0 and lies at `ram_start`.
struct NestedWorld {
    explicit NestedWorld(std::size_t pages) : ram(ram_start, 8 * mib + pages * 18) {
        for (u64 page = 0; page < ram.words().size() * 8; page += 4096) second.map(page, ram_start + page);
        for (std::size_t page = 0; page < pages; ++page) {
            iovas.push_back(first_iova + page * 4096);
            first.map(iovas.back(), page * 4096 % mib);
        }
        context =
            std::make_shared<const Context>(test::x86_at(first.root()), test::vtd_at(second.root()), ContextSettings{});
    }

    Ram ram;
    Tables first{ram, test::layout::x86, ~ram_start + 1}, second{ram, test::layout::vtd};
    std::vector<u64> iovas;
    ResolvedContext context;
};

void nested_cold(Rounds& rounds, std::size_t pages) {
    const auto world = std::make_shared<NestedWorld>(pages);
    const auto iovas = std::make_shared<std::vector<u64>>(shuffled(world->iovas));
    const auto translator = std::make_shared<Translator>(
        world->ram.memory, std::make_shared<Iotlb>(IotlbGeometry{.entries = thousand}), 16, 0);
    const BareTables second{world->ram.words().data(), ram_start, world->second.root()};
    const BareNested bare{{second.words, ram_start, world->first.root()}, second};
    const std::string of = ", " + counted(pages) + " pages";
    rounds.add({"bare nested walks, interleaved" + of, "", [=] {
                    sink = bare.walk_all(*iovas);
                    return iovas->size();
                }});
    rounds.add({"nested cold batch" + of, "bare nested walks, interleaved" + of,
                [=] {
                    const std::size_t size = iovas->size();
                    std::vector<u32> requesters(size);
                    std::vector<u8> accesses(size, access::read), columns[3]{accesses, accesses, accesses};
                    std::vector<u64> pa(size);
                    Columns out{pa.data(), columns[0].data(), columns[1].data(), columns[2].data(), {}};
                    const Rows rows{requesters.data(), nullptr, iovas->data(), accesses.data(), size};
                    BatchTranslation(*translator, rows, out).run([&](ContextKey) { return world->context; });
                    if (!out.faults.empty()) throw std::logic_error("a page of the benchmark faults");
                    return size;
                },
                [=] { translator->invalidate_all(); }});
}

void invalidations(Rounds& rounds, std::size_t pages, std::size_t beside) {
    constexpr std::size_t times = 20'000;
    const std::size_t entries = 2 * pages;
    const auto world = std::make_shared<World>(pages, IotlbGeometry{.entries = entries});
    const auto iovas = std::make_shared<std::vector<u64>>(shuffled(world->iovas()));
    const auto bare = std::make_shared<BareTlb>(entries);
    for (const u64 iova : world->iovas()) bare->insert(iova >> 12, iova);
    const auto refill = [=] { world->batch(world->iovas()); };
    const auto of = [](std::size_t n) { return ", " + counted(n) + " entries"; };

    rounds.add({"invalidate a tag" + of(pages), pages == beside ? "" : "invalidate a tag" + of(beside),
                [=] {
                    for (std::size_t i = 0; i < times; ++i) world->translator().invalidate_stage1_tag(0, 0);
                    return times;
                },
                refill});
    rounds.add({"bare drop" + of(pages), "",
                [=] {
                    for (std::size_t i = 0; i < times; ++i) bare->drop((*iovas)[i] >> 12);
                    return times;
                },
                [=] {
                    for (std::size_t i = 0; i < times; ++i) bare->insert((*iovas)[i] >> 12, i);
                }});
    rounds.add({"invalidate a page" + of(pages), "bare drop" + of(pages),
                [=] {
                    for (std::size_t i = 0; i < times; ++i)
                        world->translator().invalidate_range(0, 0, (*iovas)[i], (*iovas)[i] + 4095, true);
                    return times;
                },
                refill});
}

}  // namespace
}  // namespace viommu::bench

int main() {
    using namespace viommu::bench;
    Rounds rounds;
    for (const std::size_t pages : {thousand, some, million}) hits(rounds, pages);
    for (const std::size_t pages : {some, million}) cold(rounds, pages);
    nested_cold(rounds, some);
    for (const std::size_t pages : {std::size_t{64}, million}) invalidations(rounds, pages, 64);
    rounds.run(9);
    rounds.print();
}
