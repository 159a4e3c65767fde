// In front of the C library: system calls by number. Those that this library stands in front of by name go the same
// way.
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "channel.hpp"
#include "forks.hpp"
#include "front_open.hpp"
#include "kernel.hpp"
#include "real.hpp"
#include "uring.hpp"

extern "C" int close_range(unsigned, unsigned, int) noexcept;

namespace viommu::shim {
namespace {

struct Words {
    long word[6];

    int number(int index) const { return static_cast<int>(word[index]); }
    unsigned long size(int index) const { return static_cast<unsigned long>(word[index]); }
    template <typename T = void> T* pointer(int index) const { return reinterpret_cast<T*>(word[index]); }
    const char* path(int index) const { return pointer<const char>(index); }
};

long passed_on(long number, const Words& given) {
    const long* const word = given.word;
    return kernel(number, word[0], word[1], word[2], word[3], word[4], word[5]);
}

// A child on the same memory is no child to us, and one with a stack of its own never comes back here.
long cloned(long number, const Words& given, u64 flags) {
    if (flags & CLONE_VM || !serviced()) return passed_on(number, given);
    before_fork();
    const long made = passed_on(number, given);
    made ? after_fork_in_parent() : after_fork_in_child();
    return made;
}

// The first word of the structure of clone3.
u64 flags_of(const Words& given) { return given.word[0] && given.size(1) >= sizeof(u64) ? *given.pointer<u64>(0) : 0; }

// The kernel's mask is one word.
long masked(const Words& given) {
    const u64* const set = given.pointer<const u64>(1);
    if (!set || given.number(0) == SIG_UNBLOCK || !serviced()) return passed_on(SYS_rt_sigprocmask, given);
    const u64 ours = u64{1} << (SIGSEGV - 1) | u64{1} << (SIGTRAP - 1), rest = *set & ~ours;
    return kernel(SYS_rt_sigprocmask, given.word[0], &rest, given.word[2], given.word[3]);
}

long working_folder(const Words& given) {
    const char* const found = getcwd(given.pointer<char>(0), given.size(1));
    return found ? static_cast<long>(__builtin_strlen(found)) + 1 : -1;
}

bool opens(long number, const Words& given, long& result) {
    switch (number) {
#ifdef SYS_open
    case SYS_open: result = open(given.path(0), given.number(1), given.number(2)); return true;
    case SYS_creat: result = creat(given.path(0), static_cast<mode_t>(given.word[1])); return true;
#endif
    case SYS_openat: result = openat(given.number(0), given.path(1), given.number(2), given.number(3)); return true;
    case SYS_openat2:
        result = open_by_structure(given.number(0), given.path(1), given.pointer<const open_how>(2), given.size(3));
        return true;
    case SYS_close: result = close(given.number(0)); return true;
    case SYS_close_range:
        result =
            close_range(static_cast<unsigned>(given.word[0]), static_cast<unsigned>(given.word[1]), given.number(2));
        return true;
    case SYS_dup: result = dup(given.number(0)); return true;
#ifdef SYS_dup2
    case SYS_dup2: result = dup2(given.number(0), given.number(1)); return true;
#endif
    case SYS_dup3: result = dup3(given.number(0), given.number(1), given.number(2)); return true;
    case SYS_fcntl: result = fcntl(given.number(0), given.number(1), given.pointer(2)); return true;
    default: return false;
    }
}

bool asks_of_paths(long number, const Words& given, long& result) {
    struct stat* const status = given.pointer<struct stat>(1);
    switch (number) {
#ifdef SYS_stat
    case SYS_stat: result = stat(given.path(0), status); return true;
    case SYS_lstat: result = lstat(given.path(0), status); return true;
    case SYS_access: result = access(given.path(0), given.number(1)); return true;
    case SYS_readlink: result = readlink(given.path(0), given.pointer<char>(1), given.size(2)); return true;
#endif
    case SYS_fstat: result = fstat(given.number(0), status); return true;
    case SYS_newfstatat:
        result = fstatat(given.number(0), given.path(1), given.pointer<struct stat>(2), given.number(3));
        return true;
    case SYS_statx:
        result = statx(given.number(0), given.path(1), given.number(2), static_cast<unsigned>(given.word[3]),
                       given.pointer<struct statx>(4));
        return true;
    case SYS_faccessat: result = faccessat(given.number(0), given.path(1), given.number(2), 0); return true;
    case SYS_faccessat2:
        result = faccessat(given.number(0), given.path(1), given.number(2), given.number(3));
        return true;
    case SYS_readlinkat:
        result = readlinkat(given.number(0), given.path(1), given.pointer<char>(2), given.size(3));
        return true;
    case SYS_chdir: result = chdir(given.path(0)); return true;
    case SYS_getcwd: result = working_folder(given); return true;
    default: return false;
    }
}

bool moves_bytes(long number, const Words& given, long& result) {
    const int fd = given.number(0);
    const iovec* const pieces = given.pointer<const iovec>(1);
    switch (number) {
    case SYS_ioctl: result = ioctl(fd, given.size(1), given.pointer(2)); return true;
    case SYS_read: result = read(fd, given.pointer(1), given.size(2)); return true;
    case SYS_write: result = write(fd, given.pointer(1), given.size(2)); return true;
    case SYS_pread64: result = pread(fd, given.pointer(1), given.size(2), given.word[3]); return true;
    case SYS_pwrite64: result = pwrite(fd, given.pointer(1), given.size(2), given.word[3]); return true;
    case SYS_readv: result = readv(fd, pieces, given.number(2)); return true;
    case SYS_writev: result = writev(fd, pieces, given.number(2)); return true;
    case SYS_preadv: result = preadv(fd, pieces, given.number(2), given.word[3]); return true;
    case SYS_pwritev: result = pwritev(fd, pieces, given.number(2), given.word[3]); return true;
    case SYS_preadv2: result = preadv2(fd, pieces, given.number(2), given.word[3], given.number(5)); return true;
    case SYS_pwritev2: result = pwritev2(fd, pieces, given.number(2), given.word[3], given.number(5)); return true;
    case SYS_recvmsg: result = recvmsg(fd, given.pointer<msghdr>(1), given.number(2)); return true;
    case SYS_recvmmsg:
        result = recvmmsg(fd, given.pointer<mmsghdr>(1), static_cast<unsigned>(given.word[2]), given.number(3),
                          given.pointer<timespec>(4));
        return true;
    default: return false;
    }
}

bool maps(long number, const Words& given, long& result) {
    void* const at = given.pointer(0);
    const unsigned long length = given.size(1);
    switch (number) {
    case SYS_mmap:
        result = as_word(mmap(at, length, given.number(2), given.number(3), given.number(4), given.word[5]));
        return true;
    case SYS_munmap: result = munmap(at, length); return true;
    case SYS_mremap:
        result = as_word(mremap(at, length, given.size(2), given.number(3), given.pointer(4)));
        return true;
    case SYS_mprotect: result = mprotect(at, length, given.number(2)); return true;
    case SYS_pkey_mprotect: result = pkey_mprotect(at, length, given.number(2), given.number(3)); return true;
    case SYS_madvise: result = madvise(at, length, given.number(2)); return true;
    default: return false;
    }
}

bool makes_processes(long number, const Words& given, long& result) {
    switch (number) {
#ifdef SYS_fork
    case SYS_fork: result = cloned(number, given, 0); return true;
#endif
    case SYS_clone: result = cloned(number, given, static_cast<u64>(given.word[0])); return true;
    case SYS_clone3: result = cloned(number, given, flags_of(given)); return true;
    case SYS_execve:
        result = execve(given.path(0), given.pointer<char* const>(1), given.pointer<char* const>(2));
        return true;
    case SYS_execveat:
        result = execveat(given.number(0), given.path(1), given.pointer<char* const>(2), given.pointer<char* const>(3),
                          given.number(4));
        return true;
    case SYS_rt_sigprocmask: result = masked(given); return true;
    default: return false;
    }
}

bool is_for_a_ring(long number, const Words& given, long& result) {
    const int ring = given.number(0);
    switch (number) {
    case SYS_io_uring_register:
        if (!registers_ours(static_cast<unsigned>(given.word[1]), given.pointer(2),
                            static_cast<unsigned>(given.word[3])))
            return false;
        break;
    case SYS_io_uring_enter:
        if (!submits_ours(ring, static_cast<unsigned>(given.word[1]))) return false;
        break;
    case SYS_io_uring_setup:
        result = passed_on(number, given);
        note_ring(static_cast<int>(result), given.pointer<io_uring_params>(1));
        return true;
    default: return false;
    }
    tell_of_refusal();
    result = -1;
    errno = EOPNOTSUPP;
    return true;
}

}  // namespace
}  // namespace viommu::shim

using namespace viommu::shim;

EXPORT long syscall(long number, ...) noexcept {
    Words given;
    va_list rest;
    va_start(rest, number);
    for (long& word : given.word) word = va_arg(rest, long);
    va_end(rest);
    long result;
    if (moves_bytes(number, given, result) || opens(number, given, result) || maps(number, given, result) ||
        asks_of_paths(number, given, result) || makes_processes(number, given, result) ||
        is_for_a_ring(number, given, result))
        return result;
    return passed_on(number, given);
}
