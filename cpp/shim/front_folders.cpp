// In front of the C library: looking into folders, and following links.
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "paths.hpp"
#include "real.hpp"

namespace viommu::shim {
DECLARE_REAL(opendir)
DECLARE_REAL(scandir)
DECLARE_REAL(scandir64)
DECLARE_REAL(readlink)
DECLARE_REAL(readlinkat)
DECLARE_REAL(realpath)
DECLARE_REAL(chdir)
DECLARE_REAL(getcwd)
DECLARE_REAL(getxattr)
DECLARE_REAL(lgetxattr)
DECLARE_REAL(listxattr)
DECLARE_REAL(llistxattr)
}  // namespace viommu::shim

using namespace viommu::shim;

extern "C" {
ssize_t __readlink_chk(const char*, char*, size_t, size_t);
ssize_t __readlinkat_chk(int, const char*, char*, size_t, size_t);
char* __realpath_chk(const char*, char*, size_t);
}

EXPORT DIR* opendir(const char* path) { return REAL(opendir)(Shadowed(path).path()); }
EXPORT int scandir(const char* path, dirent*** found, int (*wanted)(const dirent*),
                   int (*order)(const dirent**, const dirent**)) {
    return REAL(scandir)(Shadowed(path).path(), found, wanted, order);
}
EXPORT int scandir64(const char* path, dirent64*** found, int (*wanted)(const dirent64*),
                     int (*order)(const dirent64**, const dirent64**)) {
    return REAL(scandir64)(Shadowed(path).path(), found, wanted, order);
}
EXPORT ssize_t readlink(const char* path, char* target, size_t room) noexcept {
    return REAL(readlink)(Shadowed(path).path(), target, room);
}
EXPORT ssize_t readlinkat(int folder, const char* path, char* target, size_t room) noexcept {
    return REAL(readlinkat)(folder, Shadowed(path).path(), target, room);
}
EXPORT ssize_t __readlink_chk(const char* path, char* target, size_t length, size_t room) {
    return readlink(path, target, length < room ? length : room);
}
EXPORT ssize_t __readlinkat_chk(int folder, const char* path, char* target, size_t length, size_t room) {
    return readlinkat(folder, path, target, length < room ? length : room);
}
EXPORT char* realpath(const char* path, char* resolved) noexcept {
    char* const found = REAL(realpath)(Shadowed(path).path(), resolved);
    without_shadow(found);
    return found;
}
EXPORT char* __realpath_chk(const char* path, char* resolved, size_t) { return realpath(path, resolved); }

EXPORT int chdir(const char* path) noexcept { return REAL(chdir)(Shadowed(path).path()); }
EXPORT char* getcwd(char* room, size_t size) noexcept {
    char* const found = REAL(getcwd)(room, size);
    without_shadow(found);
    return found;
}

EXPORT ssize_t getxattr(const char* path, const char* name, void* value, size_t size) noexcept {
    return REAL(getxattr)(Shadowed(path).path(), name, value, size);
}
EXPORT ssize_t lgetxattr(const char* path, const char* name, void* value, size_t size) noexcept {
    return REAL(lgetxattr)(Shadowed(path).path(), name, value, size);
}
EXPORT ssize_t listxattr(const char* path, char* list, size_t size) noexcept {
    return REAL(listxattr)(Shadowed(path).path(), list, size);
}
EXPORT ssize_t llistxattr(const char* path, char* list, size_t size) noexcept {
    return REAL(llistxattr)(Shadowed(path).path(), list, size);
}
