// In front of liburing, which calls the kernel itself: what would use a file of the service is refused, as the kernel
// refuses what a file cannot do.
#include <errno.h>

#include "kernel.hpp"
#include "real.hpp"
#include "uring.hpp"

// liburing's own, as far as it is looked at: the layout is that of all its releases.
struct io_uring_sq {
    unsigned* head;
    unsigned* tail;
    unsigned* mask;
    unsigned* entry_count;
    unsigned* flags;
    unsigned* dropped;
    unsigned* array;
    io_uring_sqe* entries;
    unsigned first, end;  // filled in, and not yet submitted
};
struct io_uring {
    io_uring_sq queue;
};
struct io_uring_cqe;
struct __kernel_timespec;

extern "C" {
int io_uring_submit(io_uring*);
int io_uring_submit_and_wait(io_uring*, unsigned);
int io_uring_submit_and_wait_timeout(io_uring*, io_uring_cqe**, unsigned, __kernel_timespec*, sigset_t*);
int io_uring_submit_and_get_events(io_uring*);
int io_uring_register_files(io_uring*, const int*, unsigned);
int io_uring_register_files_tags(io_uring*, const int*, const __u64*, unsigned);
int io_uring_register_files_update(io_uring*, unsigned, const int*, unsigned);
int io_uring_register_files_update_tag(io_uring*, unsigned, const int*, const __u64*, unsigned);
}

namespace viommu::shim {

DECLARE_REAL(io_uring_submit)
DECLARE_REAL(io_uring_submit_and_wait)
DECLARE_REAL(io_uring_submit_and_wait_timeout)
DECLARE_REAL(io_uring_submit_and_get_events)
DECLARE_REAL(io_uring_register_files)
DECLARE_REAL(io_uring_register_files_tags)
DECLARE_REAL(io_uring_register_files_update)
DECLARE_REAL(io_uring_register_files_update_tag)

namespace {

bool fills_in_ours(const io_uring* ring) {
    const io_uring_sq& queue = ring->queue;
    for (unsigned at = queue.first; at != queue.end; ++at)
        if (uses_ours(queue.entries[at & *queue.mask])) return true;
    return false;
}

int refused() {
    tell_of_refusal();
    return -EOPNOTSUPP;
}

template <typename Function, typename... Rest> int submit(Function& really, io_uring* ring, Rest... rest) {
    return fills_in_ours(ring) ? refused() : really(ring, rest...);
}

template <typename Function, typename... All>
int register_files(Function& really, const int* files, unsigned count, All... all) {
    return registers_ours(IORING_REGISTER_FILES, files, count) ? refused() : really(all...);
}

}  // namespace
}  // namespace viommu::shim

using namespace viommu::shim;

EXPORT int io_uring_submit(io_uring* ring) { return submit(REAL(io_uring_submit), ring); }
EXPORT int io_uring_submit_and_wait(io_uring* ring, unsigned count) {
    return submit(REAL(io_uring_submit_and_wait), ring, count);
}
EXPORT int io_uring_submit_and_wait_timeout(io_uring* ring, io_uring_cqe** done, unsigned count,
                                            __kernel_timespec* timeout, sigset_t* mask) {
    return submit(REAL(io_uring_submit_and_wait_timeout), ring, done, count, timeout, mask);
}
EXPORT int io_uring_submit_and_get_events(io_uring* ring) { return submit(REAL(io_uring_submit_and_get_events), ring); }
EXPORT int io_uring_register_files(io_uring* ring, const int* files, unsigned count) {
    return register_files(REAL(io_uring_register_files), files, count, ring, files, count);
}
EXPORT int io_uring_register_files_tags(io_uring* ring, const int* files, const __u64* tags, unsigned count) {
    return register_files(REAL(io_uring_register_files_tags), files, count, ring, files, tags, count);
}
EXPORT int io_uring_register_files_update(io_uring* ring, unsigned offset, const int* files, unsigned count) {
    return register_files(REAL(io_uring_register_files_update), files, count, ring, offset, files, count);
}
EXPORT int io_uring_register_files_update_tag(io_uring* ring, unsigned offset, const int* files, const __u64* tags,
                                              unsigned count) {
    return register_files(REAL(io_uring_register_files_update_tag), files, count, ring, offset, files, tags, count);
}
