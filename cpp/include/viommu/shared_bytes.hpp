// Copies between memory that others may use meanwhile and a buffer of one's own. A 64-bit word that somebody stores
// whole is read whole, and one that is written whole is seen whole. Words are taken in ascending order; of a write of a
// page or more it is only the last line that must come last.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>

#include "viommu/thread_sanitizer.hpp"
#include "viommu/types.hpp"

// x86 moves an aligned pair of words with no word torn, and keeps loads and stores in order. What ThreadSanitizer is to
// understand must be atomic to the compiler, too.
#if defined(__x86_64__) && !VIOMMU_THREAD_SANITIZER
#define VIOMMU_WORDS_IN_PAIRS
#endif

namespace viommu {

class SharedBytes {
public:
    // `host` need not be aligned; the words that hold its first and last byte belong to the same memory.
    static void read(const std::byte* host, std::byte* out, std::size_t size) {
        copy(const_cast<std::byte*>(host), size, [&](std::byte* at, std::size_t offset, std::size_t count) {
            if (count < word_size) {
                const u64 value = word(at).load(std::memory_order_acquire);
                std::memcpy(out, reinterpret_cast<const std::byte*>(&value) + offset, count);
            } else {
                read_whole(at, out, count);
            }
            out += count;
        });
    }
    static void write(std::byte* host, const std::byte* in, std::size_t size) {
        copy(host, size, [&](std::byte* at, std::size_t offset, std::size_t count) {
            if (count < word_size)
                replace(at, offset, in, count);
            else
                write_whole(at, in, count);
            in += count;
        });
    }
    // From such memory to such memory; what lies on both sides is copied in ascending order, a page at a time at most.
    static void move(std::byte* to, const std::byte* from, std::size_t size) {
        std::byte held[4096];
        const auto by_way_of_held = [&](std::size_t end, std::size_t& done) {
            while (done < end) {
                const std::size_t count = std::min(end - done, sizeof held);
                read(from + done, held, count);
                write(to + done, held, count);
                done += count;
            }
        };
        std::size_t done = 0;
#ifdef VIOMMU_WORDS_IN_PAIRS
        const auto place = reinterpret_cast<std::uintptr_t>(to);
        const bool in_step = (place - reinterpret_cast<std::uintptr_t>(from)) % word_size == 0;
        if (in_step && size >= page_size) {
            by_way_of_held(-place % line_size, done);
            done += write_lines(to + done, from + done, (size - done - 1) / line_size * line_size);
        }
#endif
        by_way_of_held(size, done);
    }

private:
    static constexpr std::size_t word_size = sizeof(u64);
#ifdef VIOMMU_WORDS_IN_PAIRS
    using Pair [[gnu::may_alias, gnu::vector_size(16)]] = u64;

    // Volatile: not to be split, joined, or taken for a memcpy, which promises nothing of words.
    static volatile Pair& pair(std::byte* at, unsigned index) { return reinterpret_cast<volatile Pair*>(at)[index]; }

    // A string operation need not fetch the lines that it fills, which is a third of the time. Its words are whole, but
    // become visible in any order; what is stored after it becomes visible after all of them.
    static std::size_t write_lines(std::byte* to, const std::byte* from, std::size_t size) {
        std::size_t words = size / word_size;
        asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
        return size;
    }
    static constexpr std::size_t page_size = 4096, line_size = 64;
#endif

    static std::atomic_ref<u64> word(std::byte* at) { return std::atomic_ref<u64>(*reinterpret_cast<u64*>(at)); }

    // Calls each(word, offset in it, bytes): for part of a first word, for all whole words, for part of a last one.
    template <typename Each> static void copy(std::byte* host, std::size_t size, Each&& each) {
        if (const std::size_t offset = reinterpret_cast<std::uintptr_t>(host) % word_size; offset && size) {
            const std::size_t count = std::min(size, word_size - offset);
            each(host - offset, offset, count);
            host += count;
            size -= count;
        }
        if (const std::size_t whole = size & ~(word_size - 1)) each(host, 0, whole);
        if (const std::size_t rest = size % word_size) each(host + (size - rest), 0, rest);
    }

    static void replace(std::byte* at, std::size_t offset, const std::byte* in, std::size_t count) {
        const std::atomic_ref<u64> shared = word(at);
        u64 before = shared.load(std::memory_order_acquire), after;
        do {
            after = before;
            std::memcpy(reinterpret_cast<std::byte*>(&after) + offset, in, count);
        } while (!shared.compare_exchange_weak(before, after));
    }

    static void read_whole(std::byte* host, std::byte* out, std::size_t size) {
        std::size_t done = 0;
#ifdef VIOMMU_WORDS_IN_PAIRS
        if (reinterpret_cast<std::uintptr_t>(host) % sizeof(Pair)) read_word(host, out, done);
        for (; size - done >= 4 * sizeof(Pair); done += 4 * sizeof(Pair)) {
            const Pair a = pair(host + done, 0), b = pair(host + done, 1), c = pair(host + done, 2),
                       d = pair(host + done, 3);
            std::memcpy(out + done, &a, sizeof a);
            std::memcpy(out + done + 1 * sizeof(Pair), &b, sizeof b);
            std::memcpy(out + done + 2 * sizeof(Pair), &c, sizeof c);
            std::memcpy(out + done + 3 * sizeof(Pair), &d, sizeof d);
        }
#endif
        while (done < size) read_word(host, out, done);
    }
    static void write_whole(std::byte* host, const std::byte* in, std::size_t size) {
        std::size_t done = 0;
#ifdef VIOMMU_WORDS_IN_PAIRS
        if (size >= page_size) {
            while (reinterpret_cast<std::uintptr_t>(host + done) % line_size) write_word(host, in, done);
            done += write_lines(host + done, in + done, (size - done - 1) / line_size * line_size);
        }
        if (reinterpret_cast<std::uintptr_t>(host + done) % sizeof(Pair) && done < size) write_word(host, in, done);
        for (; size - done >= 4 * sizeof(Pair); done += 4 * sizeof(Pair)) {
            Pair four[4];
            std::memcpy(four, in + done, sizeof four);
            for (unsigned i = 0; i < 4; ++i) pair(host + done, i) = four[i];
        }
#endif
        while (done < size) write_word(host, in, done);
    }
    static void read_word(std::byte* host, std::byte* out, std::size_t& done) {
        const u64 value = word(host + done).load(std::memory_order_acquire);
        std::memcpy(out + done, &value, word_size);
        done += word_size;
    }
    static void write_word(std::byte* host, const std::byte* in, std::size_t& done) {
        u64 value;
        std::memcpy(&value, in + done, word_size);
        word(host + done).store(value, std::memory_order_release);
        done += word_size;
    }
};

}  // namespace viommu
