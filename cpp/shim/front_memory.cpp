// In front of the C library: mapping memory. What the program shares, the service must be able to map as well.
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#include "areas.hpp"
#include "channel.hpp"
#include "files.hpp"
#include "kernel.hpp"
#include "mmio.hpp"
#include "real.hpp"

namespace viommu::shim {
namespace {

constexpr std::size_t page_size = 4096;
constexpr std::size_t huge_page = std::size_t{2} << 20;

void* map_really(void* address, std::size_t length, int rights, int flags, int fd, off_t offset) {
    return reinterpret_cast<void*>(kernel(SYS_mmap, address, length, rights, flags, fd, offset));
}

// Registers of an open file: shared memory that the service lends.
void* map_registers(u64 file, void* address, std::size_t length, int rights, int flags, off_t offset) {
    const u64 how = static_cast<unsigned>(rights) | static_cast<u64>(static_cast<unsigned>(flags)) << 32;
    Message message = question(Op::map, file, length, how, static_cast<u64>(offset));
    Descriptor lent;
    const i64 result = ask(message, &lent);
    if (result < 0) return errno = static_cast<int>(-result), MAP_FAILED;
    const bool trapped = message.words[0];
    void* const made = map_really(address, length, trapped ? PROT_NONE : rights, flags, lent.get(), result);
    if (!trapped || made == MAP_FAILED) return made;
    const std::size_t whole = (length + page_size - 1) & -page_size;
    if (trap_registers(reinterpret_cast<u64>(made), whole, file, static_cast<u64>(offset), lent.get())) return made;
    const int why = errno;
    kernel(SYS_munmap, made, length);
    return errno = why, MAP_FAILED;
}

// Memory that nobody but relatives of the program could name becomes a memfd, which behaves the same.
void* map_shared_memory(void* address, std::size_t length, int rights, int flags) {
    const int fd = make_shared_memory(length);
    if (fd < 0) return MAP_FAILED;
    void* const made = map_really(address, length, rights, flags & ~(MAP_ANONYMOUS | MAP_HUGETLB), fd, 0);
    if (made != MAP_FAILED) keep_file(fd);
    kernel(SYS_close, fd);
    return made;
}

// Where the machine has no huge pages to give: ordinary ones, where huge ones would lie.
void* map_as_huge(void* address, std::size_t length, int rights, int flags) {
    length = (length + huge_page - 1) & -huge_page;
    const int others = flags & ~MAP_HUGETLB & ~(MAP_HUGE_MASK << MAP_HUGE_SHIFT);
    if (!(flags & MAP_FIXED)) {
        void* const room = map_really(nullptr, length + huge_page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (room == MAP_FAILED) return room;
        const u64 start = reinterpret_cast<u64>(room), first = (start + huge_page - 1) & -huge_page;
        if (first > start) kernel(SYS_munmap, start, first - start);
        kernel(SYS_munmap, first + length, start + huge_page - first);
        address = reinterpret_cast<void*>(first);
    }
    const int fixed = others | MAP_FIXED;
    void* const made = flags & MAP_SHARED ? map_shared_memory(address, length, rights, fixed)
                                          : map_really(address, length, rights, fixed, -1, 0);
    if (made != MAP_FAILED) kernel(SYS_madvise, made, length, MADV_HUGEPAGE);
    return made;
}

void* map(void* address, std::size_t length, int rights, int flags, int fd, off_t offset) {
    if (!serviced()) return map_really(address, length, rights, flags, fd, offset);
    if (!(flags & MAP_ANONYMOUS)) {
        const u64 file = marked_file(fd);
        if (file) return map_registers(file, address, length, rights, flags, offset);
        if (is_internal(fd)) return errno = EBADF, MAP_FAILED;
    }
    const bool is_shared = (flags & MAP_TYPE) == MAP_SHARED || (flags & MAP_TYPE) == MAP_SHARED_VALIDATE;
    if (is_shared && flags & MAP_ANONYMOUS && !(flags & MAP_HUGETLB) && length)
        return map_shared_memory(address, length, rights, flags);
    void* made = map_really(address, length, rights, flags, fd, offset);
    if (made == MAP_FAILED && errno == ENOMEM && flags & MAP_ANONYMOUS && flags & MAP_HUGETLB)
        made = map_as_huge(address, length, rights, flags);
    else if (made != MAP_FAILED && is_shared && !(flags & MAP_ANONYMOUS))
        keep_file(fd);
    return made;
}

}  // namespace
DECLARE_REAL(munmap)
}  // namespace viommu::shim

using namespace viommu::shim;

EXPORT void* mmap(void* address, size_t length, int rights, int flags, int fd, off_t offset) noexcept {
    return map(address, length, rights, flags, fd, offset);
}
EXPORT void* mmap64(void* address, size_t length, int rights, int flags, int fd, off64_t offset) noexcept {
    return map(address, length, rights, flags, fd, offset);
}
EXPORT int munmap(void* address, size_t length) noexcept {
    const int result = static_cast<int>(kernel(SYS_munmap, address, length));
    if (!result && serviced()) {
        forget_registers(reinterpret_cast<u64>(address), length);
        tidy_files();
    }
    return result;
}
