// In front of the C library: looking into folders, and following links.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "kernel.hpp"
#include "paths.hpp"
#include "real.hpp"
#include "status.hpp"

extern "C" {
ssize_t __readlink_chk(const char*, char*, size_t, size_t);
ssize_t __readlinkat_chk(int, const char*, char*, size_t, size_t);
char* __realpath_chk(const char*, char*, size_t);
char* __getcwd_chk(char*, size_t, size_t);
}

namespace viommu::shim {
DECLARE_REAL(__readlink_chk)
DECLARE_REAL(__readlinkat_chk)
DECLARE_REAL(__realpath_chk)
DECLARE_REAL(__getcwd_chk)
DECLARE_REAL(opendir)
DECLARE_REAL(scandir)
DECLARE_REAL(scandir64)
DECLARE_REAL(scandirat)
DECLARE_REAL(scandirat64)
DECLARE_REAL(glob)
DECLARE_REAL(glob64)
DECLARE_REAL(realpath)
DECLARE_REAL(chdir)
DECLARE_REAL(getcwd)
DECLARE_REAL(getxattr)
DECLARE_REAL(lgetxattr)
DECLARE_REAL(listxattr)
DECLARE_REAL(llistxattr)

namespace {

// A link of /proc/PID/fd to one of the service's files names a socket, and what it stands for is told instead.
ssize_t linked(int folder, const char* path, char* target, size_t room) {
    char name[64];
    const Named named(folder, path);
    const ssize_t length = kernel(SYS_readlinkat, folder, named.path(), target, room);
    if (length < 9 || length >= static_cast<ssize_t>(sizeof name) || memcmp(target, "socket:[", 8)) return length;
    memcpy(name, target, static_cast<size_t>(length));
    name[length] = 0;
    if (!put_node_name(strtoul(name + 8, nullptr, 10), name, sizeof name)) return length;
    memset(target, 0, static_cast<size_t>(length));
    const size_t named_length = strlen(name), given = named_length < room ? named_length : room;
    memcpy(target, name, given);
    return static_cast<ssize_t>(given);
}

// Patterns are led to the shadow folder as far as their beginning names a folder of it.
template <typename Found, typename Glob, typename Tell>
int found_by_pattern(const char* pattern, int flags, Tell tell, Found* found, Glob& glob_really) {
    char folder[PATH_MAX], elsewhere[2 * PATH_MAX];
    const size_t length = pattern ? strcspn(pattern, "*?[{\\") : 0;
    const char* const end = static_cast<const char*>(length ? memrchr(pattern, '/', length) : nullptr);
    if (!end || end == pattern || length >= sizeof folder) return glob_really(pattern, flags, tell, found);
    memcpy(folder, pattern, static_cast<size_t>(end - pattern));
    folder[end - pattern] = 0;
    const Named named(folder);
    if (named.path() == folder) return glob_really(pattern, flags, tell, found);
    snprintf(elsewhere, sizeof elsewhere, "%s%s", named.path(), end);
    const int result = glob_really(elsewhere, flags, tell, found);
    const size_t first = flags & GLOB_DOOFFS ? found->gl_offs : 0;
    for (size_t index = 0; !result && index < found->gl_pathc; ++index) without_shadow(found->gl_pathv[first + index]);
    return result;
}

}  // namespace
}  // namespace viommu::shim

using namespace viommu::shim;

EXPORT DIR* opendir(const char* path) { return REAL(opendir)(Named(path).path()); }
EXPORT int scandir(const char* path, dirent*** found, int (*wanted)(const dirent*),
                   int (*order)(const dirent**, const dirent**)) {
    return REAL(scandir)(Named(path).path(), found, wanted, order);
}
EXPORT int scandir64(const char* path, dirent64*** found, int (*wanted)(const dirent64*),
                     int (*order)(const dirent64**, const dirent64**)) {
    return REAL(scandir64)(Named(path).path(), found, wanted, order);
}
EXPORT int scandirat(int folder, const char* path, dirent*** found, int (*wanted)(const dirent*),
                     int (*order)(const dirent**, const dirent**)) {
    return REAL(scandirat)(folder, Named(folder, path).path(), found, wanted, order);
}
EXPORT int scandirat64(int folder, const char* path, dirent64*** found, int (*wanted)(const dirent64*),
                       int (*order)(const dirent64**, const dirent64**)) {
    return REAL(scandirat64)(folder, Named(folder, path).path(), found, wanted, order);
}
EXPORT int glob(const char* pattern, int flags, int (*tell)(const char*, int), glob_t* found) noexcept {
    return found_by_pattern(pattern, flags, tell, found, REAL(glob));
}
EXPORT int glob64(const char* pattern, int flags, int (*tell)(const char*, int), glob64_t* found) noexcept {
    return found_by_pattern(pattern, flags, tell, found, REAL(glob64));
}
EXPORT ssize_t readlink(const char* path, char* target, size_t room) noexcept {
    return linked(AT_FDCWD, path, target, room);
}
EXPORT ssize_t readlinkat(int folder, const char* path, char* target, size_t room) noexcept {
    return linked(folder, path, target, room);
}
EXPORT ssize_t __readlink_chk(const char* path, char* target, size_t length, size_t room) {
    return length > room ? REAL(__readlink_chk)(path, target, length, room) : readlink(path, target, length);
}
EXPORT ssize_t __readlinkat_chk(int folder, const char* path, char* target, size_t length, size_t room) {
    return length > room ? REAL(__readlinkat_chk)(folder, path, target, length, room)
                         : readlinkat(folder, path, target, length);
}
EXPORT char* realpath(const char* path, char* resolved) noexcept {
    char* const found = REAL(realpath)(Named(path).path(), resolved);
    without_shadow(found);
    return found;
}
EXPORT char* __realpath_chk(const char* path, char* resolved, size_t room) {
    return room < PATH_MAX ? REAL(__realpath_chk)(path, resolved, room) : realpath(path, resolved);
}
EXPORT char* canonicalize_file_name(const char* path) noexcept { return realpath(path, nullptr); }

EXPORT int chdir(const char* path) noexcept { return REAL(chdir)(Named(path).path()); }
EXPORT char* getcwd(char* room, size_t size) noexcept {
    char* const found = REAL(getcwd)(room, size);
    without_shadow(found);
    return found;
}
EXPORT char* __getcwd_chk(char* room, size_t size, size_t all) {
    return size > all ? REAL(__getcwd_chk)(room, size, all) : getcwd(room, size);
}
EXPORT char* get_current_dir_name() noexcept { return getcwd(nullptr, 0); }

EXPORT ssize_t getxattr(const char* path, const char* name, void* value, size_t size) noexcept {
    return REAL(getxattr)(Named(path).path(), name, value, size);
}
EXPORT ssize_t lgetxattr(const char* path, const char* name, void* value, size_t size) noexcept {
    return REAL(lgetxattr)(Named(path).path(), name, value, size);
}
EXPORT ssize_t listxattr(const char* path, char* list, size_t size) noexcept {
    return REAL(listxattr)(Named(path).path(), list, size);
}
EXPORT ssize_t llistxattr(const char* path, char* list, size_t size) noexcept {
    return REAL(llistxattr)(Named(path).path(), list, size);
}
