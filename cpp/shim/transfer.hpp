// Reading and writing files of the service.
#pragma once

#include <errno.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "wire.hpp"

namespace viommu::shim {

// What a call gives for an answer of the service: the result, or -1 and errno.
inline long answered(i64 result) {
    if (result >= 0) return result;
    errno = static_cast<int>(-result);
    return -1;
}

inline u64 address_of(const volatile void* buffer) { return reinterpret_cast<u64>(buffer); }

// Moves bytes of a file of the service; false where it is none, and the kernel is to be asked.
bool transfer(Op op, int fd, u64 address, size_t count, off_t position, long& result);

// The same for several pieces, one after the other, as far as each is filled.
bool transfer_pieces(Op op, int fd, const iovec* pieces, int count, off_t position, long& result);

}  // namespace viommu::shim
