// Memory that is the program's alone, and that devices reach: a memfd takes its place, and the program sees no
// difference.
#pragma once

#include <cstddef>

#include "areas.hpp"

namespace viommu::shim {

// Turns private anonymous memory into a memfd's: all of [start, end), or nothing and false. Threads that store to it
// meanwhile wait.
bool share_memory(u64 start, u64 end);

// A thread was refused a store to memory that is being shared, or just was: it may try again.
bool waited_for_sharing(u64 address);

// Whether an area was private before.
bool was_private(const Area& area);
// Whether any was.
bool has_shared();

// Puts memory without content in the place of memory that was private before, as MADV_DONTNEED does of such: devices
// keep what they have.
bool empty_memory(u64 start, u64 end);

// Something was unmapped: forgets what is mapped no more. After tidy_files().
void tidy_shared();

// Around fork: a child gets a copy of its own, and its parent goes on only once it has it.
void before_copies();
void copies_in_parent();
void copies_in_child();

}  // namespace viommu::shim
