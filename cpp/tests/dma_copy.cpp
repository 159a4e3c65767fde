// A device that copies: what comes to lie where, how far it comes, and what it counts.
#include <random>
#include <thread>

#include "check.hpp"
#include "engine.hpp"
#include "viommu/dma_copy.hpp"

namespace viommu::test {
namespace {

constexpr u64 page = 0x1000, iova = 0x40'0000'0000, memory_at = 0x1'0000'0000;
constexpr u64 pages = 64, bytes = pages * page;

// A device whose pages lie in a buffer of their own, in another order.
struct Device {
    explicit Device(IotlbGeometry geometry = {}, std::size_t walk_cache_entries = 0)
        : engine(geometry, walk_cache_entries), tables(engine.ram, layout::x86), words(bytes / 8) {
        engine.ram.memory->add({memory_at, memory_at + bytes - 1, host(), true, nullptr, nullptr});
        rid = engine.add(tables);
        for (u64 n = 0; n < pages; ++n) tables.map(iova + n * page, memory_at + place(n) * page);
        std::mt19937_64 random(7);
        for (u64& word : words) word = random();
        engine(rid, iova);
    }
    static u64 place(u64 n) { return n * 27 % pages; }
    std::byte* host() { return reinterpret_cast<std::byte*>(words.data()); }
    CopyProgress copy(u64 source, u64 target, u64 length, u32 from, u32 to) {
        return DmaCopy(engine.translator, {{from, no_pasid}, iova + source, {to, no_pasid}, iova + target, length})
            .run();
    }
    CopyProgress copy(u64 source, u64 target, u64 length) { return copy(source, target, length, rid, rid); }
    std::vector<std::byte> seen() {
        std::vector<std::byte> all(bytes);
        for (u64 n = 0; n < pages; ++n) std::copy_n(host() + place(n) * page, page, all.data() + n * page);
        return all;
    }

