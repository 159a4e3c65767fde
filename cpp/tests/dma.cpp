// DMA in one go: how far it comes, what it counts, and that whoever shares the memory sees whole words.
#include <atomic>
#include <thread>

#include "check.hpp"
#include "engine.hpp"
#include "viommu/dma.hpp"

namespace viommu::test {
namespace {

constexpr u64 page = 0x1000, iova = 0x40'0000'0000, target = 0x1'0000'0000;

// A device whose pages lie in a buffer of their own, in reverse order.
struct Device {
    explicit Device(IotlbGeometry geometry = {}, std::size_t walk_cache_entries = 0, std::size_t pages = 16)
        : engine(geometry, walk_cache_entries), tables(engine.ram, layout::x86), words(pages * page / 8) {
        add(target, words);
        rid = engine.add(tables);
        for (u64 n = 0; n < pages; ++n) tables.map(iova + n * page, target + (pages - 1 - n) * page);
        for (std::size_t n = 0; n < words.size(); ++n) words[n] = n;
    }
    void add(u64 at, std::vector<u64>& memory, bool writable = true) {
        engine.ram.memory->add(
            {at, at + memory.size() * 8 - 1, reinterpret_cast<std::byte*>(memory.data()), writable, nullptr, nullptr});
    }
    void configure() { engine(rid, iova); }
    DmaRequest asked(u64 offset, u64 size, bool writes) { return {{rid, no_pasid}, iova + offset, size, writes}; }
    DmaProgress read(u64 offset, std::vector<u8>& out) { return read(offset, out, out.size()); }
    DmaProgress read(u64 offset, std::vector<u8>& out, u64 length) {
        return Dma(engine.translator, asked(offset, length, false))
            .run(out.size(), [&](std::byte* host, u64 at, u64 count) {
                SharedBytes::read(host, reinterpret_cast<std::byte*>(out.data()) + at, count);
            });
    }
    DmaProgress write(u64 offset, const std::vector<u8>& in) {
        return Dma(engine.translator, asked(offset, in.size(), true))
            .run(in.size(), [&](std::byte* host, u64 at, u64 count) {
                SharedBytes::write(host, reinterpret_cast<const std::byte*>(in.data()) + at, count);
            });
    }
    u8 byte_at(u64 offset) const {
        const u64 pa = (words.size() * 8 / page - 1 - offset / page) * page + offset % page;
        return reinterpret_cast<const u8*>(words.data())[pa];
    }

