// The laws of concurrency, under load. ThreadSanitizer reads this program as well (`make sanitize`).
#include <atomic>
#include <chrono>
#include <thread>

#include "check.hpp"
#include "engine.hpp"

namespace viommu::test {
namespace {

using access::read, access::write;

constexpr u64 iova = 0x4000'1000;
constexpr auto a_while = std::chrono::milliseconds(200);

// Runs the bodies side by side, over and over, until a while has passed.
template <typename... Bodies> void together(Bodies&&... bodies) {
    std::atomic<bool> stop = false;
    const auto repeat = [&stop](auto& body) {
        return [&stop, &body] {
            while (!stop) body();
        };
    };
    std::thread threads[] = {std::thread(repeat(bodies))...};
    std::this_thread::sleep_for(a_while);
    stop = true;
    for (std::thread& thread : threads) thread.join();
}

// As an operating system writes its tables: whole words, seen by everyone.
void set(Ram& ram, u64 entry, u64 value) { std::atomic_ref<u64>(ram[entry]).store(value); }

// Frames are versions: whoever starts after the invalidation of version v must see v or later.
struct Versions {
    void check_seen(u64 floor, const Result& r) {
        if (!r.ok() || r.pa >> 12 < floor) ++wrong;
    }
    std::atomic<u64> floor = 1;
    std::atomic<u64> wrong = 0;
};

template <typename Invalidate> void never_stale(std::size_t walk_cache_entries, Invalidate&& invalidate) {
    Engine e({.entries = 64, .ways = 4, .policy = Policy::plru, .seed = 0}, walk_cache_entries);
    Tables tables(e.ram, layout::x86);
    const u32 rid = e.add(tables, 1);
    tables.map(iova, 1 << 12);
    const u64 entry = tables.entry(iova);
    Versions versions;
    e(rid, iova);
    const auto reader = [&] {
        const u64 floor = versions.floor;
        versions.check_seen(floor, e(rid, iova));
    };
    u64 version = 1;
    together(reader, reader, [&] {
        set(e.ram, entry, ++version << 12 | 0x67);
        invalidate(e.translator);
        versions.floor = version;
    });
    equals(versions.wrong.load(), 0u);
    check(version > 10, "the writer had its turns");
    check(e.hits() > 10, "and so had the cache");
}

void invalidations_are_obeyed() {
    never_stale(0, [](Translator& t) { t.invalidate_range(0, 1, iova, iova + 0xFFF, true); });
    never_stale(16, [](Translator& t) { t.invalidate_range(0, std::nullopt, iova, iova, false); });
    never_stale(0, [](Translator& t) { t.invalidate_stage1_tag(0, 1); });
    never_stale(16, [](Translator& t) { t.invalidate_stage2_tag(0, true); });
    never_stale(16, [](Translator& t) { t.invalidate_all(); });
}

void batches_obey_too() {
    Engine e;
    Tables tables(e.ram, layout::x86);
    const u32 rid = e.add(tables, 1);
    tables.map(iova, 1 << 12);
    const u64 entry = tables.entry(iova);
    Versions versions;
    e(rid, iova);
    constexpr std::size_t size = 3000;
    const std::vector<u32> requesters(size, rid);
    const std::vector<u64> inputs(size, iova);
    const std::vector<u8> wanted(size, read);
    u64 version = 1;
    together(
        [&] {
            std::vector<u64> pa(size);
            std::vector<u8> column(size);
            Columns out{pa.data(), column.data(), column.data(), column.data(), {}};
            const u64 floor = versions.floor;
            BatchTranslation(e.translator, {requesters.data(), nullptr, inputs.data(), wanted.data(), size}, out)
                .run([&](ContextKey) { return e.contexts[0]; });
            for (std::size_t row = 0; row < size; ++row) {
                if (pa[row] >> 12 < floor) ++versions.wrong;
                if (row && pa[row] < pa[row - 1]) ++versions.wrong;  // rows run in order
            }
        },
        [&] {
            set(e.ram, entry, ++version << 12 | 0x67);
            e.translator.invalidate_range(0, 1, iova, iova, true);
            versions.floor = version;
        });
    equals(versions.wrong.load(), 0u);
}

void configuration_is_obeyed() {
    Engine e;
    std::vector<std::shared_ptr<const Context>> contexts;
    constexpr u64 most = 64;
    for (u64 version = 0; version < most; ++version) {
        Tables tables(e.ram, {1, layout::x86.table_entry, layout::x86.leaf_entry});
        tables.map(iova & 0xFFFF, version << 12);
        fmt::Described f;
        f.table = tables.root();
        f.level_count = 2;
        f.span[0] = 12, f.span[1] = 21, f.span[2] = 30;
        f.input_bits = 30;
        f.address_mask = bits(51, 12), f.present_mask = f.present_value = 1;
        ContextSettings settings;
        settings.stage1_tag = static_cast<u32>(version);
        contexts.push_back(std::make_shared<const Context>(f, NoStage{}, settings));
    }
    std::atomic<u64> current = 1;
    Versions versions;
    const auto translate = [&]() -> Result {
        for (;;) {
            u64 generation;
            {
                Translator::Session session(e.translator);
                if (BoundContext* bound = session.context({0, no_pasid})) {
                    Result r;
                    session.translate({0, no_pasid}, *bound, iova & 0xFFFF, read, r);
                    return r;
                }
                generation = session.configuration_generation();
            }
            e.translator.keep_context({0, no_pasid}, contexts[current], generation);
        }
    };
    const auto reader = [&] {
        const u64 floor = versions.floor;
        versions.check_seen(floor, translate());
    };
    together(reader, reader, [&] {
        if (current + 1 == most) return std::this_thread::yield();
        ++current;
        e.translator.invalidate_requester(0);
        versions.floor = current.load();
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    });
    equals(versions.wrong.load(), 0u);
    check(versions.floor > 2, "configuration changed");
}

// Two engines over one memory: each write must find its dirty flag set, whoever set it.
void flags_are_not_lost() {
    Ram ram;
    Tables tables(ram, layout::x86);
    tables.map(iova, 0x10000);
    const Context context(x86_at(tables.root()), NoStage{}, {});
    const u64 entry = tables.entry(iova);
    std::atomic<u64> wrong = 0;
    const auto writer = [&] {
        std::atomic_ref<u64>(ram[entry]).fetch_and(~u64{0x60});
        View view = ram.memory->view();
        Unobserved observer;
        Result result;
        context.walk(view, {}, iova, write, result, observer);
        if (!result.ok() || result.pa != 0x10000) ++wrong;
        if (std::atomic_ref<u64>(ram[entry]).load() & ~u64{0x10067}) ++wrong;
    };
    together(writer, writer, writer);
    equals(wrong.load(), 0u);
}

// Regions come and go while walks use them; their buffers end with the last reader.
void regions_come_and_go() {
    Ram ram;
    Tables tables(ram, layout::x86);
    constexpr u64 elsewhere = 0x1'0000'0000;
    ram[tables.entry(iova, 1)] = elsewhere | 0x67;
    const Context context(x86_at(tables.root()), NoStage{}, {});
    std::atomic<u64> landed = 0, aborted = 0, wrong = 0;
    const auto walker = [&] {
        const Result r = walked(ram, context, iova);
        if (r.ok() && r.pa == 0x7000)
            ++landed;
        else if (r.kind == FaultKind::external_abort)
            ++aborted;
        else
            ++wrong;
    };
    together(walker, walker, [&] {
        const auto words = std::make_shared<std::vector<u64>>(512, 0x7067);
        ram.memory->add(
            {elsewhere, elsewhere + 0xFFF, reinterpret_cast<std::byte*>(words->data()), true, nullptr, words});
        std::this_thread::yield();
        ram.memory->remove(elsewhere, elsewhere + 0xFFF);
    });
    equals(wrong.load(), 0u);
    check(landed && aborted, "both happened");
}

// Everything at once, for the sanitizers.
void turmoil() {
    Engine e({.entries = 0}, 32, 2);
    std::vector<Tables> tables;
    for (u32 tag = 0; tag < 4; ++tag) {
        tables.emplace_back(e.ram, layout::x86);
        tables.back().map(iova, (tag + 1) << 12);
        e.add(tables.back(), tag);
    }
    std::atomic<u64> turn = 0, wrong = 0;
    const auto reader = [&] {
        const u32 rid = turn++ % 4;
        const Result r = [&] {
            for (;;) {
                u64 generation;
                {
                    Translator::Session session(e.translator);
                    if (BoundContext* bound = session.context({rid, no_pasid})) {
                        Result result;
                        session.translate({rid, no_pasid}, *bound, iova, rid & 1 ? read : write, result);
                        return result;
                    }
                    generation = session.configuration_generation();
                }
                e.translator.keep_context({rid, no_pasid}, e.contexts[rid], generation);
            }
        }();
        if (r.pa >> 12 != rid + 1) ++wrong;
    };
    together(reader, reader, [&] {
        const u32 tag = turn % 4;
        e.translator.invalidate_range(0, tag, 0, ~u64{0}, false);
        e.translator.invalidate_contexts();
        e.translator.counters();
        e.translator.live_entries();
        if (tag == 3) e.translator.reset_counters();
    });
    equals(wrong.load(), 0u);
}

}  // namespace
}  // namespace viommu::test

int main() {
    using namespace viommu::test;
    return run({
        {"nothing stale is served once an invalidation has returned", invalidations_are_obeyed},
        {"nor in a batch, whose rows run in order", batches_obey_too},
        {"nor is old configuration", configuration_is_obeyed},
        {"accessed and dirty flags are never lost", flags_are_not_lost},
        {"regions come and go under walks", regions_come_and_go},
        {"all of it at once", turmoil},
    });
}
