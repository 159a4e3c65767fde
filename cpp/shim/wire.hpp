// What the shim and the service tell each other: packets of one connected socket for each thread of the program.
//
// The shim asks; the service may ask back while it answers (`peek` to `uninstall`), and ends with `answer`. A packet is
// a Message and `length` bytes after it; a file descriptor travels along where the list below says so.
// core/viommu/service/wire.py states the same.
#pragma once

#include <cstddef>
#include <cstdint>

namespace viommu::shim {

using u8 = std::uint8_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i64 = std::int64_t;

enum class Op : u32 {
    // The shim asks.
    hello = 1,  // a Greeting; payload: the token of this address space
    open,       // node, flags -> 0, with the new file's descriptor
    ioctl,      // file, number, argument; payload: its bytes, or none -> words[0]: where in it to put the payload
    read,       // file, address, count, position
    write,      // file, address, count, position
    map,        // file, length, prot | flags << 32, offset -> offset in the memory that comes along; 1: to be trapped
    owns,       // file -> whether the service knows it
    pinned,     // process id -> VmLck and VmPin in words[0] and [1] (pages)
    load,       // file, position, count: registers that are mapped -> the bytes
    store,      // file, position; payload: the bytes
    note,       // a Note, address, count: what goes with it, a text

    // The service asks back.
    peek = 32,  // address, count -> the bytes
    poke,       // address; payload: the bytes
    file,       // descriptor, whether to lend any -> inode, mode, flags; a regular file is lent always
    area,       // address -> start, end, rights, offset; with the descriptor where there is one
    populate,   // address, length, whether for writing
    install,    // flags; with a descriptor -> its number in the program
    uninstall,  // descriptor
    share,      // address, length: let private memory become memory that can be mapped elsewhere too
    exchange,   // address, expected, desired: 64-bit words -> 1: stored, 0: it is another

    answer = 64,
};

// What the user should know of a program.
enum class Note : u32 {
    uring = 1,     // io_uring was refused on a file of the service
    not_loadable,  // a program is run that loads no library; the text says which, and why
};

struct Message {
    Op op = Op::answer;
    u32 length = 0;  // of what follows (bytes)
    i64 result = 0;  // 0 or more, or a negative errno
    u64 words[4] = {};
};
static_assert(sizeof(Message) == 48);

inline Message question(Op op, u64 a = 0, u64 b = 0, u64 c = 0, u64 d = 0) { return {op, 0, 0, {a, b, c, d}}; }

enum class Greeting : u64 {
    helper = 1,  // this connection answers, and asks nothing
    reachable,   // it asks, and what it points to may be read without asking back, as far as the system allows that
};

// Rights of an area.
inline constexpr u64 readable = 1, writable = 2, shared = 4;

inline constexpr std::size_t most_bytes = 64 * 1024;  // of a payload
inline constexpr std::size_t most_carried = 64;       // from an ioctl's argument on: what lies beyond is asked for
inline constexpr std::size_t token_bytes = 16;

inline constexpr i64 not_ours = -4095;  // the answer about a file that the service does not know: no errno

inline constexpr const char* socket_variable = "VIOMMU_SOCKET";

}  // namespace viommu::shim
