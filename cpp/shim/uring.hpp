// io_uring works on descriptors without a call that anybody could stand in front of, and would find a socket where the
// program has a file of the service. It is refused for those; others go on.
#pragma once

#include <linux/io_uring.h>

namespace viommu::shim {

// A ring was made: its queue is looked at from now on. A negative number, or one that cannot be mapped, is left alone.
void note_ring(int ring, const io_uring_params* made);
// A descriptor is closed, which may be a ring's.
void forget_ring(int fd);

// Whether the next `count` entries of a ring's queue use a file of the service.
bool submits_ours(int ring, unsigned count);

// Whether files are to be registered (io_uring_register) of which one is the service's.
bool registers_ours(unsigned operation, const void* argument, unsigned count);

// Whether one entry uses a file of the service.
bool uses_ours(const io_uring_sqe& entry);

// Around fork.
void lock_rings();
void unlock_rings();
void rings_in_child();

// Tells the service, and so the log, that io_uring was refused: once.
void tell_of_refusal();

}  // namespace viommu::shim
