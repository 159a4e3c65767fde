// The engine in front of tables of many pages, as an emulator would have it: one requester, a context cache, an IOTLB.
#pragma once

#include <algorithm>
#include <concepts>
#include <memory>
#include <optional>
#include <random>
#include <span>

#include "bare_walk.hpp"
#include "rounds.hpp"
#include "tables.hpp"
#include "viommu/batch.hpp"

namespace viommu::bench {

inline constexpr std::size_t thousand = 1024, some = 16 * thousand, million = 1024 * thousand, many = 16 * million;
inline constexpr std::size_t rows_of_a_batch = 64 * thousand, most_rows = million;

inline std::string counted(std::size_t n) {
    return n >= million    ? std::to_string(n / million) + "M"
           : n >= thousand ? std::to_string(n / thousand) + "k"
                           : std::to_string(n);
}

// Pages in any order. Fewer than a batch come up again and again; of more than `most_rows`, some do.
inline std::vector<u64> shuffled(std::vector<u64> iovas) {
    std::mt19937_64 random(1);
    std::shuffle(iovas.begin(), iovas.end(), random);
    iovas.resize(std::min(iovas.size(), most_rows));
    for (std::size_t i = 0; iovas.size() < rows_of_a_batch; ++i) iovas.push_back(iovas[i]);
    return iovas;
}
inline std::vector<u64> pages_from(u64 first, std::size_t pages) {
    std::vector<u64> iovas(pages);
    for (std::size_t page = 0; page < pages; ++page) iovas[page] = first + page * 4096;
    return iovas;
}

// Where each page of a benchmark's tables is.
inline u64 place_of(u64 iova) { return iova - range + data_start; }

// The columns of a batch, used again and again.
class Batch {
public:
    explicit Batch(std::span<const u64> iovas)
        : iovas_(iovas),
          requesters_(iovas.size()),
          accesses_(iovas.size(), access::read),
          pa_(iovas.size()),
          kind_(iovas.size()),
          lg2_(iovas.size()),
          rights_(iovas.size()) {}

    std::size_t run(Translator& translator, const ResolvedContext& context) {
        return run(translator, [&](ContextKey) { return context; });
    }
    template <std::invocable<ContextKey> Resolve> std::size_t run(Translator& translator, Resolve&& resolve) {
        Columns out{pa_.data(), kind_.data(), lg2_.data(), rights_.data(), {}};
        const Rows rows{requesters_.data(), nullptr, iovas_.data(), accesses_.data(), iovas_.size()};
        BatchTranslation(translator, rows, out).run(resolve);
        if (!out.faults.empty()) throw std::logic_error("a page of the benchmark faults");
        sink = pa_[0];
        return iovas_.size();
    }

    std::span<const u64> pa() const { return pa_; }
    std::span<u32> requesters() { return requesters_; }

private:
    std::span<const u64> iovas_;
    HugeVector<u32> requesters_;
    HugeVector<u8> accesses_;
    HugeVector<u64> pa_;
    HugeVector<u8> kind_, lg2_, rights_;
};

// One context, and a translator that has it cached. `iovas` are what a batch asks for, and may be chosen late.
class Engine {
public:
    static constexpr ContextKey key{0, no_pasid};

    Engine(std::shared_ptr<Memory> memory, Stage1 first, Stage2 second, std::optional<IotlbGeometry> iotlb,
           std::size_t walk_cache_entries = 0)
        : context_(std::make_shared<const Context>(std::move(first), std::move(second), ContextSettings{})),
          translator_(std::move(memory), iotlb ? std::make_shared<Iotlb>(*iotlb) : nullptr, 16, walk_cache_entries) {
        translator_.keep_context(key, context_, translator_.configuration_generation());
    }

    Translator& translator() { return translator_; }
    const std::vector<u64>& iovas() const { return iovas_; }
    void ask_for(std::vector<u64> iovas) {
        iovas_ = std::move(iovas);
        batch_.emplace(iovas_);
    }

    std::size_t batch() { return batch_->run(translator_, context_); }
    // Refuses to measure what is wrong.
    void check(auto&& place) {
        batch();
        for (std::size_t row = 0; row < iovas_.size(); ++row)
            if (batch_->pa()[row] != place(iovas_[row]))
                throw std::logic_error("a page of the benchmark leads elsewhere");
    }
    std::size_t batch(Batch& other) { return other.run(translator_, context_); }
    std::size_t one_by_one() {
        u64 sum = 0;
        for (const u64 iova : iovas_) {
            sum += one(iova);
        }
        sink = sum;
        return iovas_.size();
    }

    u64 one(u64 iova) {
        Result result;
        if (!translator_.translate(key, iova, access::read, result))
            throw std::logic_error("the context is not cached");
        return result.pa;
    }

    // Those that hit: a set-associative cache never holds all of as many pages as it has room for.
    std::vector<u64> cached(std::span<const u64> iovas) {
        for (const u64 iova : iovas) one(iova);
        std::vector<u64> out;
        for (const u64 iova : iovas) {
            const u64 before = translator_.counters().streams.hits;
            one(iova);
            if (translator_.counters().streams.hits != before) out.push_back(iova);
        }
        return out;
    }

private:
    ResolvedContext context_;
    Translator translator_;
    std::vector<u64> iovas_;
    std::optional<Batch> batch_;
};

// Tables of one stage.
struct SingleStage {
    explicit SingleStage(std::size_t count, const Layout& layout = test::layout::x86)
        : ram(ManyPages::tables_for(count) + 2), tables(ram, layout), pages(count) {
        tables.map(range, data_start, pages);
    }
    std::vector<u64> iovas() const { return pages_from(range, pages); }
    u64 place(u64 iova) const { return place_of(iova); }
    BareTables bare() const { return {ram.words(), ram_start, tables.root()}; }

    TableRam ram;
    ManyPages tables;
    std::size_t pages;
};

// A guest's tables lie in its memory, which begins at 0 and lies at `ram_start`; its pages lie a range further on.
struct TwoStages {
    explicit TwoStages(std::size_t count) : ram(size_for(count)), pages(count) {
        second.map(0, ram_start, ram.size() / 4096);
        second.map(ipa_start, data_start, pages);
        first.map(range, ipa_start, pages);
    }
    std::vector<u64> iovas() const { return pages_from(range, pages); }
    u64 place(u64 iova) const { return place_of(iova); }
    BareNested bare() const {
        return {{ram.words(), ram_start, first.root()}, {ram.words(), ram_start, second.root()}};
    }

    TableRam ram;
    ManyPages first{ram, test::layout::x86, ~ram_start + 1}, second{ram, test::layout::vtd};
    std::size_t pages;

private:
    static std::size_t size_for(std::size_t count) {
        const std::size_t of_pages = ManyPages::tables_for(count) * 2 + 2;
        return of_pages + ManyPages::tables_for(of_pages * 2) + 8;
    }
};

}  // namespace viommu::bench