    Engine engine;
    Tables tables;
    std::vector<u64> words;
    u32 rid = 0;
};

void moves_pages_in_order() {
    for (const std::size_t walk_cache : {0, 16}) {
        Device device({}, walk_cache);
        device.configure();
        std::vector<u8> out(5 * page), in(5 * page);
        for (std::size_t n = 0; n < in.size(); ++n) in[n] = static_cast<u8>(n * 7);
        equals(device.read(123, out).moved, out.size());
        bool same = true;
        for (std::size_t n = 0; n < out.size(); ++n) same &= out[n] == device.byte_at(123 + n);
        check(same, "what is read is what lies there");
        equals(device.write(4321, in).moved, in.size());
        same = true;
        for (std::size_t n = 0; n < in.size(); ++n) same &= in[n] == device.byte_at(4321 + n);
        check(same, "what is written lies there");
        equals(device.engine.counted().translations, 1u + 6 + 6);
    }
}

void stops_without_configuration() {
    Device device;
    std::vector<u8> out(page);
    const DmaProgress progress = device.read(0, out);
    equals(progress.moved, 0u);
    check(!progress.translated, "nobody was asked");
    equals(device.engine.counted().translations, 0u);
    equals(device.engine.resolved, 0u);
}

void hands_a_fault_over() {
    Device device;
    device.configure();
    device.engine.ram[device.tables.entry(iova + 2 * page)] = 0;
    std::vector<u8> out(4 * page);
    const DmaProgress progress = device.read(8, out);
    equals(progress.moved, 2 * page - 8);
    check(progress.translated && progress.result.kind == FaultKind::translation, "the fault is told");
    equals(progress.result.iova, iova + 2 * page);
    equals(device.engine.counted().all_faults(), 1u);
    equals(device.engine.counted().translations, 1u + 3);
}

void hands_over_what_it_cannot_copy() {
    Device device;
    device.configure();
    std::vector<u64> fixed(page / 8, 9);
    device.add(0x2'0000'0000, fixed, false);
    device.tables.map(iova + page, 0x2'0000'0000);
    device.tables.map(iova + 3 * page, 0x3'0000'0000);
    std::vector<u8> bytes(5 * page);
    const DmaProgress written = device.write(0, bytes);
    equals(written.moved, page);
    check(written.translated && written.result.ok(), "read-only memory was translated");
    equals(written.result.pa, 0x2'0000'0000u);
    equals(fixed[0], 9u);
    const DmaProgress read = device.read(0, bytes);
    equals(read.moved, 3 * page);
    check(read.translated && read.result.ok(), "so was a hole");
    equals(device.engine.counted().translations, 1u + 2 + 4);
}

void large_pages_are_asked_for_once() {
    Device device({}, 0, 512);
    device.configure();
    std::vector<u64> large((2 << 20) / 8, 5);
    device.add(0x40'0000'0000, large);
    device.tables.map(iova + (2 << 20), 0x40'0000'0000, 1);
    std::vector<u8> out((2 << 20) + 2 * page);
    equals(device.read((2 << 20) - page, out, out.size() - page).moved, out.size() - page);
    equals(device.engine.counted().translations, 1u + 2);
    equals(out[page], 5u);
}

void only_whole_pages_fit() {
    Device device;
    device.configure();
    std::vector<u8> out(page + 100);
    const DmaProgress progress = device.read(0, out, 3 * page);
    equals(progress.moved, page);
    check(progress.translated && progress.result.iova == iova + page, "the page that does not fit is handed over");
    std::vector<u8> fits(2 * page);
    const DmaProgress full = device.read(0, fits, 3 * page);
    equals(full.moved, 2 * page);
    check(!full.translated, "nobody asks when there is no room");
}

void adjoining_regions() {
    Device device;
    device.configure();
    std::vector<u64> low(64, 1), high(page / 8 - 64, 2);
    device.add(0x5'0000'0000, low);
    device.add(0x5'0000'0000 + 512, high);
    device.tables.map(iova + page, 0x5'0000'0000);
    std::vector<u8> out(2 * page);
    equals(device.read(page - 4, out, page).moved, page);
    equals(out[4], 1u);
    equals(out[4 + 512], 2u);
}

void any_alignment() {
    std::vector<u64> shared(3 * page / 8);
    auto* const host = reinterpret_cast<std::byte*>(shared.data());
    const auto whole = [&] { return std::vector<std::byte>(host, host + shared.size() * 8); };
    for (const std::size_t size : {0, 1, 7, 8, 9, 15, 63, 64, 65, 200, 4095, 4096, 4103, 8192})
        for (std::size_t at = 64; at < 64 + 72; at += 5)
            for (const std::size_t own : {0, 1, 8}) {
                std::vector<std::byte> mine(size + 16), back(size + 16);
                for (std::size_t n = 0; n < mine.size(); ++n) mine[n] = static_cast<std::byte>(n * 31 + size + at);
                std::vector<std::byte> expected = whole();
                std::copy_n(mine.begin() + static_cast<long>(own), size, expected.begin() + static_cast<long>(at));
                SharedBytes::write(host + at, mine.data() + own, size);
                SharedBytes::read(host + at, back.data() + own, size);
                check(whole() == expected, "these bytes are written, and no others");
                check(std::equal(back.begin() + static_cast<long>(own), back.end() - 16 + static_cast<long>(own),
                                 mine.begin() + static_cast<long>(own)),
                      "what was written is read");
            }
}

// Both halves of each word are always alike; a torn word would show. The engine lock must not help here.
template <typename Write, typename Read> unsigned torn_words(Write&& write, Read&& read) {
    std::atomic<bool> stop = false;
    unsigned torn = 0;
    std::thread reader([&] {
        std::vector<u64> seen;
        while (!stop) {
            read(seen);
            for (const u64 word : seen) torn += word >> 32 != (word & 0xFFFF'FFFF);
        }
    });
    for (u64 round = 1; round < 20000; ++round) write(round << 32 | round);
    stop = true;
    reader.join();
    return torn;
}
void words_are_never_torn() {
    constexpr std::size_t size = 1024, odd = 5;  // the buffers of those who copy are not aligned
    std::vector<u64> shared(size + 1);
    auto* const host = reinterpret_cast<std::byte*>(shared.data() + 1);
    const auto load_each = [&](std::vector<u64>& seen) {
        seen.clear();
        for (std::size_t n = 1; n <= size; ++n) seen.push_back(std::atomic_ref(shared[n]).load());
    };
    const auto store_each = [&](u64 word) {
        for (std::size_t n = 1; n <= size; ++n) std::atomic_ref(shared[n]).store(word);
    };
    for (const std::size_t bytes : {std::size_t{1000}, size * 8}) {
        std::vector<std::byte> in(size * 8 + odd), out(size * 8 + odd);
        const auto copy_in = [&](u64 word) {
            for (std::size_t n = 0; n < bytes; n += 8) std::memcpy(in.data() + odd + n, &word, 8);
            SharedBytes::write(host, in.data() + odd, bytes);
        };
        const auto copy_out = [&](std::vector<u64>& seen) {
            SharedBytes::read(host, out.data() + odd, bytes);
            seen.resize(bytes / 8);
            std::memcpy(seen.data(), out.data() + odd, bytes);
        };
        equals(torn_words(copy_in, load_each), 0u);
        equals(torn_words(store_each, copy_out), 0u);
    }
}

// Software takes a page away, invalidates, and then uses the page for itself.
void invalidations_wait_for_dma(unsigned level) {
    Device device({}, 0, 512);
    device.tables.map(iova, target, level);
    const u64 entry = device.tables.entry(iova, level), mapped = device.engine.ram[entry];
    const DmaRequest asked = device.asked(0, page << 9 * level, true);
    device.configure();
    std::atomic<bool> stop = false, ours = false;
    std::atomic<unsigned> moves = 0, wrong = 0;
    std::thread writer([&] {
        while (!stop)
            Dma(device.engine.translator, asked).run(asked.length, [&](std::byte*, u64, u64) {
                ++moves;
                for (int n = 0; n < 100; ++n) wrong += ours;
            });
    });
    const std::atomic_ref<u64> leaf(device.engine.ram[entry]);
    for (int round = 0; round < 300; ++round) {
        for (const unsigned before = moves; moves == before;) std::this_thread::yield();
        leaf = 0;
        device.engine.translator.invalidate_all();
        ours = true;
        std::this_thread::yield();
        ours = false;
        leaf = mapped;
    }
    stop = true;
    writer.join();
    equals(wrong.load(), 0u);
}

}  // namespace
}  // namespace viommu::test

int main() {
    using namespace viommu::test;
    return run({
        {"a DMA moves its pages in order", moves_pages_in_order},
        {"it stops where nothing is configured", stops_without_configuration},
        {"a fault is counted once and handed over", hands_a_fault_over},
        {"what cannot be copied is translated once and handed over", hands_over_what_it_cannot_copy},
        {"a large page is translated once", large_pages_are_asked_for_once},
        {"a page that does not fit is handed over", only_whole_pages_fit},
        {"a page may lie in several regions", adjoining_regions},
        {"bytes are shared at any alignment", any_alignment},
        {"no word is ever seen in part", words_are_never_torn},
        {"an invalidation waits for what is under way", [] { invalidations_wait_for_dma(0); }},
        {"even if that is a large page", [] { invalidations_wait_for_dma(1); }},
    });
}
