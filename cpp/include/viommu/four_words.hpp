// Four words beside each other, looked at at once.
#pragma once

#if defined(__SSE4_1__)
#include <smmintrin.h>
#endif

#include "viommu/types.hpp"

namespace viommu {

// Which of four words, that begin at a multiple of 16 bytes, are `wanted`: bits.
[[gnu::always_inline]] inline unsigned match_of_four(const u64* words, u64 wanted) {
#if defined(__SSE4_1__)
    const __m128i all = _mm_set1_epi64x(static_cast<long long>(wanted));
    const auto* const pairs = reinterpret_cast<const __m128i*>(words);
    const auto equal = [&](const __m128i& pair) {
        return static_cast<unsigned>(_mm_movemask_pd(_mm_castsi128_pd(_mm_cmpeq_epi64(pair, all))));
    };
    return equal(pairs[0]) | equal(pairs[1]) << 2;
#else
    return unsigned{words[0] == wanted} | unsigned{words[1] == wanted} << 1 | unsigned{words[2] == wanted} << 2 |
           unsigned{words[3] == wanted} << 3;
#endif
}

// Whether all four are `wanted` in the bits of `mask`.
[[gnu::always_inline]] inline bool all_four_are(const u64* words, u64 wanted, u64 mask) {
#if defined(__SSE4_1__)
    const __m128i all = _mm_set1_epi64x(static_cast<long long>(wanted));
    const auto* const pairs = reinterpret_cast<const __m128i*>(words);
    const __m128i differ = _mm_or_si128(_mm_xor_si128(pairs[0], all), _mm_xor_si128(pairs[1], all));
    return _mm_testz_si128(differ, _mm_set1_epi64x(static_cast<long long>(mask)));
#else
    return !(((words[0] ^ wanted) | (words[1] ^ wanted) | (words[2] ^ wanted) | (words[3] ^ wanted)) & mask);
#endif
}

}  // namespace viommu
