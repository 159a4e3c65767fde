// In front of the C library: opening device nodes, and asking about them by path.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "channel.hpp"
#include "files.hpp"
#include "paths.hpp"
#include "proc_status.hpp"
#include "real.hpp"

namespace viommu::shim {
namespace {

int open_node(int node, int flags) {
    if (flags & O_DIRECTORY) return errno = ENOTDIR, -1;
    if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) return errno = EEXIST, -1;
    Message message = question(Op::open, static_cast<u64>(node), static_cast<u64>(flags));
    Descriptor made;
    const i64 result = ask(message, &made);
    if (result < 0) return errno = static_cast<int>(-result), -1;
    if (made.get() < 0) return errno = ENODEV, -1;
    const int fd = made.take();
    if (!(flags & O_CLOEXEC)) fcntl(fd, F_SETFD, 0);
    mark(fd);
    return fd;
}

bool takes_mode(int flags) { return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE; }

// A character device that anybody may use.
void describe_node(int node, mode_t& mode, dev_t& device) {
    mode = S_IFCHR | 0666;
    device = node < 2 ? makedev(10, node ? 196 : 126) : makedev(511, node & 0xffff);
}

template <typename Status> int describe(int node, Status* status) {
    memset(status, 0, sizeof *status);
    mode_t mode;
    dev_t device;
    describe_node(node, mode, device);
    status->st_mode = mode;
    status->st_rdev = device;
    status->st_nlink = 1;
    status->st_blksize = 4096;
    return 0;
}

int describe(int node, struct statx* status) {
    memset(status, 0, sizeof *status);
    mode_t mode;
    dev_t device;
    describe_node(node, mode, device);
    status->stx_mask = STATX_TYPE | STATX_MODE | STATX_NLINK;
    status->stx_mode = static_cast<std::uint16_t>(mode);
    status->stx_rdev_major = major(device);
    status->stx_rdev_minor = minor(device);
    status->stx_nlink = 1;
    status->stx_blksize = 4096;
    return 0;
}

}  // namespace
DECLARE_REAL(open)
DECLARE_REAL(open64)
DECLARE_REAL(openat)
DECLARE_REAL(openat64)
DECLARE_REAL(access)
DECLARE_REAL(faccessat)
DECLARE_REAL(stat)
DECLARE_REAL(stat64)
DECLARE_REAL(lstat)
DECLARE_REAL(lstat64)
DECLARE_REAL(fstatat)
DECLARE_REAL(fstatat64)
DECLARE_REAL(statx)
DECLARE_REAL(fopen)
DECLARE_REAL(fopen64)
}  // namespace viommu::shim

using namespace viommu::shim;

extern "C" {
int __open_2(const char*, int);
int __open64_2(const char*, int);
int __openat_2(int, const char*, int);
int __openat64_2(int, const char*, int);
}
namespace viommu::shim {
DECLARE_REAL(__open_2)
DECLARE_REAL(__open64_2)
DECLARE_REAL(__openat_2)
DECLARE_REAL(__openat64_2)
}  // namespace viommu::shim

#define MODE_OF(flags)                                                                                                 \
    mode_t mode = 0;                                                                                                   \
    if (takes_mode(flags)) {                                                                                           \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode = va_arg(rest, mode_t);                                                                                   \
        va_end(rest);                                                                                                  \
    }

