// The one hash of the caches. Two multiplications: sequential, strided and random pages all spread evenly.
#pragma once

#include "viommu/types.hpp"

namespace viommu {

constexpr u64 avalanche(u64 x) {
    x ^= x >> 32;
    x *= 0xD6E8'FEB8'6659'FD93;
    x ^= x >> 32;
    x *= 0xD6E8'FEB8'6659'FD93;
    return x ^ x >> 32;
}

}  // namespace viommu
