// In front of the C library: asking what a path or a descriptor is.
#include <errno.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "channel.hpp"
#include "files.hpp"
#include "kernel.hpp"
#include "paths.hpp"
#include "real.hpp"
#include "status.hpp"

namespace viommu::shim {
namespace {

dev_t device_of(int node) { return node < 2 ? makedev(10, node ? 196 : 126) : makedev(511, node & 0xffff); }

template <typename Status> int described(int node, Status* status) {
    memset(status, 0, sizeof *status);
    status->st_ino = static_cast<ino_t>(node) + 1;
    status->st_mode = S_IFCHR | 0666;
    status->st_rdev = device_of(node);
    status->st_nlink = 1;
    status->st_blksize = 4096;
    return 0;
}

// The descriptor itself is asked about.
bool names_nothing(const char* path) { return !path || !*path; }

template <typename Status> int status_of(int folder, const char* path, Status* status, int flags) {
    static_assert(sizeof(Status) == sizeof(struct stat));
    const Named named(folder, path);
    if (named.node() >= 0) return described(named.node(), status);
    const int result = static_cast<int>(kernel(SYS_newfstatat, folder, named.path(), status, flags));
    const bool may_be_ours = !result && names_nothing(path) && S_ISSOCK(status->st_mode);
    const int node = may_be_ours ? node_of_file(folder, status->st_ino) : -1;
    return node < 0 ? result : described(node, status);
}

template <typename Status> int status_of(int fd, Status* status) { return status_of(fd, "", status, AT_EMPTY_PATH); }

int may(int wanted) { return wanted & X_OK ? (errno = EACCES, -1) : 0; }

}  // namespace

int describe(int node, struct stat* status) { return described(node, status); }
int describe(int node, struct stat64* status) { return described(node, status); }
int describe(int node, struct statx* status) {
    memset(status, 0, sizeof *status);
    status->stx_mask = STATX_TYPE | STATX_MODE | STATX_NLINK | STATX_INO;
    status->stx_ino = static_cast<u64>(node) + 1;
    status->stx_mode = S_IFCHR | 0666;
    status->stx_rdev_major = major(device_of(node));
    status->stx_rdev_minor = minor(device_of(node));
    status->stx_nlink = 1;
    status->stx_blksize = 4096;
    return 0;
}

namespace {

int node_of_file(unsigned long file) {
    Message message = question(Op::owns, file);
    return serviced() && ask(message) > 0 ? static_cast<int>(message.words[0]) - 1 : -1;
}

}  // namespace

int node_of_file(int fd, unsigned long file) { return is_marked(fd) ? node_of_file(file) : -1; }

bool put_node_name(unsigned long file, char* room, unsigned long size) {
    const int node = node_of_file(file);
    if (node >= 0) put_node_path(node, room, size);
    return node >= 0;
}

DECLARE_REAL(access)
DECLARE_REAL(faccessat)
DECLARE_REAL(euidaccess)
DECLARE_REAL(eaccess)
}  // namespace viommu::shim

using namespace viommu::shim;

EXPORT int access(const char* path, int wanted) noexcept {
    const Named named(path);
    return named.node() < 0 ? REAL(access)(named.path(), wanted) : may(wanted);
}
EXPORT int faccessat(int folder, const char* path, int wanted, int flags) noexcept {
    const Named named(folder, path);
    return named.node() < 0 ? REAL(faccessat)(folder, named.path(), wanted, flags) : may(wanted);
}
EXPORT int euidaccess(const char* path, int wanted) noexcept {
    const Named named(path);
    return named.node() < 0 ? REAL(euidaccess)(named.path(), wanted) : may(wanted);
}
EXPORT int eaccess(const char* path, int wanted) noexcept { return euidaccess(path, wanted); }

EXPORT int stat(const char* path, struct stat* status) noexcept { return status_of(AT_FDCWD, path, status, 0); }
EXPORT int stat64(const char* path, struct stat64* status) noexcept { return status_of(AT_FDCWD, path, status, 0); }
EXPORT int lstat(const char* path, struct stat* status) noexcept {
    return status_of(AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW);
}
EXPORT int lstat64(const char* path, struct stat64* status) noexcept {
    return status_of(AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW);
}
EXPORT int fstat(int fd, struct stat* status) noexcept { return status_of(fd, status); }
EXPORT int fstat64(int fd, struct stat64* status) noexcept { return status_of(fd, status); }
EXPORT int fstatat(int folder, const char* path, struct stat* status, int flags) noexcept {
    return status_of(folder, path, status, flags);
}
EXPORT int fstatat64(int folder, const char* path, struct stat64* status, int flags) noexcept {
    return status_of(folder, path, status, flags);
}
EXPORT int statx(int folder, const char* path, int flags, unsigned mask, struct statx* status) noexcept {
    const Named named(folder, path);
    if (named.node() >= 0) return describe(named.node(), status);
    const int result = static_cast<int>(kernel(SYS_statx, folder, named.path(), flags, mask, status));
    const bool may_be_ours = !result && names_nothing(path) && S_ISSOCK(status->stx_mode);
    const int node = may_be_ours ? node_of_file(folder, status->stx_ino) : -1;
    return node < 0 ? result : describe(node, status);
}

// What programs call that were built with a C library older than 2.33. The first number tells of the structure, of
// which there is one alone on these machines.
EXPORT int __xstat(int, const char* path, struct stat* status) { return stat(path, status); }
EXPORT int __xstat64(int, const char* path, struct stat64* status) { return stat64(path, status); }
EXPORT int __lxstat(int, const char* path, struct stat* status) { return lstat(path, status); }
EXPORT int __lxstat64(int, const char* path, struct stat64* status) { return lstat64(path, status); }
EXPORT int __fxstat(int, int fd, struct stat* status) { return fstat(fd, status); }
EXPORT int __fxstat64(int, int fd, struct stat64* status) { return fstat64(fd, status); }
EXPORT int __fxstatat(int, int folder, const char* path, struct stat* status, int flags) {
    return fstatat(folder, path, status, flags);
}
EXPORT int __fxstatat64(int, int folder, const char* path, struct stat64* status, int flags) {
    return fstatat64(folder, path, status, flags);
}
