#include "answers.hpp"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "areas.hpp"
#include "files.hpp"
#include "internal.hpp"
#include "kernel.hpp"
#include "lent_files.hpp"
#include "sharing.hpp"

namespace viommu::shim {

Answer::~Answer() {
    if (owned_) kernel(SYS_close, descriptor_);
}

void Answer::make() {
    const u32 given = message_.length;
    message_.length = 0;
    switch (message_.op) {
    case Op::peek: message_.result = peek(); break;
    case Op::poke:
        message_.length = given;
        message_.result = poke();
        message_.length = 0;
        break;
    case Op::file: message_.result = file(); break;
    case Op::area: message_.result = area(); break;
    case Op::populate: message_.result = populate(); break;
    case Op::install: message_.result = install(); break;
    case Op::uninstall: message_.result = uninstall(); break;
    case Op::share: message_.result = share(); break;
    case Op::exchange: message_.result = exchange(); break;
    default: message_.result = -ENOSYS;
    }
    message_.op = Op::answer;
}

// The kernel copies, so that an address may be anything.
i64 Answer::peek() {
    const u64 count = message_.words[1];
    if (count > most_bytes) return -EINVAL;
    const iovec into{payload_, count}, from{reinterpret_cast<void*>(message_.words[0]), count};
    const long copied = count ? kernel(SYS_process_vm_readv, getpid(), &into, 1, &from, 1, 0) : 0;
    if (copied != static_cast<long>(count)) return -EFAULT;
    message_.length = static_cast<u32>(count);
    return 0;
}

i64 Answer::poke() {
    const u64 count = message_.length;
    const iovec from{payload_, count}, into{reinterpret_cast<void*>(message_.words[0]), count};
    const long copied = count ? kernel(SYS_process_vm_writev, getpid(), &from, 1, &into, 1, 0) : 0;
    return copied == static_cast<long>(count) ? 0 : -EFAULT;
}

i64 Answer::file() {
    const int fd = static_cast<int>(message_.words[0]);
    struct stat status;
    if (is_internal(fd) || kernel(SYS_fstat, fd, &status)) return -EBADF;
    const bool any = message_.words[1];
    message_.words[0] = status.st_ino;
    message_.words[1] = status.st_mode;
    message_.words[2] = static_cast<u64>(kernel(SYS_fcntl, fd, F_GETFL));
    if (any || S_ISREG(status.st_mode)) lend(fd, false);
    return 0;
}

i64 Answer::area() {
    Area found;
    if (!find_area(message_.words[0], found)) return -ENOMEM;
    message_.words[0] = found.start;
    message_.words[1] = found.end;
    message_.words[2] = found.rights;
    message_.words[3] = found.offset;
    if (found.rights & shared) {
        bool ours = false;
        const int fd = descriptor_of(found, ours);
        if (fd >= 0) lend(fd, ours);
    }
    return 0;
}

i64 Answer::populate() {
    const int advice = message_.words[2] ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;
    const long done = kernel(SYS_madvise, message_.words[0], message_.words[1], advice);
    return done ? -errno : 0;
}

i64 Answer::install() {
    const int fd = received_.take();
    if (fd < 0) return -EBADF;
    if (!(message_.words[0] & O_CLOEXEC)) kernel(SYS_fcntl, fd, F_SETFD, 0);
    mark(fd);
    return fd;
}

i64 Answer::uninstall() {
    const int fd = static_cast<int>(message_.words[0]);
    unmark(fd);
    return kernel(SYS_close, fd) ? -EBADF : 0;
}

i64 Answer::share() { return share_memory(message_.words[0], message_.words[0] + message_.words[1]) ? 0 : -EINVAL; }

// Beside the program's own stores. What unmaps memory that a device works on, just now, meets its own fault.
i64 Answer::exchange() {
    const u64 address = message_.words[0];
    Area found;
    if (address % 8 || !find_area(address, found) || ~found.rights & (readable | writable)) return -EFAULT;
    u64 expected = message_.words[1];
    return __atomic_compare_exchange_n(reinterpret_cast<u64*>(address), &expected, message_.words[2], false,
                                       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

void Answer::lend(int fd, bool ours) {
    descriptor_ = fd;
    owned_ = ours;
}

}  // namespace viommu::shim
