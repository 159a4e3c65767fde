// In front of the C library: reading and writing.
#include <sys/uio.h>
#include <unistd.h>

#include "real.hpp"
#include "transfer.hpp"

extern "C" {
ssize_t __read_chk(int, void*, size_t, size_t);
ssize_t __pread_chk(int, void*, size_t, off_t, size_t);
ssize_t __pread64_chk(int, void*, size_t, off64_t, size_t);
}

namespace viommu::shim {
DECLARE_REAL(read)
DECLARE_REAL(__read_chk)
DECLARE_REAL(pread)
DECLARE_REAL(__pread_chk)
DECLARE_REAL(readv)
DECLARE_REAL(preadv)
DECLARE_REAL(preadv2)
DECLARE_REAL(write)
DECLARE_REAL(pwrite)
DECLARE_REAL(writev)
DECLARE_REAL(pwritev)
DECLARE_REAL(pwritev2)
}  // namespace viommu::shim

using namespace viommu::shim;

EXPORT ssize_t read(int fd, void* buffer, size_t count) {
    long result;
    return transfer(Op::read, fd, address_of(buffer), count, 0, result) ? result : REAL(read)(fd, buffer, count);
}
EXPORT ssize_t __read_chk(int fd, void* buffer, size_t count, size_t room) {
    return count > room ? REAL(__read_chk)(fd, buffer, count, room) : read(fd, buffer, count);
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
    return count > room ? REAL(__pread_chk)(fd, buffer, count, position, room) : pread(fd, buffer, count, position);
}
EXPORT ssize_t __pread64_chk(int fd, void* buffer, size_t count, off64_t position, size_t room) {
    return __pread_chk(fd, buffer, count, position, room);
}
EXPORT ssize_t readv(int fd, const iovec* pieces, int count) {
    long result;
    return transfer_pieces(Op::read, fd, pieces, count, 0, result) ? result : REAL(readv)(fd, pieces, count);
}
EXPORT ssize_t preadv(int fd, const iovec* pieces, int count, off_t position) {
    long result;
    return transfer_pieces(Op::read, fd, pieces, count, position, result) ? result
                                                                          : REAL(preadv)(fd, pieces, count, position);
}
EXPORT ssize_t preadv64(int fd, const iovec* pieces, int count, off64_t position) {
    return preadv(fd, pieces, count, position);
}
// -1 is where the file stands; no file of the service can do anything by flags.
EXPORT ssize_t preadv2(int fd, const iovec* pieces, int count, off_t position, int flags) {
    long result;
    if (!flags && transfer_pieces(Op::read, fd, pieces, count, position < 0 ? 0 : position, result)) return result;
    return REAL(preadv2)(fd, pieces, count, position, flags);
}
EXPORT ssize_t preadv64v2(int fd, const iovec* pieces, int count, off64_t position, int flags) {
    return preadv2(fd, pieces, count, position, flags);
}

EXPORT ssize_t write(int fd, const void* buffer, size_t count) {
    long result;
    return transfer(Op::write, fd, address_of(buffer), count, 0, result) ? result : REAL(write)(fd, buffer, count);
}
EXPORT ssize_t pwrite(int fd, const void* buffer, size_t count, off_t position) {
    long result;
    return transfer(Op::write, fd, address_of(buffer), count, position, result)
               ? result
               : REAL(pwrite)(fd, buffer, count, position);
}
EXPORT ssize_t pwrite64(int fd, const void* buffer, size_t count, off64_t position) {
    return pwrite(fd, buffer, count, position);
}
EXPORT ssize_t writev(int fd, const iovec* pieces, int count) {
    long result;
    return transfer_pieces(Op::write, fd, pieces, count, 0, result) ? result : REAL(writev)(fd, pieces, count);
}
EXPORT ssize_t pwritev(int fd, const iovec* pieces, int count, off_t position) {
    long result;
    return transfer_pieces(Op::write, fd, pieces, count, position, result) ? result
                                                                           : REAL(pwritev)(fd, pieces, count, position);
}
EXPORT ssize_t pwritev64(int fd, const iovec* pieces, int count, off64_t position) {
    return pwritev(fd, pieces, count, position);
}
EXPORT ssize_t pwritev2(int fd, const iovec* pieces, int count, off_t position, int flags) {
    long result;
    if (!flags && transfer_pieces(Op::write, fd, pieces, count, position < 0 ? 0 : position, result)) return result;
    return REAL(pwritev2)(fd, pieces, count, position, flags);
}
EXPORT ssize_t pwritev64v2(int fd, const iovec* pieces, int count, off64_t position, int flags) {
    return pwritev2(fd, pieces, count, position, flags);
}
