#include "forks.hpp"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "blocked.hpp"
#include "channel.hpp"
#include "internal.hpp"
#include "kernel.hpp"
#include "lent_files.hpp"
#include "real.hpp"
#include "regions.hpp"
#include "sharing.hpp"
#include "signals.hpp"
#include "uring.hpp"

namespace viommu::shim {
namespace {

// Whose memory this is. The kernel clears it in a child that gets a copy.
pid_t* owner = nullptr;

pid_t* room_that_children_find_empty() {
    const long room = kernel(SYS_mmap, nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == -1) return nullptr;
    if (!kernel(SYS_madvise, room, 4096, MADV_WIPEONFORK)) return reinterpret_cast<pid_t*>(room);
    kernel(SYS_munmap, room, 4096);
    return nullptr;
}

u64 signals_before = 0;  // of the thread that forks: the locks are its own

pid_t this_process() { return static_cast<pid_t>(kernel(SYS_getpid)); }

__attribute__((constructor(140))) void begin_forks() {
    if (!serviced()) return;
    owner = room_that_children_find_empty();
    if (owner) *owner = this_process();
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

}  // namespace

// The locks in the order in which they are taken elsewhere: who looks through a ring asks, and so may share memory; who
// shares memory keeps files, and listens for signals.
void before_fork() {
    const u64 before = blocked_signals();  // a handler of the program must not meet the locks
    lock_rings();
    before_copies();
    signals_before = before;
    lock_files();
    lock_regions();
    lock_signals();
}
void after_fork_in_parent() {
    unlock_signals();
    unlock_regions();
    unlock_files();
    const u64 before = signals_before;
    copies_in_parent();
    unlock_rings();
    unblock_signals(before);
}
void after_fork_in_child() {
    if (owner) *owner = this_process();
    files_in_child();
    copies_in_child();
    regions_in_child();
    signals_in_child();
    rings_in_child();
    close_internal_in_child();  // the parent's connections are of no use here, and must not outlive their owner
    connections_in_child();
    unblock_signals(signals_before);
}

void notice_child() {
    if (owner && !*owner) after_fork_in_child();
}

bool is_borrower() { return owner && *owner && *owner != this_process(); }

DECLARE_REAL(_Fork)
}  // namespace viommu::shim

using namespace viommu::shim;

// The one fork that calls no handlers.
EXPORT pid_t _Fork() noexcept {
    if (!serviced()) return REAL(_Fork)();
    before_fork();
    const pid_t made = REAL(_Fork)();
    made ? after_fork_in_parent() : after_fork_in_child();
    return made;
}
