#include "uring.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include <atomic>

#include "blocked.hpp"
#include "channel.hpp"
#include "files.hpp"
#include "kernel.hpp"
#include "notes.hpp"
#include "paths.hpp"

namespace viommu::shim {
namespace {

constexpr unsigned without_array = 1u << 16;  // IORING_SETUP_NO_SQARRAY, of Linux 6.6

// Where the entries of one ring lie, mapped for ourselves.
struct Ring {
    int fd = -1;
    u8* queue = nullptr;
    u8* entries = nullptr;
    unsigned long queue_bytes = 0, entry_bytes = 0;
    io_sqring_offsets offsets{};
    unsigned flags = 0;
};
constexpr int most_rings = 64;
Ring rings[most_rings];
std::atomic<int> ring_count = 0;
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

u8* mapped(int ring, unsigned long length, unsigned long offset) {
    const long made = kernel(SYS_mmap, nullptr, length, PROT_READ, MAP_SHARED, ring, offset);
    return made == -1 ? nullptr : reinterpret_cast<u8*>(made);
}

void unmap(Ring& ring) {
    if (ring.queue) kernel(SYS_munmap, ring.queue, ring.queue_bytes);
    if (ring.entries) kernel(SYS_munmap, ring.entries, ring.entry_bytes);
    ring = {};
}

unsigned word_at(const Ring& ring, unsigned offset) {
    return __atomic_load_n(reinterpret_cast<const unsigned*>(ring.queue + offset), __ATOMIC_ACQUIRE);
}

unsigned long entry_size(unsigned flags) { return flags & IORING_SETUP_SQE128 ? 128 : 64; }

// As the kernel will find them. The program may still change them; that is its own harm.
bool queue_uses_ours(const Ring& ring, unsigned count) {
    const unsigned mask = word_at(ring, ring.offsets.ring_mask);
    const unsigned head = word_at(ring, ring.offsets.head), tail = word_at(ring, ring.offsets.tail);
    for (unsigned at = head; at != tail && count; ++at, --count) {
        const unsigned slot = at & mask;
        const unsigned index = ring.flags & without_array ? slot : word_at(ring, ring.offsets.array + slot * 4);
        if (index > mask) continue;
        if (uses_ours(*reinterpret_cast<const io_uring_sqe*>(ring.entries + index * entry_size(ring.flags))))
            return true;
    }
    return false;
}

// The program's memory, which may not be there: how much could be copied.
long copied(void* into, u64 from, unsigned long length) {
    const iovec target{into, length}, source{reinterpret_cast<void*>(from), length};
    return kernel(SYS_process_vm_readv, kernel(SYS_getpid), &target, 1, &source, 1, 0);
}

bool is_ours(int fd) {
    const u64 number = marked_file(fd);
    return number && ask(Op::owns, number) > 0;
}

bool any_is_ours(u64 array, unsigned count) {
    for (unsigned index = 0; index < count; ++index) {
        int fd;
        if (copied(&fd, array + index * sizeof fd, sizeof fd) != sizeof fd) return false;
        if (is_ours(fd)) return true;
    }
    return false;
}

bool names_node(int folder, u64 address) {
    char path[64] = {};
    return copied(path, address, sizeof path - 1) > 0 && Named(folder, path).node() >= 0;
}

// Polling sees what it should, and closing is what it is.
bool works_on_content(u8 operation) {
    switch (operation) {
    case IORING_OP_POLL_ADD:
    case IORING_OP_POLL_REMOVE:
    case IORING_OP_CLOSE:
    case IORING_OP_EPOLL_CTL:
    case IORING_OP_NOP: return false;
    default: return true;
    }
}

}  // namespace

void note_ring(int ring, const io_uring_params* made) {
    if (ring < 0 || !made || !serviced()) return;
    Ring noted;
    noted.fd = ring, noted.offsets = made->sq_off, noted.flags = made->flags;
    noted.queue_bytes = made->sq_off.array + made->sq_entries * sizeof(unsigned);
    noted.entry_bytes = made->sq_entries * entry_size(made->flags);
    noted.queue = mapped(ring, noted.queue_bytes, IORING_OFF_SQ_RING);
    noted.entries = mapped(ring, noted.entry_bytes, IORING_OFF_SQES);
    const Locked locked(lock);
    if (!noted.queue || !noted.entries || ring_count == most_rings) return unmap(noted);
    rings[ring_count] = noted;
    ++ring_count;
}

void forget_ring(int fd) {
    if (!ring_count) return;
    const Locked locked(lock);
    for (int index = ring_count; index-- > 0;) {
        if (rings[index].fd != fd) continue;
        unmap(rings[index]);
        rings[index] = rings[ring_count - 1];
        --ring_count;
    }
}

bool uses_ours(const io_uring_sqe& entry) {
    switch (entry.opcode) {
    case IORING_OP_OPENAT:
    case IORING_OP_OPENAT2:
    case IORING_OP_STATX: return names_node(entry.fd, entry.addr);
    case IORING_OP_SPLICE:
    case IORING_OP_TEE:
        if (!(entry.splice_flags & SPLICE_F_FD_IN_FIXED) && is_ours(entry.splice_fd_in)) return true;
        break;
    default: break;
    }
    return works_on_content(entry.opcode) && !(entry.flags & IOSQE_FIXED_FILE) && is_ours(entry.fd);
}

bool submits_ours(int ring, unsigned count) {
    if (!ring_count) return false;
    const Locked locked(lock);
    for (int index = 0; index < ring_count; ++index)
        if (rings[index].fd == ring && queue_uses_ours(rings[index], count)) return true;
    return false;
}

bool registers_ours(unsigned operation, const void* argument, unsigned count) {
    const u64 at = reinterpret_cast<u64>(argument);
    io_uring_rsrc_register all;
    io_uring_files_update some;
    io_uring_rsrc_update2 others;
    switch (operation) {
    case IORING_REGISTER_FILES: return any_is_ours(at, count);
    case IORING_REGISTER_FILES2: return copied(&all, at, sizeof all) == sizeof all && any_is_ours(all.data, all.nr);
    case IORING_REGISTER_FILES_UPDATE:
        return copied(&some, at, sizeof some) == sizeof some && any_is_ours(some.fds, count);
    case IORING_REGISTER_FILES_UPDATE2:
        return copied(&others, at, sizeof others) == sizeof others && any_is_ours(others.data, others.nr);
    default: return false;
    }
}

void lock_rings() { pthread_mutex_lock(&lock); }
void unlock_rings() { pthread_mutex_unlock(&lock); }
void rings_in_child() { lock = PTHREAD_MUTEX_INITIALIZER; }

void tell_of_refusal() {
    static std::atomic<bool> told = false;
    if (!told.exchange(true)) tell(Note::uring);
}

}  // namespace viommu::shim
