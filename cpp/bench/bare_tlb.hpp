// The yardstick of a hit: a tagged probe that does the memory work and nothing else.
#pragma once

#if defined(__SSE4_1__)
#include <smmintrin.h>
#endif

#include <algorithm>
#include <bit>
#include <span>

#include "huge.hpp"

namespace viommu::bench {

// Pages to frames: four ways of 16 bytes, a cache line a set. No way is guessed at: all four are compared at once.
class BareTlb {
public:
    explicit BareTlb(std::size_t entries)
        : shift_(64 - static_cast<unsigned>(std::countr_zero(entries / 4))), sets_(entries / 4) {}

    void insert(u64 page, u64 frame) {
        Set& set = sets_[index(page)];
        unsigned way = 0;
        while (way < 3 && set.keys[way]) ++way;
        set.keys[way] = key_of(page);
        set.frames[way] = frame;
    }
    // 0: not here.
    [[gnu::always_inline]] u64 frame(u64 page) const {
        const Set& set = sets_[index(page)];
#if defined(__SSE4_1__)
        const auto* const pairs = reinterpret_cast<const __m128i*>(&set);
        const __m128i key = _mm_set1_epi64x(static_cast<long long>(key_of(page)));
        const __m128i found = _mm_or_si128(_mm_and_si128(_mm_cmpeq_epi64(pairs[0], key), pairs[2]),
                                           _mm_and_si128(_mm_cmpeq_epi64(pairs[1], key), pairs[3]));
        return static_cast<u64>(_mm_cvtsi128_si64(found)) | static_cast<u64>(_mm_extract_epi64(found, 1));
#else
        u64 found = 0;
        for (unsigned way = 0; way < 4; ++way) found |= set.keys[way] == key_of(page) ? set.frames[way] : 0;
        return found;
#endif
    }
    // One probe as others would call it.
    [[gnu::noinline]] bool find(u64 iova, u64& pa) const {
        const u64 at = frame(iova >> 12);
        pa = at | (iova & 0xFFF);
        return at != 0;
    }
    // Many: each row's set is on its way while those of the rows before it are looked at.
    void find_all(std::span<const u64> iovas, u64* out) const {
        constexpr std::size_t ahead = 32;
        const std::size_t last = iovas.size() - 1;
        for (std::size_t row = 0; row <= last; ++row) {
            __builtin_prefetch(&sets_[index(iovas[std::min(row + ahead, last)] >> 12)]);
            out[row] = frame(iovas[row] >> 12) | (iovas[row] & 0xFFF);
        }
    }
    [[gnu::noinline]] void drop(u64 page) {
        Set& set = sets_[index(page)];
        for (u64& key : set.keys)
            if (key == key_of(page)) key = 0;
    }

private:
    struct alignas(64) Set {
        u64 keys[4], frames[4];
    };
    static u64 key_of(u64 page) { return page << 16 | tag; }
    std::size_t index(u64 page) const { return page * 0x9E37'79B9'7F4A'7C15 >> shift_; }

    static constexpr u64 tag = 1;  // the one address space
    unsigned shift_;
    HugeVector<Set> sets_;
};

}  // namespace viommu::bench
