#include "lent_files.hpp"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <atomic>

#include "blocked.hpp"
#include "internal.hpp"
#include "kernel.hpp"

namespace viommu::shim {
namespace {

struct Kept {
    AreaFile file;
    int fd;
};
constexpr int most_kept = 4096;
Kept kept[most_kept];
std::atomic<int> kept_count = 0;
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

// The lock is held.
int index_of(const AreaFile& file) {
    for (int index = 0; index < kept_count; ++index)
        if (kept[index].file == file) return index;
    return -1;
}

// Closing any descriptor of a file gives up what the process has locked of it, so that those of disks are left alone.
bool is_memory(int fd) {
    struct statfs status;
    return !kernel(SYS_fstatfs, fd, &status) && (status.f_type == TMPFS_MAGIC || status.f_type == HUGETLBFS_MAGIC);
}

// The lock is held.
void forget_unmapped() {
    bool mapped[most_kept] = {};
    Areas areas;
    Area area;
    for (u64 at = 0; areas.next(at, area); at = area.end) {
        const int index = area.file.inode ? index_of(area.file) : -1;
        if (index >= 0) mapped[index] = true;
    }
    int left = 0;
    for (int index = 0; index < kept_count; ++index) {
        if (mapped[index])
            kept[left++] = kept[index];
        else
            close_internal(kept[index].fd);
    }
    kept_count = left;
}

int opened(const char* path, u64 rights) {
    const int flags = (rights & writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK;
    return open_for_us([&] { return static_cast<int>(kernel(SYS_openat, AT_FDCWD, path, flags, 0)); });
}

bool is_file(int fd, const AreaFile& file) {
    struct stat status;
    return !kernel(SYS_fstat, fd, &status) && AreaFile{status.st_dev, status.st_ino} == file;
}

// The file that an area shows, by the name that the kernel says; -1 where it has another by now.
int opened_by_name(const Area& area) {
    char link[64], name[4096];
    snprintf(link, sizeof link, "/proc/self/map_files/%lx-%lx", area.start, area.end);
    const int fd = opened(link, area.rights);
    if (fd >= 0) return fd;
    const long length = kernel(SYS_readlinkat, AT_FDCWD, link, name, sizeof name - 1);
    if (length <= 0) return -1;
    name[length] = 0;
    const int named = opened(name, area.rights);
    if (named < 0 || is_file(named, area.file)) return named;
    kernel(SYS_close, named);
    return -1;
}

}  // namespace

int kept_descriptor(const AreaFile& file) {
    const Locked locked(lock);
    const int index = index_of(file);
    return index < 0 ? -1 : kept[index].fd;
}

int descriptor_of(const Area& area, bool& ours) {
    const int fd = kept_descriptor(area.file);
    ours = fd < 0;
    return ours ? opened_by_name(area) : fd;
}

// Nobody has its descriptor but us; sealed, nobody who finds it all the same can take pages from under a device.
int make_shared_memory(std::size_t size) {
    const int fd = open_for_us([] { return memfd_create("viommu shared memory", MFD_CLOEXEC | MFD_ALLOW_SEALING); });
    if (fd < 0) return -1;
    if (!kernel(SYS_ftruncate, fd, size)) {
        kernel(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
        return fd;
    }
    kernel(SYS_close, fd);
    errno = ENOMEM;
    return -1;
}

bool keep_file(int fd) {
    struct stat status;
    if (kernel(SYS_fstat, fd, &status) || !S_ISREG(status.st_mode)) return false;
    if (status.st_nlink && !is_memory(fd)) return false;
    const AreaFile file{status.st_dev, status.st_ino};
    const Locked locked(lock);
    if (index_of(file) >= 0) return true;
    if (kept_count == most_kept) forget_unmapped();
    if (kept_count == most_kept) return false;
    const int copy = open_for_us([&] { return static_cast<int>(kernel(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0)); });
    if (copy < 0) return false;
    const int own = make_internal(copy);
    keep_internal_over_fork(own);
    kept[kept_count] = {file, own};
    ++kept_count;
    return true;
}

bool shows_kept(u64 start, std::size_t length) {
    if (!kept_count) return false;
    Areas areas;
    Area area;
    for (u64 at = start; areas.next(at, area) && area.start < start + length; at = area.end)
        if (area.file.inode && kept_descriptor(area.file) >= 0) return true;
    return false;
}

void tidy_files() {
    const int before = errno;
    const Locked locked(lock);
    if (kept_count) forget_unmapped();
    errno = before;
}

void lock_files() { pthread_mutex_lock(&lock); }
void unlock_files() { pthread_mutex_unlock(&lock); }
void files_in_child() { lock = PTHREAD_MUTEX_INITIALIZER; }

}  // namespace viommu::shim
