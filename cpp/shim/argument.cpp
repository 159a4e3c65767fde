#include "argument.hpp"

#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "channel.hpp"
#include "kernel.hpp"

namespace viommu::shim {
namespace {

constexpr u64 page_size = 4096;
constexpr u64 at_first = 64;  // what most structures are not longer than

// The kernel copies, so that an address may be anything: how many bytes there were.
u64 copy_in(u8* room, u64 address, u64 length) {
    const iovec into{room, length}, from{reinterpret_cast<void*>(address), length};
    const long copied = kernel(SYS_process_vm_readv, getpid(), &into, 1, &from, 1, 0);
    return copied < 0 ? 0 : static_cast<u64>(copied);
}

bool copy_out(u64 address, const u8* bytes, u64 length) {
    const iovec from{const_cast<u8*>(bytes), length}, into{reinterpret_cast<void*>(address), length};
    return kernel(SYS_process_vm_writev, getpid(), &from, 1, &into, 1, 0) == static_cast<long>(length);
}

// Whether a word can be stored to, found without changing it beside other threads: the kernel adds 0 to it.
bool is_writable(u64 address) {
    static u32 nobody_waits_here = 0;
    constexpr u32 adds_zero = u32{FUTEX_OP_ADD} << 28 | u32{FUTEX_OP_CMP_EQ} << 24;
    return kernel(SYS_futex, &nobody_waits_here, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, 0, address & ~u64{3},
                  adds_zero) >= 0;
}

bool is_writable(u64 address, u64 length) {
    const u64 last = address + length - 1;
    return is_writable(address) && (address / page_size == last / page_size || is_writable(last));
}

// Copies a structure that can be read and stored to: its size. 0 where the service is to look itself, because it
// begins with no size, is long, or is not all there.
u32 copied(u64 address, u8 (&room)[most_carried]) {
    const u64 to_page_end = page_size - address % page_size;
    const u64 first = copy_in(room, address, to_page_end < at_first ? to_page_end : at_first);
    u32 size;
    if (first < sizeof size) return 0;
    memcpy(&size, room, sizeof size);
    if (size < sizeof size || size > most_carried || !is_writable(address, size)) return 0;
    if (size > first && copy_in(room + first, address + first, size - first) != size - first) return 0;
    return size;
}

}  // namespace

i64 ask_ioctl(u64 file, unsigned number, const void* argument) {
    const int kept = errno;
    const u64 address = reinterpret_cast<u64>(argument);
    u8 room[most_carried];
    Message message = question(Op::ioctl, file, number, address);
    message.length = copied(address, room);
    i64 result = ask(message, nullptr, {room, room, sizeof room});
    if (message.length && !copy_out(address + message.words[0], room, message.length)) result = -EFAULT;
    errno = kept;
    return result;
}

}  // namespace viommu::shim
