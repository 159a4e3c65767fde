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

// How many bytes from an address on go along: what lies in one page, of which all can be read and stored to or nothing.
u32 carried(u64 address) {
    const u64 left = page_size - address % page_size;
    if (!address || !is_writable(address)) return 0;
    return static_cast<u32>(left < most_carried ? left : most_carried);
}

}  // namespace

i64 ask_ioctl(u64 file, unsigned number, const void* argument) {
    const int kept = errno;
    const u64 address = reinterpret_cast<u64>(argument);
    u8 room[most_carried];
    Message message = question(Op::ioctl, file, number, address);
    message.length = carried(address);
    i64 result = ask(message, nullptr, {argument, room, sizeof room});
    if (message.length && !copy_out(address + message.words[0], room, message.length)) result = -EFAULT;
    errno = kept;
    return result;
}

}  // namespace viommu::shim
