// In front of the C library: mapping memory. What the program shares, the service must be able to map as well.
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#include "channel.hpp"
#include "files.hpp"
#include "internal.hpp"
#include "kernel.hpp"
#include "lent_files.hpp"
#include "mmio.hpp"
#include "real.hpp"
#include "regions.hpp"
#include "sharing.hpp"

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
    const Message asked = question(Op::map, file, length, how, static_cast<u64>(offset));
    Message message = asked;
    Descriptor lent;
    i64 result = ask(message, &lent);
    if (result >= 0 && lent.get() < 0) {  // there was no room for it
        const BeyondLimit beyond;
        result = ask(message = asked, &lent);
    }
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

void* map_somewhere(void* address, std::size_t length, int rights, int flags, int fd, off_t offset) {
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

u64 number_of(const void* address) { return reinterpret_cast<u64>(address); }

// As far as a length goes in pages.
std::size_t pages_of(std::size_t length) { return (length + page_size - 1) & -page_size; }

// Remembers whether a stretch shows files that are looked after, and looks after them once something is mapped there no
// more.
class Tidied {
public:
    Tidied(u64 start, std::size_t length) : loses_(shows_kept(start, length)) {}
    ~Tidied() {
        const int kept = errno;
        if (loses_) tidy_files(), tidy_shared();
        errno = kept;
    }

private:
    bool loses_;
};

// Takes registers away from where something else is about to be mapped; nothing else gets there meanwhile.
void clear_registers(u64 start, std::size_t length) {
    if (!has_regions() || start % page_size) return;
    RegionsHeld held;
    if (!held.any(start, length)) return;
    map_really(reinterpret_cast<void*>(start), length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    held.forget(start, pages_of(length));
}

void* map(void* address, std::size_t length, int rights, int flags, int fd, off_t offset) {
    if (!serviced()) return map_really(address, length, rights, flags, fd, offset);
    if (!(flags & MAP_FIXED)) return map_somewhere(address, length, rights, flags, fd, offset);
    const Tidied tidied(number_of(address), length);
    clear_registers(number_of(address), length);
    return map_somewhere(address, length, rights, flags, fd, offset);
}

int unmap(u64 start, std::size_t length) {
    if (!has_regions()) return static_cast<int>(kernel(SYS_munmap, start, length));
    RegionsHeld held;
    const int result = static_cast<int>(kernel(SYS_munmap, start, length));
    if (!result) held.forget(start, pages_of(length));
    return result;
}

// Registers may move and become fewer, as those of a real device may.
void* remap_registers(RegionsHeld& held, u64 old, std::size_t length, std::size_t wanted, int flags, void* fixed) {
    if (wanted > length) return errno = EFAULT, MAP_FAILED;
    if (flags & MREMAP_DONTUNMAP) return errno = EINVAL, MAP_FAILED;
    const long made = kernel(SYS_mremap, old, length, wanted, flags, fixed);
    if (made == -1) return MAP_FAILED;
    if (static_cast<u64>(made) != old) held.move(old, static_cast<u64>(made), wanted);
    held.forget(old, static_cast<u64>(made) == old ? 0 : length);
    held.forget(old + wanted, length - wanted);
    return reinterpret_cast<void*>(made);
}

// Memory that was private before grows by empty pages, and leaves empty ones behind.
void* remap_memory(bool was_own, u64 old, std::size_t length, std::size_t wanted, int flags, void* fixed) {
    const long made = kernel(SYS_mremap, old, length, wanted, flags, fixed);
    if (made == -1) return MAP_FAILED;
    if (was_own && wanted > length) kernel(SYS_madvise, made + static_cast<long>(length), wanted - length, MADV_REMOVE);
    if (was_own && flags & MREMAP_DONTUNMAP) empty_memory(old, old + length);
    return reinterpret_cast<void*>(made);
}

void* remap(u64 old, std::size_t length, std::size_t wanted, int flags, void* fixed) {
    const std::size_t pages = pages_of(length), wanted_pages = pages_of(wanted);
    const bool moves_over = flags & MREMAP_FIXED;
    const Tidied tidied(moves_over ? number_of(fixed) : old, moves_over ? wanted_pages : pages);
    if (moves_over) clear_registers(number_of(fixed), wanted_pages);
    if (has_regions()) {
        RegionsHeld held;
        if (held.any(old, pages)) return remap_registers(held, old, pages, wanted_pages, flags, fixed);
    }
    Area area;
    const bool was_own = has_shared() && find_area(old, area) && was_private(area);
    if (was_own && !length) return errno = EINVAL, MAP_FAILED;  // only shared memory can be had twice
    return remap_memory(was_own, old, pages, wanted_pages, flags, fixed);
}

// Registers stay out of reach, so that each load and store is seen; the rights of what lies beside them change.
template <typename Protect> int protect_around(u64 start, std::size_t length, Protect&& protect) {
    if (!has_regions()) return static_cast<int>(protect(start, length));
    const RegionsHeld held;
    if (!held.any(start, length)) return static_cast<int>(protect(start, length));
    return static_cast<int>(held.around(start, pages_of(length), protect));
}

bool empties(int advice) {
    constexpr int dont_need_locked = 24;
    return advice == MADV_DONTNEED || advice == MADV_FREE || advice == dont_need_locked;
}

}  // namespace
}  // namespace viommu::shim

using namespace viommu::shim;

EXPORT void* mmap(void* address, size_t length, int rights, int flags, int fd, off_t offset) noexcept {
    return map(address, length, rights, flags, fd, offset);
}
EXPORT void* mmap64(void* address, size_t length, int rights, int flags, int fd, off64_t offset) noexcept {
    return map(address, length, rights, flags, fd, offset);
}
EXPORT int munmap(void* address, size_t length) noexcept {
    if (!serviced()) return static_cast<int>(kernel(SYS_munmap, address, length));
    const Tidied tidied(number_of(address), length);
    return unmap(number_of(address), length);
}
EXPORT void* mremap(void* old, size_t length, size_t wanted, int flags, ...) noexcept {
    va_list rest;
    va_start(rest, flags);
    void* const fixed = flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) ? va_arg(rest, void*) : nullptr;
    va_end(rest);
    if (serviced()) return remap(number_of(old), length, wanted, flags, fixed);
    return reinterpret_cast<void*>(kernel(SYS_mremap, old, length, wanted, flags, fixed));
}
EXPORT int mprotect(void* address, size_t length, int rights) noexcept {
    return protect_around(number_of(address), length,
                          [&](u64 start, std::size_t part) { return kernel(SYS_mprotect, start, part, rights); });
}
EXPORT int pkey_mprotect(void* address, size_t length, int rights, int key) noexcept {
    return protect_around(number_of(address), length, [&](u64 start, std::size_t part) {
        return kernel(SYS_pkey_mprotect, start, part, rights, key);
    });
}
EXPORT int madvise(void* address, size_t length, int advice) noexcept {
    const u64 start = number_of(address);
    if (empties(advice) && has_shared() && !(start % page_size)) {
        const Tidied tidied(start, length);
        if (!empty_memory(start, start + pages_of(length))) return -1;
    }
    return static_cast<int>(kernel(SYS_madvise, address, length, advice));
}
