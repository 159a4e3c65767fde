// What becomes of this library where one process becomes two.
#pragma once

namespace viommu::shim {

// Around what makes a child with memory of its own; the C library's fork calls them itself.
void before_fork();
void after_fork_in_parent();
void after_fork_in_child();

// Finds out whether this is a child of which nobody told us, because a system call made it.
void notice_child();

// Whether this is a child on its parent's memory (vfork), which has descriptors of its own all the same.
bool is_borrower();

}  // namespace viommu::shim
