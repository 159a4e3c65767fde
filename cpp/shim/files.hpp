// Which descriptors of the program are the service's files.
#pragma once

#include "wire.hpp"

namespace viommu::shim {

// Takes note that a descriptor may be one: it was given out, copied, inherited or received. A mark is only a hint, so
// that closing needs no care.
void mark(int fd);
void unmark(int fd);
bool is_marked(int fd);
// What dup made.
inline void mark_copy(int from, int to) {
    if (to >= 0 && is_marked(from))
        mark(to);
    else if (to >= 0)
        unmark(to);
}

// The number by which the service knows the file behind a descriptor (its inode), 0 where it cannot be one.
u64 file_number(int fd);
// The same, looked at only where it is marked: what costs most descriptors nothing.
u64 marked_file(int fd);

}  // namespace viommu::shim
