#include "areas.hpp"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <atomic>

#include "channel.hpp"
#include "kernel.hpp"
#include "mmio.hpp"
#include "viommu/map_query.hpp"

namespace viommu::shim {

namespace {

struct Kept {
    AreaFile file;
    int fd;
};
constexpr int most_kept = 4096;
Kept kept[most_kept];
int kept_count = 0;
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

class Locked {
public:
    Locked() { pthread_mutex_lock(&lock); }
    ~Locked() { pthread_mutex_unlock(&lock); }
};

int kept_descriptor(const AreaFile& file);

// Memory that was the program's own before it was shared.
struct Shared {
    u64 start, end;
    AreaFile file;
};
constexpr int most_shared = 4096;
Shared own[most_shared];
int own_count = 0;
std::atomic<u64> sharing_start = 0, sharing_end = 0;

bool is_private(const Area& area) {
    return !(area.rights & shared) && !area.file.inode &&
           (area.rights & (readable | writable)) == (readable | writable);
}

// Not where this thread stands: it would store to what is being copied.
bool is_own_stack(const Area& area) {
    const u64 here = reinterpret_cast<u64>(__builtin_frame_address(0));
    return area.start <= here && here < area.end;
}

void* map_file(u64 start, u64 length, int fd, u64 offset, int flags) {
    return reinterpret_cast<void*>(
        kernel(SYS_mmap, start, length, PROT_READ | PROT_WRITE, flags, fd, static_cast<off_t>(offset)));
}

// A child's memory is a copy of its parent's: what was private before gets one.
void unshare_in_child() {
    for (int index = 0; index < own_count; ++index) {
        const Shared& one = own[index];
        const u64 length = one.end - one.start;
        const int fd = kept_descriptor(one.file);
        const u64 copy = static_cast<u64>(
            kernel(SYS_mmap, nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (fd < 0 || copy == ~u64{0}) continue;
        memcpy(reinterpret_cast<void*>(copy), reinterpret_cast<void*>(one.start), length);
        kernel(SYS_mremap, copy, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, one.start);
    }
    own_count = 0;
}

// A child must find the list whole, and the lock free.
__attribute__((constructor(160))) void begin_areas() {
    pthread_atfork([] { pthread_mutex_lock(&lock); }, [] { pthread_mutex_unlock(&lock); },
                   [] {
                       unshare_in_child();
                       pthread_mutex_unlock(&lock);
                   });
}

bool same(const AreaFile& one, const AreaFile& other) { return one.device == other.device && one.inode == other.inode; }

int kept_descriptor(const AreaFile& file) {
    for (int index = 0; index < kept_count; ++index)
        if (same(kept[index].file, file)) return kept[index].fd;
    return -1;
}

// The lock is held.
void keep(int fd) {
    struct stat status;
    if (kernel(SYS_fstat, fd, &status) || !S_ISREG(status.st_mode)) return;
    const AreaFile file{status.st_dev, status.st_ino};
    if (kept_count == most_kept || kept_descriptor(file) >= 0) return;
    const int copy = static_cast<int>(kernel(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0));
    if (copy < 0) return;
    const int own = make_internal(copy);
    keep_internal_over_fork(own);
    kept[kept_count++] = {file, own};
}

int open_really(const char* path, int flags) { return static_cast<int>(kernel(SYS_openat, AT_FDCWD, path, flags, 0)); }

// Lines of /proc/self/maps, read without the C library's files, which the program may be in the middle of.
template <typename Each> void each_area(Each&& each) {
    const int file = open_really("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    char text[8192];
    size_t held = 0;
    bool goes_on = true;
    for (long got; goes_on && (got = kernel(SYS_read, file, text + held, sizeof text - 1 - held)) > 0;) {
        held += static_cast<size_t>(got);
        text[held] = 0;
        char* line = text;
        for (char* end; goes_on && (end = strchr(line, '\n')); line = end + 1) {
            *end = 0;
            unsigned long start, last, offset, inode;
            unsigned device_major, device_minor;
            char rights[5];
            if (sscanf(line, "%lx-%lx %4s %lx %x:%x %lu", &start, &last, rights, &offset, &device_major, &device_minor,
                       &inode) != 7)
                continue;
            const u64 allowed =
                (rights[0] == 'r' ? readable : 0) | (rights[1] == 'w' ? writable : 0) | (rights[3] == 's' ? shared : 0);
            goes_on = each(Area{start, last, allowed, offset, {makedev(device_major, device_minor), inode}});
        }
        held = strlen(line);
        memmove(text, line, held);
    }
    kernel(SYS_close, file);
}

bool ask_kernel(u64 address, Area& found, bool& known) {
    const int file = open_really("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (file < 0) return false;
    MapQuery query;
    query.query_address = address;
    const long failed = kernel(SYS_ioctl, file, map_query_number, &query);
    const int why = errno;
    kernel(SYS_close, file);
    known = !failed;
    if (failed) return why == ENOENT;
    const u64 rights = (query.flags & MapQuery::readable ? readable : 0) |
                       (query.flags & MapQuery::writable ? writable : 0) |
                       (query.flags & MapQuery::shared ? shared : 0);
    found = {
        query.start, query.end, rights, query.offset, {makedev(query.device_major, query.device_minor), query.inode}};
    return true;
}

}  // namespace

bool find_area(u64 address, Area& found) {
    bool known = false;
    if (ask_kernel(address, found, known)) return known;
    each_area([&](const Area& area) {
        if (area.start > address || address >= area.end) return area.end <= address;
        found = area;
        known = true;
        return false;
    });
    return known;
}

int descriptor_of(const Area& area, bool& ours) {
    {
        const Locked locked;
        const int fd = kept_descriptor(area.file);
        if (fd >= 0) {
            ours = false;
            return fd;
        }
    }
    char path[64];
    snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", area.start, area.end);
    ours = true;
    const int fd = open_really(path, (area.rights & writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    return fd;
}

int make_shared_memory(std::size_t length) {
    const int fd = memfd_create("viommu shared memory", MFD_CLOEXEC);
    if (fd < 0) return -1;
    if (kernel(SYS_ftruncate, fd, length)) {
        kernel(SYS_close, fd);
        errno = ENOMEM;
        return -1;
    }
    return fd;
}

bool share_memory(u64 start, u64 end) {
    const Locked locked;
    if (own_count == most_shared) return false;
    for (u64 at = start; at < end;) {
        Area area;
        if (!find_area(at, area) || !is_private(area) || is_own_stack(area)) return false;
        at = area.end;
    }
    const u64 length = end - start;
    const int fd = make_shared_memory(length);
    if (fd < 0) return false;
    listen_for_faults();
    void* const copy = map_file(0, length, fd, 0, MAP_SHARED);
    sharing_end = end, sharing_start = start;
    bool done = copy != MAP_FAILED && !kernel(SYS_mprotect, start, length, PROT_READ);
    if (done) {
        memcpy(copy, reinterpret_cast<const void*>(start), length);
        done = map_file(start, length, fd, 0, MAP_SHARED | MAP_FIXED) != MAP_FAILED;
        if (!done) kernel(SYS_mprotect, start, length, PROT_READ | PROT_WRITE);
    }
    sharing_start = 0;
    if (copy != MAP_FAILED) kernel(SYS_munmap, copy, length);
    if (done) {
        keep(fd);
        struct stat status;
        if (!kernel(SYS_fstat, fd, &status)) own[own_count++] = {start, end, {status.st_dev, status.st_ino}};
    }
    kernel(SYS_close, fd);
    return done;
}

bool waited_for_sharing(u64 address) {
    const u64 start = sharing_start;
    if (!start || address - start >= sharing_end - start) return false;
    while (sharing_start == start) sched_yield();
    return true;
}

void keep_file(int fd) {
    const Locked locked;
    keep(fd);
}

void tidy_files() {
    const int before = errno;
    const Locked locked;
    bool mapped[most_kept] = {};
    if (kept_count) {
        each_area([&](const Area& area) {
            for (int index = 0; area.file.inode && index < kept_count; ++index)
                mapped[index] |= same(kept[index].file, area.file);
            return true;
        });
    }
    int left = 0;
    for (int index = 0; index < kept_count; ++index) {
        if (mapped[index])
            kept[left++] = kept[index];
        else
            close_internal(kept[index].fd);
    }
    kept_count = left;
    left = 0;
    for (int index = 0; index < own_count; ++index)
        if (kept_descriptor(own[index].file) >= 0) own[left++] = own[index];
    own_count = left;
    errno = before;
}

}  // namespace viommu::shim
