// The program's memory: what is mapped where, and descriptors of shared memory, by which the service maps it too.
#pragma once

#include <cstddef>

#include "wire.hpp"

namespace viommu::shim {

// Which file an area shows.
struct AreaFile {
    u64 device;
    u64 inode;
};

// What is mapped around an address (bytes).
struct Area {
    u64 start, end;
    u64 rights;
    u64 offset;  // of `start` in the file
    AreaFile file;
};

bool find_area(u64 address, Area& found);

// A descriptor of the file that an area shows, or -1. `ours`: it was opened now and is the caller's.
int descriptor_of(const Area& area, bool& ours);

// Shared memory without a name, as a memfd: a descriptor that is kept as long as the memory is mapped. -1 and errno.
int make_shared_memory(std::size_t length);

// Turns private anonymous memory into a memfd's, for devices to reach: all of [start, end), or nothing and false. The
// program sees no difference: threads that store to it meanwhile wait, and a child gets a copy of its own.
bool share_memory(u64 start, u64 end);

// A thread stored to memory that is just being shared: it may try again.
bool waited_for_sharing(u64 address);

// Keeps a descriptor of a file that the program mapped shared, for as long as it is mapped.
void keep_file(int fd);

// Something was unmapped: forgets what is mapped no more.
void tidy_files();

}  // namespace viommu::shim
