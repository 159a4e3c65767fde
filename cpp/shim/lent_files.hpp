// Files that the program has mapped shared: descriptors of them, by which the service maps them too.
#pragma once

#include <cstddef>

#include "areas.hpp"

namespace viommu::shim {

// A descriptor of the file that an area shows, or -1. `ours`: it was opened now and is the caller's.
int descriptor_of(const Area& area, bool& ours);

// Shared memory without a name, as a memfd of a size that stays. -1 and errno.
int make_shared_memory(std::size_t size);

// Keeps a descriptor of a file that the program mapped shared, for as long as it is mapped: it may have no name soon.
// False where it is not kept; a file on disk is found again by its name.
bool keep_file(int fd);

// One that is kept, or -1.
int kept_descriptor(const AreaFile& file);

// Whether a stretch shows something that tidy_files() looks after.
bool shows_kept(u64 start, std::size_t length);

// Something was unmapped: forgets what is mapped no more.
void tidy_files();

// Around fork.
void lock_files();
void unlock_files();
void files_in_child();

}  // namespace viommu::shim
