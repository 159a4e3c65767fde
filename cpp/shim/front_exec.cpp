// In front of the C library: starting programs. One that will not load this library is told of, and started all the
// same.
#include <alloca.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "channel.hpp"
#include "executables.hpp"
#include "kernel.hpp"
#include "notes.hpp"
#include "real.hpp"

namespace viommu::shim {

DECLARE_REAL(execve)
DECLARE_REAL(execvpe)
DECLARE_REAL(execveat)
DECLARE_REAL(fexecve)
DECLARE_REAL(posix_spawn)
DECLARE_REAL(posix_spawnp)

namespace {

// A descriptor is to be run, as execveat has it.
bool names_nothing(const char* path) { return path && !*path; }

bool is_preloaded(char* const* environment) {
    for (; environment && *environment; ++environment)
        if (!strncmp(*environment, "LD_PRELOAD=", 11) && strstr(*environment, "viommu_shim")) return true;
    return false;
}

void look_at(int folder, const char* path, char* const* environment) {
    if (!serviced() || !path) return;
    const int kept = errno;
    const char* reason = why_not_loadable(folder, path);
    if (!reason && !is_preloaded(environment)) reason = "it is started without LD_PRELOAD";
    if (reason) {
        char text[PATH_MAX + 64];
        snprintf(text, sizeof text, "%s: %s", path, reason);
        tell(Note::not_loadable, text);
    }
    errno = kept;
}

// The first of its name on the PATH that may be run.
void look_for(const char* name, char* const* environment) {
    if (!serviced() || !name) return;
    if (strchr(name, '/')) return look_at(AT_FDCWD, name, environment);
    const char* const path = getenv("PATH");
    char file[PATH_MAX];
    for (const char* at = path ? path : "/bin:/usr/bin"; *at;) {
        const size_t length = strcspn(at, ":");
        const int size = snprintf(file, sizeof file, "%.*s/%s", static_cast<int>(length), length ? at : ".", name);
        const bool fits = size > 0 && size < static_cast<int>(sizeof file);
        if (fits && !kernel(SYS_faccessat, AT_FDCWD, file, X_OK)) return look_at(AT_FDCWD, file, environment);
        at += length + (at[length] == ':');
    }
}

}  // namespace
}  // namespace viommu::shim

using namespace viommu::shim;

EXPORT int execve(const char* path, char* const words[], char* const environment[]) noexcept {
    look_at(AT_FDCWD, path, environment);
    return REAL(execve)(path, words, environment);
}
EXPORT int execv(const char* path, char* const words[]) noexcept { return execve(path, words, environ); }
EXPORT int execvpe(const char* name, char* const words[], char* const environment[]) noexcept {
    const int kept = errno;
    look_for(name, environment);
    errno = kept;
    return REAL(execvpe)(name, words, environment);
}
EXPORT int execvp(const char* name, char* const words[]) noexcept { return execvpe(name, words, environ); }
EXPORT int execveat(int folder, const char* path, char* const words[], char* const environment[], int flags) noexcept {
    char file[32];
    snprintf(file, sizeof file, "/proc/self/fd/%d", folder);
    const bool is_descriptor = names_nothing(path) && flags & AT_EMPTY_PATH;
    look_at(is_descriptor ? AT_FDCWD : folder, is_descriptor ? file : path, environment);
    return REAL(execveat)(folder, path, words, environment, flags);
}
EXPORT int fexecve(int fd, char* const words[], char* const environment[]) noexcept {
    char file[32];
    snprintf(file, sizeof file, "/proc/self/fd/%d", fd);
    look_at(AT_FDCWD, file, environment);
    return REAL(fexecve)(fd, words, environment);
}
EXPORT int posix_spawn(pid_t* made, const char* path, const posix_spawn_file_actions_t* actions,
                       const posix_spawnattr_t* attributes, char* const words[], char* const environment[]) noexcept {
    look_at(AT_FDCWD, path, environment);
    return REAL(posix_spawn)(made, path, actions, attributes, words, environment);
}
EXPORT int posix_spawnp(pid_t* made, const char* name, const posix_spawn_file_actions_t* actions,
                        const posix_spawnattr_t* attributes, char* const words[], char* const environment[]) noexcept {
    look_for(name, environment);
    return REAL(posix_spawnp)(made, name, actions, attributes, words, environment);
}

// The words of a list that ends with a null pointer: `count` of them, and it.
#define WORDS_OF(first, words, rest)                                                                                   \
    va_list rest;                                                                                                      \
    va_start(rest, first);                                                                                             \
    size_t count = 1;                                                                                                  \
    while (va_arg(rest, const char*)) ++count;                                                                         \
    va_end(rest);                                                                                                      \
    const char** const words = static_cast<const char**>(alloca((count + 1) * sizeof(char*)));                         \
    words[0] = first;                                                                                                  \
    va_start(rest, first);                                                                                             \
    for (size_t index = 1; index <= count; ++index) words[index] = va_arg(rest, const char*);

EXPORT int execl(const char* path, const char* first, ...) noexcept {
    WORDS_OF(first, words, rest)
    va_end(rest);
    return execv(path, const_cast<char* const*>(words));
}
EXPORT int execlp(const char* name, const char* first, ...) noexcept {
    WORDS_OF(first, words, rest)
    va_end(rest);
    return execvp(name, const_cast<char* const*>(words));
}
EXPORT int execle(const char* path, const char* first, ...) noexcept {
    WORDS_OF(first, words, rest)
    char* const* const environment = va_arg(rest, char* const*);
    va_end(rest);
    return execve(path, const_cast<char* const*>(words), environment);
}
