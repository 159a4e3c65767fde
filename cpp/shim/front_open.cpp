// In front of the C library: opening device nodes, and asking about them by path.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "channel.hpp"
#include "files.hpp"
#include "front_open.hpp"
#include "kernel.hpp"
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
    if (made.get() < 0) return errno = EMFILE, -1;  // the kernel had no number for it
    const int fd = made.take();
    if (!(flags & O_CLOEXEC)) fcntl(fd, F_SETFD, 0);
    mark(fd);
    return fd;
}

bool takes_mode(int flags) { return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE; }

}  // namespace
DECLARE_REAL(open)
DECLARE_REAL(open64)
DECLARE_REAL(openat)
DECLARE_REAL(openat64)
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
    const Named named(path);
    return named.node() < 0 ? REAL(open)(named.path(), flags, mode) : open_node(named.node(), flags);
}
EXPORT int open64(const char* path, int flags, ...) {
    MODE_OF(flags)
    const Named named(path);
    return named.node() < 0 ? REAL(open64)(named.path(), flags, mode) : open_node(named.node(), flags);
}
EXPORT int openat(int folder, const char* path, int flags, ...) {
    MODE_OF(flags)
    const Named named(folder, path);
    return named.node() < 0 ? REAL(openat)(folder, named.path(), flags, mode) : open_node(named.node(), flags);
}
EXPORT int openat64(int folder, const char* path, int flags, ...) {
    MODE_OF(flags)
    const Named named(folder, path);
    return named.node() < 0 ? REAL(openat64)(folder, named.path(), flags, mode) : open_node(named.node(), flags);
}
EXPORT int __open_2(const char* path, int flags) {
    const Named named(path);
    return named.node() < 0 ? REAL(__open_2)(named.path(), flags) : open_node(named.node(), flags);
}
EXPORT int __open64_2(const char* path, int flags) {
    const Named named(path);
    return named.node() < 0 ? REAL(__open64_2)(named.path(), flags) : open_node(named.node(), flags);
}
EXPORT int __openat_2(int folder, const char* path, int flags) {
    const Named named(folder, path);
    return named.node() < 0 ? REAL(__openat_2)(folder, named.path(), flags) : open_node(named.node(), flags);
}
EXPORT int __openat64_2(int folder, const char* path, int flags) {
    const Named named(folder, path);
    return named.node() < 0 ? REAL(__openat64_2)(folder, named.path(), flags) : open_node(named.node(), flags);
}
EXPORT int creat(const char* path, mode_t mode) { return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
EXPORT int creat64(const char* path, mode_t mode) { return open64(path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

namespace viommu::shim {
namespace {

template <typename Open> FILE* stream_of(const char* path, const char* mode, Open& open_really) {
    const Named named(path);
    if (named.node() < 0) return with_pins(path, open_really(named.path(), mode));
    const int way = strchr(mode, '+') ? O_RDWR : *mode == 'r' ? O_RDONLY : O_WRONLY;
    const int fd = open_node(named.node(), strchr(mode, 'e') ? way | O_CLOEXEC : way);
    return fd < 0 ? nullptr : fdopen(fd, mode);
}

}  // namespace
}  // namespace viommu::shim

EXPORT FILE* fopen(const char* path, const char* mode) { return stream_of(path, mode, REAL(fopen)); }
EXPORT FILE* fopen64(const char* path, const char* mode) { return stream_of(path, mode, REAL(fopen64)); }

namespace viommu::shim {

// openat2, which the C library has no function for: how it is to be opened is a structure of the kernel's.
long open_by_structure(int folder, const char* path, const open_how* how, size_t size) {
    const Named named(folder, path);
    if (named.node() < 0) return kernel(SYS_openat2, folder, named.path(), how, size);
    if (size < sizeof *how) return errno = EINVAL, -1;
    return open_node(named.node(), static_cast<int>(how->flags));
}

}  // namespace viommu::shim