EXPORT int open(const char* path, int flags, ...) {
    MODE_OF(flags)
    const int node = node_of(path);
    return node < 0 ? REAL(open)(Shadowed(path).path(), flags, mode) : open_node(node, flags);
}
EXPORT int open64(const char* path, int flags, ...) {
    MODE_OF(flags)
    const int node = node_of(path);
    return node < 0 ? REAL(open64)(Shadowed(path).path(), flags, mode) : open_node(node, flags);
}
EXPORT int openat(int folder, const char* path, int flags, ...) {
    MODE_OF(flags)
    const int node = node_of(path);
    return node < 0 ? REAL(openat)(folder, Shadowed(path).path(), flags, mode) : open_node(node, flags);
}
EXPORT int openat64(int folder, const char* path, int flags, ...) {
    MODE_OF(flags)
    const int node = node_of(path);
    return node < 0 ? REAL(openat64)(folder, Shadowed(path).path(), flags, mode) : open_node(node, flags);
}
EXPORT int __open_2(const char* path, int flags) {
    const int node = node_of(path);
    return node < 0 ? REAL(__open_2)(Shadowed(path).path(), flags) : open_node(node, flags);
}
EXPORT int __open64_2(const char* path, int flags) {
    const int node = node_of(path);
    return node < 0 ? REAL(__open64_2)(Shadowed(path).path(), flags) : open_node(node, flags);
}
EXPORT int __openat_2(int folder, const char* path, int flags) {
    const int node = node_of(path);
    return node < 0 ? REAL(__openat_2)(folder, Shadowed(path).path(), flags) : open_node(node, flags);
}
EXPORT int __openat64_2(int folder, const char* path, int flags) {
    const int node = node_of(path);
    return node < 0 ? REAL(__openat64_2)(folder, Shadowed(path).path(), flags) : open_node(node, flags);
}

EXPORT FILE* fopen(const char* path, const char* mode) {
    const int node = node_of(path);
    if (node >= 0) {
        const int fd = open_node(node, strchr(mode, '+') ? O_RDWR : *mode == 'r' ? O_RDONLY : O_WRONLY);
        return fd < 0 ? nullptr : fdopen(fd, mode);
    }
    return with_pins(path, REAL(fopen)(Shadowed(path).path(), mode));
}
EXPORT FILE* fopen64(const char* path, const char* mode) {
    const int node = node_of(path);
    return node >= 0 ? fopen(path, mode) : with_pins(path, REAL(fopen64)(Shadowed(path).path(), mode));
}

EXPORT int access(const char* path, int wanted) {
    return node_of(path) < 0 ? REAL(access)(Shadowed(path).path(), wanted) : wanted & X_OK ? (errno = EACCES, -1) : 0;
}
EXPORT int faccessat(int folder, const char* path, int wanted, int flags) {
    return node_of(path) < 0 ? REAL(faccessat)(folder, Shadowed(path).path(), wanted, flags) : access(path, wanted);
}
EXPORT int stat(const char* path, struct stat* status) {
    const int node = node_of(path);
    return node < 0 ? REAL(stat)(Shadowed(path).path(), status) : describe(node, status);
}
EXPORT int stat64(const char* path, struct stat64* status) {
    const int node = node_of(path);
    return node < 0 ? REAL(stat64)(Shadowed(path).path(), status) : describe(node, status);
}
EXPORT int lstat(const char* path, struct stat* status) {
    const int node = node_of(path);
    return node < 0 ? REAL(lstat)(Shadowed(path).path(), status) : describe(node, status);
}
EXPORT int lstat64(const char* path, struct stat64* status) {
    const int node = node_of(path);
    return node < 0 ? REAL(lstat64)(Shadowed(path).path(), status) : describe(node, status);
}
EXPORT int fstatat(int folder, const char* path, struct stat* status, int flags) {
    const int node = node_of(path);
    return node < 0 ? REAL(fstatat)(folder, Shadowed(path).path(), status, flags) : describe(node, status);
}
EXPORT int fstatat64(int folder, const char* path, struct stat64* status, int flags) {
    const int node = node_of(path);
    return node < 0 ? REAL(fstatat64)(folder, Shadowed(path).path(), status, flags) : describe(node, status);
}
EXPORT int statx(int folder, const char* path, int flags, unsigned mask, struct statx* status) {
    const int node = node_of(path);
    return node < 0 ? REAL(statx)(folder, Shadowed(path).path(), flags, mask, status) : describe(node, status);
}
