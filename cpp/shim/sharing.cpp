#include "sharing.hpp"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>

#include "blocked.hpp"
#include "internal.hpp"
#include "kernel.hpp"
#include "lent_files.hpp"
#include "signals.hpp"

namespace viommu::shim {
namespace {

// The memfds, by inode: memory may be unmapped, moved, grown and split by calls that nobody sees.
constexpr int most_shared = 4096;
AreaFile own[most_shared];
std::atomic<int> own_count = 0;
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

// What is being shared now.
std::atomic<u64> sharing_start = 0, sharing_end = 0;

constexpr u64 most_bytes_to_grow = u64{1} << 40;
constexpr int most_tries = 1000;

u64 stack_of_first_thread = 0;
__attribute__((constructor(155))) void begin_sharing() {
    stack_of_first_thread = reinterpret_cast<u64>(__builtin_frame_address(0));
}

bool holds(const Area& area, u64 address) { return area.start <= address && address < area.end; }

// A stack is left alone: its thread has nowhere to wait while it is being copied.
bool can_be_shared(const Area& area) {
    return !(area.rights & shared) && !area.file.inode &&
           (area.rights & (readable | writable)) == (readable | writable) && !holds(area, stack_of_first_thread) &&
           !holds(area, reinterpret_cast<u64>(__builtin_frame_address(0)));
}

bool all_can_be_shared(u64 start, u64 end) {
    Areas areas;
    Area area;
    for (u64 at = start; at < end; at = area.end)
        if (!areas.at(at, area) || !can_be_shared(area)) return false;
    return true;
}

// Without the lock as well: from the last to the first, since those that stay only move towards the first meanwhile.
bool is_own(const AreaFile& file) {
    for (int index = own_count; index-- > 0;)
        if (own[index] == file) return true;
    return false;
}

// The lock is held.
void forget_unmapped() {
    int left = 0;
    for (int index = 0; index < own_count; ++index)
        if (kept_descriptor(own[index]) >= 0) own[left++] = own[index];
    own_count = left;
}

// Memory may grow where it lies (realloc), so that the memfd is as large as it can become.
u64 size_for(u64 length) {
    rlimit limit{};
    kernel(SYS_prlimit64, 0, RLIMIT_FSIZE, nullptr, &limit);
    return length > most_bytes_to_grow || limit.rlim_cur < most_bytes_to_grow ? length : most_bytes_to_grow;
}

long map_file(u64 start, u64 length, int fd, int flags) {
    return kernel(SYS_mmap, start, length, PROT_READ | PROT_WRITE, flags, fd, 0);
}

// Only who stores meanwhile is stopped. The caller says so beforehand by sharing_start.
bool replace(u64 start, u64 length, int fd) {
    const long copy = map_file(0, length, fd, MAP_SHARED);
    if (copy == -1) return false;
    bool done = !kernel(SYS_mprotect, start, length, PROT_READ);
    if (done) {
        memcpy(reinterpret_cast<void*>(copy), reinterpret_cast<const void*>(start), length);
        done = map_file(start, length, fd, MAP_SHARED | MAP_FIXED) != -1;
        if (!done) kernel(SYS_mprotect, start, length, PROT_READ | PROT_WRITE);
    }
    kernel(SYS_munmap, copy, length);
    return done;
}

// The lock is held; there is room in the list.
bool share(u64 start, u64 length, int fd) {
    struct stat status;
    if (kernel(SYS_fstat, fd, &status) || !keep_file(fd)) return false;
    own[own_count] = {status.st_dev, status.st_ino};
    ++own_count;  // first: who is stopped looks here
    listen_for_faults();
    sharing_end = start + length, sharing_start = start;
    const bool done = replace(start, length, fd);
    sharing_start = 0;
    if (!done) --own_count;
    return done;
}

int protection(u64 rights) { return (rights & readable ? PROT_READ : 0) | (rights & writable ? PROT_WRITE : 0); }

long fresh(u64 start, u64 length, int rights, int flags) {
    return kernel(SYS_mmap, start, length, rights, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

// What lies in a file, hole by hole, so that what nobody wrote costs nothing.
void read_file(int fd, u64 offset, u64 length, long into) {
    const auto end = static_cast<long>(offset + length);
    for (long at = static_cast<long>(offset); at < end;) {
        const long data = kernel(SYS_lseek, fd, at, SEEK_DATA);
        if (data < 0 || data >= end) return;
        const long hole = kernel(SYS_lseek, fd, data, SEEK_HOLE);
        for (at = data; at < hole && at < end;) {
            const long most = (hole < end ? hole : end) - at;
            const long got = kernel(SYS_pread64, fd, into + (at - static_cast<long>(offset)), most, at);
            if (got <= 0) return;
            at += got;
        }
    }
}

void copy_area(const Area& area) {
    const u64 length = area.end - area.start;
    const int fd = kept_descriptor(area.file);
    const long copy = fresh(0, length, PROT_READ | PROT_WRITE, 0);
    if (fd < 0 || copy == -1) return;
    read_file(fd, area.offset, length, copy);
    kernel(SYS_mprotect, copy, length, protection(area.rights));
    kernel(SYS_mremap, copy, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, area.start);
}

// Over it a child says that it has its copies; without one nobody waits.
int ends[2] = {-1, -1};

void close_end(int which) {
    if (ends[which] >= 0) kernel(SYS_close, ends[which]);
    ends[which] = -1;
}

}  // namespace

bool share_memory(u64 start, u64 end) {
    const Locked locked(lock);
    if (own_count == most_shared) forget_unmapped();
    if (own_count == most_shared || start >= end || !all_can_be_shared(start, end)) return false;
    const int fd = make_shared_memory(size_for(end - start));
    if (fd < 0) return false;
    const bool done = share(start, end - start, fd);
    kernel(SYS_close, fd);
    return done;
}

// Of a thread that was stopped just before the sharing ended, nothing is left to see but memory that may be stored to.
bool waited_for_sharing(u64 address) {
    static __thread u64 last_address;
    static __thread int tries;
    if (!has_shared()) return false;
    for (u64 start; (start = sharing_start) && address - start < sharing_end - start;) sched_yield();
    Area area;
    if (!find_area(address, area) || !was_private(area) || !(area.rights & writable)) return false;
    tries = address == last_address ? tries + 1 : 0;  // no fault of sharing, where it goes on and on
    last_address = address;
    return tries < most_tries;
}

bool has_shared() { return own_count; }

// Without the lock, which is held while threads are stopped.
bool was_private(const Area& area) { return area.file.inode && is_own(area.file); }

bool empty_memory(u64 start, u64 end) {
    Areas areas;
    Area area;
    for (u64 at = start; at < end && areas.next(at, area) && area.start < end; at = area.end) {
        if (!was_private(area)) continue;
        const u64 from = area.start > start ? area.start : start, to = area.end < end ? area.end : end;
        if (fresh(from, to - from, protection(area.rights), MAP_FIXED) == -1) return false;
    }
    return true;
}

void tidy_shared() {
    const Locked locked(lock);
    forget_unmapped();
}

void before_copies() {
    pthread_mutex_lock(&lock);
    if (own_count) open_for_us([] { return static_cast<int>(kernel(SYS_pipe2, ends, O_CLOEXEC)); });
}

void copies_in_parent() {
    close_end(1);
    char byte;
    while (ends[0] >= 0 && kernel(SYS_read, ends[0], &byte, 1) < 0 && errno == EINTR) {
    }
    close_end(0);
    pthread_mutex_unlock(&lock);
}

void copies_in_child() {
    close_end(0);
    Areas areas;
    Area area;
    for (u64 at = 0; own_count && areas.next(at, area); at = area.end)
        if (was_private(area)) copy_area(area);
    own_count = 0;
    if (ends[1] >= 0) kernel(SYS_write, ends[1], "", 1);
    close_end(1);
    lock = PTHREAD_MUTEX_INITIALIZER;
}

}  // namespace viommu::shim