    Engine engine;
    Tables tables;
    std::vector<u64> words;
    u32 rid = 0;
};

void copies_bytes() {
    std::mt19937_64 random(1);
    for (const std::size_t walk_cache : {0, 16})
        for (const unsigned entries : {4u, 1024u}) {
            Device device({entries}, walk_cache);
            for (int round = 0; round < 400; ++round) {
                const bool in_step = random() % 2;
                const u64 most = random() % 2 ? 200 : bytes / 2, length = random() % most;
                u64 source = random() % (bytes / 2 - length), target = bytes / 2 + random() % (bytes / 2 - length);
                if (in_step) source = source & ~u64{7}, target = target & ~u64{7};
                if (random() % 2) std::swap(source, target);
                auto expected = device.seen();
                std::copy_n(expected.data() + source, length, expected.data() + target);
                equals(device.copy(source, target, length).moved, length);
                check(device.seen() == expected, "these bytes are copied, and no others");
            }
        }
}

void counts_each_page_of_either_side() {
    Device device;
    device.copy(0, 32 * page, 8 * page);
    equals(device.engine.counted().translations, 1u + 8 + 8);
    device.copy(0, 32 * page, 8 * page);
    equals(device.engine.counted().translations, 1u + 16 + 16);
    equals(device.engine.hits(), 1u + 16);
}

void copies_over_and_over() {
    Device device;
    const ContextKey key{device.rid, no_pasid};
    const CopyRequest asked{key, iova, key, iova + 32 * page, 3 * page, 5};
    equals(DmaCopy::run_all(device.engine.translator, asked).moved, 15 * page);
    equals(device.engine.counted().translations, 1u + 5 * 6);
    device.engine.ram[device.tables.entry(iova + 2 * page)] = 0;
    device.engine.translator.invalidate_all();
    equals(DmaCopy::run_all(device.engine.translator, asked).moved, 2 * page);
}

void stops_without_configuration() {
    Device device;
    const u32 other = device.engine.add(device.tables);
    const CopyProgress source = device.copy(0, page, page, other, device.rid);
    check(!source.moved && !source.writes && !source.translated, "the source's is missing");
    const CopyProgress target = device.copy(0, page, page, device.rid, other);
    check(!target.moved && target.writes && !target.translated, "the target's is missing");
    equals(device.engine.counted().translations, 1u);
}

void says_which_side_stopped_it() {
    Device device;
    device.engine.ram[device.tables.entry(iova + 5 * page)] = 0;
    const CopyProgress source = device.copy(3 * page + 8, 32 * page, 4 * page);
    equals(source.moved, 2 * page - 8);
    check(!source.writes && source.translated && source.result.kind == FaultKind::translation, "the source faults");
    equals(source.result.iova, iova + 5 * page);
    const CopyProgress target = device.copy(32 * page, 3 * page + 8, 4 * page);
    equals(target.moved, 2 * page - 8);
    check(target.writes && target.translated && target.result.kind == FaultKind::translation, "the target faults");
    equals(target.result.iova, iova + 5 * page);
    equals(device.engine.counted().all_faults(), 2u);
}

void hands_over_where_there_is_no_memory() {
    Device device;
    std::vector<u64> fixed(page / 8, 9);
    device.engine.ram.memory->add(
        {0x2'0000'0000, 0x2'0000'0000 + page - 1, reinterpret_cast<std::byte*>(fixed.data()), false, nullptr, nullptr});
    device.tables.map(iova + page, 0x2'0000'0000);
    device.tables.map(iova + 3 * page, 0x3'0000'0000);
    const CopyProgress written = device.copy(8 * page, 0, 2 * page);
    equals(written.moved, page);
    check(written.writes && written.translated && written.result.ok(), "read-only memory was translated");
    equals(fixed[0], 9u);
    equals(device.copy(page, 8 * page, page).moved, page);
    const CopyProgress hole = device.copy(2 * page, 8 * page, 2 * page);
    equals(hole.moved, page);
    check(!hole.writes && hole.translated && hole.result.ok(), "so was a hole");
}

void large_pages_are_asked_for_once() {
    Device device;
    std::vector<u64> large((2 << 20) / 8, 5);
    device.engine.ram.memory->add({0x40'0000'0000, 0x40'0000'0000 + (2 << 20) - 1,
                                   reinterpret_cast<std::byte*>(large.data()), true, nullptr, nullptr});
    device.tables.map(iova + (2 << 20), 0x40'0000'0000, 1);
    equals(device.copy(2 << 20, (2 << 20) + (1 << 20), 1 << 20).moved, u64{1} << 20);
    equals(device.engine.counted().translations, 1u + 2);
}

// Of contexts that change an access on its way, or let it pass, as of others.
void hits_of_any_context_are_quick() {
    ContextSettings passing, privileged;
    passing.untranslated_input = {{memory_at + 4 * page, memory_at + 5 * page - 1}};
    privileged.privileged = true;
    for (const ContextSettings& settings : {passing, privileged}) {
        Device device;
        const u32 rid = device.engine.add(x86_at(device.tables.root()), {}, settings);
        device.engine(rid, iova);
        equals(device.copy(0, 32 * page, 8 * page, rid, rid).moved, 8 * page);
        const u64 before = device.engine.hits();
        const auto expected = device.seen();
        equals(device.copy(0, 32 * page, 8 * page, rid, rid).moved, 8 * page);
        equals(device.engine.hits(), before + 16);
        check(device.seen() == expected, "the same bytes again");
    }
    Device device;
    const u32 rid = device.engine.add(x86_at(device.tables.root()), {}, passing);
    device.engine(rid, iova);
    // What passes leads to the same address: this place of memory, whatever the tables say.
    device.tables.map(memory_at + 4 * page, memory_at);
    const u64 passes = memory_at + 4 * page - iova;
    for (int round = 0; round < 2; ++round) {
        device.words[0] = 5, device.words[4 * page / 8] = 7 + round;
        equals(device.copy(passes, 32 * page, 8, rid, rid).moved, 8u);
        equals(device.words[Device::place(32) * page / 8], 7u + round);
    }
}

// Both halves of each word are always alike; a torn word would show.
void words_are_never_torn() {
    Device device;
    const auto first = reinterpret_cast<u64*>(device.host() + Device::place(0) * page);
    const auto second = reinterpret_cast<u64*>(device.host() + Device::place(1) * page);
    std::fill_n(first, page / 8, 0), std::fill_n(second, page / 8, 0);
    std::atomic<bool> stop = false;
    unsigned torn = 0;
    std::thread reader([&] {
        while (!stop)
            for (u64 n = 0; n < page / 8; ++n) {
                const u64 word = std::atomic_ref(second[n]).load();
                torn += word >> 32 != (word & 0xFFFF'FFFF);
            }
    });
    std::thread writer([&] {
        for (u64 round = 1; !stop; ++round)
            for (u64 n = 0; n < page / 8; ++n) std::atomic_ref(first[n]).store(round << 32 | (round & 0xFFFF'FFFF));
    });
    for (int round = 0; round < 20000; ++round) device.copy(0, page, round % 2 ? page : 1000);
    stop = true;
    reader.join(), writer.join();
    equals(torn, 0u);
}

// Software takes the target's page away, invalidates, and then uses the page for itself.
void invalidations_wait_for_copies() {
    constexpr u64 size = 2 << 20, source_at = iova + (1 << 30), target_at = iova + (2 << 30);
    Device device;
    std::vector<u64> source(size / 8, 5), target(size / 8, 0);
    const auto add = [&](u64 at, std::vector<u64>& words) {
        device.engine.ram.memory->add(
            {at, at + size - 1, reinterpret_cast<std::byte*>(words.data()), true, nullptr, nullptr});
    };
    add(0x40'0000'0000, source), add(0x50'0000'0000, target);
    device.tables.map(source_at, 0x40'0000'0000, 1), device.tables.map(target_at, 0x50'0000'0000, 1);
    const std::atomic_ref<u64> leaf(device.engine.ram[device.tables.entry(target_at, 1)]);
    const u64 mapped = leaf;
    std::atomic<bool> stop = false;
    std::atomic<unsigned> copies = 0;
    std::thread writer([&] {
        const ContextKey key{device.rid, no_pasid};
        while (!stop)
            copies += DmaCopy(device.engine.translator, {key, source_at, key, target_at, size}).run().moved > 0;
    });
    unsigned wrong = 0;
    for (int round = 0; round < 30; ++round) {
        for (const unsigned before = copies; copies == before;) std::this_thread::yield();
        leaf = 0;
        device.engine.translator.invalidate_all();
        for (u64& word : target) std::atomic_ref(word).store(9);
        for (int n = 0; n < 20; ++n) std::this_thread::yield();
        for (u64& word : target) wrong += std::atomic_ref(word).load() != 9;
        leaf = mapped;
    }
    stop = true;
    writer.join();
    equals(wrong, 0u);
}

// What is left of a large page, when the lock is held again, may lie in two pieces by then.
void memory_may_be_split_meanwhile() {
    constexpr u64 size = 2 << 20, half = size / 2 + page, source_at = iova + (1 << 30), target_at = iova + (2 << 30);
    constexpr u64 from = 0x40'0000'0000, to = 0x50'0000'0000;
    Device device;
    std::vector<u64> source(size / 8, 5), target(size / 8, 0);
    const auto add = [&](std::vector<u64>& words, u64 at, u64 offset, u64 end) {
        device.engine.ram.memory->add(
            {at + offset, at + end - 1, reinterpret_cast<std::byte*>(words.data()) + offset, true, nullptr, nullptr});
    };
    add(target, to, 0, size);
    device.tables.map(source_at, from, 1), device.tables.map(target_at, to, 1);
    std::atomic<bool> stop = false;
    std::thread host([&] {
        for (unsigned round = 0; !stop; ++round) {
            add(source, from, 0, round % 2 ? size : half);
            if (round % 2 == 0) add(source, from, half, size);
            for (int n = 0; n < 30; ++n) std::this_thread::yield();
            device.engine.ram.memory->remove(from, from + size - 1);
        }
    });
    const ContextKey key{device.rid, no_pasid};
    for (int round = 0; round < 200; ++round) {
        const u64 moved = DmaCopy(device.engine.translator, {key, source_at, key, target_at, size}).run().moved;
        equals(static_cast<u64>(std::count(target.begin(), target.end(), 5u)), moved / 8);
        std::fill(target.begin(), target.end(), 0);
    }
    stop = true;
    host.join();
}

}  // namespace
}  // namespace viommu::test

int main() {
    using namespace viommu::test;
    return run({
        {"a copy copies its bytes", copies_bytes},
        {"each page of either side is counted", counts_each_page_of_either_side},
        {"a copy may be done over and over", copies_over_and_over},
        {"it stops where nothing is configured", stops_without_configuration},
        {"it says which side stopped it", says_which_side_stopped_it},
        {"what cannot be reached is handed over", hands_over_where_there_is_no_memory},
        {"a large page is translated once", large_pages_are_asked_for_once},
        {"hits of any context are quick, and right", hits_of_any_context_are_quick},
        {"no word is ever seen in part", words_are_never_torn},
        {"an invalidation waits for what is under way", invalidations_wait_for_copies},
        {"memory may be split meanwhile", memory_may_be_split_meanwhile},
    });
}
