// In front of the C library: ioctls, reading and writing, and copies of descriptors.
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "argument.hpp"
#include "channel.hpp"
#include "files.hpp"
#include "internal.hpp"
#include "kernel.hpp"
#include "real.hpp"

namespace viommu::shim {
namespace {

constexpr unsigned ioctl_letter = ';';

long answered(i64 result) {
    if (result >= 0) return result;
    errno = static_cast<int>(-result);
    return -1;
}

u64 address_of(const void* buffer) { return reinterpret_cast<u64>(buffer); }

// Calls either(result) for a file of the service; false where it is none.
bool transfer(Op op, int fd, u64 address, size_t count, off_t position, long& result) {
    const u64 number = marked_file(fd);
    if (!number) return false;
    Message message = question(op, number, address, count, static_cast<u64>(position));
    const i64 answer = ask(message);
    if (answer == not_ours) {
        unmark(fd);
        return false;
    }
    // What lay in it so that it polled readable.
    for (u64 left = answer == -ENODEV ? 0 : message.words[0]; left; --left) {
        char byte;
        if (kernel(SYS_read, fd, &byte, 1) != 1) break;
    }
    result = answered(answer);
    return true;
}

// Pieces one after the other, as far as each is filled.
long transfer_pieces(Op op, const iovec* pieces, int count, int fd, long first, off_t position) {
    long done = first;
    for (int index = 1; index < count && done >= 0 && pieces[index - 1].iov_len == static_cast<size_t>(first);
         ++index) {
        if (!transfer(op, fd, address_of(pieces[index].iov_base), pieces[index].iov_len, position, first) || first < 0)
            break;
        done += first;
    }
    return done;
}

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

extern "C" {
ssize_t __read_chk(int, void*, size_t, size_t);
ssize_t __pread_chk(int, void*, size_t, off_t, size_t);
ssize_t __pread64_chk(int, void*, size_t, off64_t, size_t);
}

namespace viommu::shim {
DECLARE_REAL(ioctl)
DECLARE_REAL(read)
DECLARE_REAL(__read_chk)
DECLARE_REAL(pread)
DECLARE_REAL(pread64)
DECLARE_REAL(__pread_chk)
DECLARE_REAL(__pread64_chk)
DECLARE_REAL(readv)
DECLARE_REAL(write)
DECLARE_REAL(pwrite)
DECLARE_REAL(pwrite64)
DECLARE_REAL(writev)
DECLARE_REAL(dup)
DECLARE_REAL(dup2)
DECLARE_REAL(dup3)
DECLARE_REAL(fcntl)
DECLARE_REAL(fcntl64)
DECLARE_REAL(close)
DECLARE_REAL(close_range)
DECLARE_REAL(closefrom)
DECLARE_REAL(recvmsg)
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

EXPORT ssize_t read(int fd, void* buffer, size_t count) {
    long result;
    return transfer(Op::read, fd, address_of(buffer), count, 0, result) ? result : REAL(read)(fd, buffer, count);
}
EXPORT ssize_t __read_chk(int fd, void* buffer, size_t count, size_t room) {
    long result;
    if (count <= room && transfer(Op::read, fd, address_of(buffer), count, 0, result)) return result;
    return REAL(__read_chk)(fd, buffer, count, room);
}
EXPORT ssize_t pread(int fd, void* buffer, size_t count, off_t position) {
    long result;
    return transfer(Op::read, fd, address_of(buffer), count, position, result)
               ? result
               : REAL(pread)(fd, buffer, count, position);
}
EXPORT ssize_t pread64(int fd, void* buffer, size_t count, off64_t position) {
    return pread(fd, buffer, count, position);
}
EXPORT ssize_t __pread_chk(int fd, void* buffer, size_t count, off_t position, size_t room) {
    long result;
    if (count <= room && transfer(Op::read, fd, address_of(buffer), count, position, result)) return result;
    return REAL(__pread_chk)(fd, buffer, count, position, room);
}
EXPORT ssize_t __pread64_chk(int fd, void* buffer, size_t count, off64_t position, size_t room) {
    return __pread_chk(fd, buffer, count, position, room);
}
EXPORT ssize_t readv(int fd, const iovec* pieces, int count) {
    long first;
    if (count > 0 && transfer(Op::read, fd, address_of(pieces->iov_base), pieces->iov_len, 0, first))
        return transfer_pieces(Op::read, pieces, count, fd, first, 0);
    return REAL(readv)(fd, pieces, count);
}

EXPORT ssize_t write(int fd, const void* buffer, size_t count) {
    long result;
    return transfer(Op::write, fd, address_of(buffer), count, 0, result) ? result : REAL(write)(fd, buffer, count);
}
EXPORT ssize_t pwrite(int fd, const void* buffer, size_t count, off_t position) {
    long result;
    if (transfer(Op::write, fd, address_of(buffer), count, position, result)) return result;
    return REAL(pwrite)(fd, buffer, count, position);
}
EXPORT ssize_t pwrite64(int fd, const void* buffer, size_t count, off64_t position) {
    return pwrite(fd, buffer, count, position);
}
EXPORT ssize_t writev(int fd, const iovec* pieces, int count) {
    long first;
    if (count > 0 && transfer(Op::write, fd, address_of(pieces->iov_base), pieces->iov_len, 0, first))
        return transfer_pieces(Op::write, pieces, count, fd, first, 0);
    return REAL(writev)(fd, pieces, count);
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
    return REAL(close)(fd);
}
// Around what is our own.
EXPORT int close_range(unsigned first, unsigned last, int flags) noexcept {
    if (first > last) return errno = EINVAL, -1;
    for (unsigned fd = first; fd <= last && fd < (1u << 16); ++fd) {
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
