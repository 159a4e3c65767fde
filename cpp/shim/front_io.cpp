// In front of the C library: ioctls, and copies of descriptors.
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "argument.hpp"
#include "channel.hpp"
#include "files.hpp"
#include "internal.hpp"
#include "kernel.hpp"
#include "real.hpp"
#include "transfer.hpp"
#include "uring.hpp"

namespace viommu::shim {
namespace {

constexpr unsigned ioctl_letter = ';';

// Descriptors that came in a message may be the service's.
void look_at_received(const msghdr* message) {
    for (cmsghdr* each = CMSG_FIRSTHDR(message); each; each = CMSG_NXTHDR(const_cast<msghdr*>(message), each)) {
        if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_RIGHTS) continue;
        const int* const descriptors = reinterpret_cast<const int*>(CMSG_DATA(each));
        const size_t count = (each->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t index = 0; index < count; ++index) {
            const u64 number = file_number(descriptors[index]);
            if (number && ask(Op::owns, number) > 0) mark(descriptors[index]);
        }
    }
}

}  // namespace
}  // namespace viommu::shim

namespace viommu::shim {
DECLARE_REAL(ioctl)
DECLARE_REAL(dup)
DECLARE_REAL(dup2)
DECLARE_REAL(dup3)
DECLARE_REAL(fcntl)
DECLARE_REAL(fcntl64)
DECLARE_REAL(close)
DECLARE_REAL(close_range)
DECLARE_REAL(closefrom)
DECLARE_REAL(recvmsg)
DECLARE_REAL(recvmmsg)
}  // namespace viommu::shim

using namespace viommu::shim;

EXPORT int ioctl(int fd, unsigned long number, ...) {
    va_list rest;
    va_start(rest, number);
    void* const argument = va_arg(rest, void*);
    va_end(rest);
    if (_IOC_TYPE(number) == ioctl_letter && serviced()) {
        const u64 file = file_number(fd);
        if (file) {
            const i64 result = ask_ioctl(file, static_cast<unsigned>(number), argument);
            if (result != not_ours) return static_cast<int>(answered(result));
        }
    }
    return REAL(ioctl)(fd, number, argument);
}

EXPORT int dup(int fd) {
    if (is_internal(fd)) return errno = EBADF, -1;
    const int made = REAL(dup)(fd);
    mark_copy(fd, made);
    return made;
}
EXPORT int dup2(int fd, int wanted) {
    if (is_internal(fd) || is_internal(wanted)) return errno = EBADF, -1;
    const int made = REAL(dup2)(fd, wanted);
    mark_copy(fd, made);
    return made;
}
EXPORT int dup3(int fd, int wanted, int flags) {
    if (is_internal(fd) || is_internal(wanted)) return errno = EBADF, -1;
    const int made = REAL(dup3)(fd, wanted, flags);
    mark_copy(fd, made);
    return made;
}
EXPORT int fcntl(int fd, int command, ...) {
    va_list rest;
    va_start(rest, command);
    void* const argument = va_arg(rest, void*);
    va_end(rest);
    if (is_internal(fd)) return errno = EBADF, -1;
    const int result = REAL(fcntl)(fd, command, argument);
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) mark_copy(fd, result);
    return result;
}
EXPORT int fcntl64(int fd, int command, ...) {
    va_list rest;
    va_start(rest, command);
    void* const argument = va_arg(rest, void*);
    va_end(rest);
    return fcntl(fd, command, argument);
}

EXPORT int close(int fd) {
    if (is_internal(fd)) return errno = EBADF, -1;
    unmark(fd);
    forget_ring(fd);
    return REAL(close)(fd);
}
// Around what is our own.
EXPORT int close_range(unsigned first, unsigned last, int flags) noexcept {
    if (first > last) return errno = EINVAL, -1;
    for (unsigned fd = first; fd <= last && static_cast<int>(fd) <= highest_internal(); ++fd) {
        if (!is_internal(static_cast<int>(fd))) continue;
        if (fd > first && REAL(close_range)(first, fd - 1, flags)) return -1;
        first = fd + 1;
        if (!first || first > last) return 0;
    }
    return REAL(close_range)(first, last, flags);
}
EXPORT void closefrom(int first) noexcept { close_range(static_cast<unsigned>(first < 0 ? 0 : first), ~0u, 0); }

EXPORT ssize_t recvmsg(int fd, msghdr* message, int flags) {
    const ssize_t got = REAL(recvmsg)(fd, message, flags);
    if (got >= 0 && serviced() && message->msg_controllen) look_at_received(message);
    return got;
}
EXPORT int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
    const int got = REAL(recvmmsg)(fd, messages, count, flags, timeout);
    for (int index = 0; serviced() && index < got; ++index)
        if (messages[index].msg_hdr.msg_controllen) look_at_received(&messages[index].msg_hdr);
    return got;
}
