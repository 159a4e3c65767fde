#include "transfer.hpp"

#include <limits.h>
#include <poll.h>

#include "channel.hpp"
#include "files.hpp"
#include "kernel.hpp"

namespace viommu::shim {
namespace {

// Takes out what lay in a file so that it polled readable; nobody waits where somebody else was faster.
void drain(int fd, u64 count) {
    for (; count; --count) {
        pollfd readable_now{fd, POLLIN, 0};
        const timespec at_once{};
        char byte;
        if (kernel(SYS_ppoll, &readable_now, 1, &at_once, nullptr, 0) != 1) return;
        if (kernel(SYS_read, fd, &byte, 1) != 1) return;
    }
}

}  // namespace

bool transfer(Op op, int fd, u64 address, size_t count, off_t position, long& result) {
    const u64 number = marked_file(fd);
    if (!number) return false;
    Message message = question(op, number, address, count, static_cast<u64>(position));
    const i64 answer = ask(message);
    if (answer == not_ours) {
        unmark(fd);
        return false;
    }
    if (answer != -ENODEV) drain(fd, message.words[0]);
    result = answered(answer);
    return true;
}

bool transfer_pieces(Op op, int fd, const iovec* pieces, int count, off_t position, long& result) {
    if (!marked_file(fd)) return false;
    if (count < 0 || count > IOV_MAX) return result = answered(-EINVAL), true;
    result = 0;
    for (int index = 0; index < count; ++index) {
        long moved;
        if (!transfer(op, fd, address_of(pieces[index].iov_base), pieces[index].iov_len, position, moved))
            return index > 0;
        if (moved < 0) return result = result ? result : moved, true;
        result += moved, position += moved;
        if (static_cast<size_t>(moved) != pieces[index].iov_len) break;
    }
    return true;
}

}  // namespace viommu::shim
