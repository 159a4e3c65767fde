#include "regions.hpp"

#include <sys/mman.h>

#include <atomic>

namespace viommu::shim {
namespace {

constexpr int most_regions = 256;
Region regions[most_regions];  // the first `count`
std::atomic<int> count = 0;
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

bool meets(const Region& region, u64 start, u64 end) { return region.start < end && start < region.end; }

bool push(const Region& region) {
    if (count == most_regions) return false;
    regions[count] = region;
    ++count;
    return true;
}

Region part_of(const Region& region, u64 start, u64 end) {
    const u64 offset = start - region.start;
    return {start, end, region.file, region.position + offset, region.room + offset};
}

void release_room(const Region& region) { kernel(SYS_munmap, region.room, region.end - region.start); }

// Takes [start, end) out of the table, and leaves what lies beside it. The room of what is taken is the caller's.
template <typename Each> void take(u64 start, u64 end, Each&& each) {
    for (int index = count; index-- > 0;) {
        const Region whole = regions[index];
        if (!meets(whole, start, end)) continue;
        regions[index] = regions[count - 1];
        --count;
        const u64 from = whole.start > start ? whole.start : start, to = whole.end < end ? whole.end : end;
        if (whole.start < from) push(part_of(whole, whole.start, from));
        if (to < whole.end) push(part_of(whole, to, whole.end));
        each(part_of(whole, from, to));
    }
}

}  // namespace

bool add_region(u64 start, std::size_t length, u64 file, u64 position, int memory) {
    const long room = kernel(SYS_mmap, nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (room == -1) return false;
    const Region made{start, start + length, file, position, reinterpret_cast<u8*>(room)};
    {
        const Locked locked(lock);
        take(made.start, made.end, release_room);
        if (push(made)) return true;
    }
    release_room(made);
    return errno = ENOMEM, false;
}

bool region_at(u64 address, Region& found) {
    if (!has_regions()) return false;
    const Locked locked(lock);
    for (int index = 0; index < count; ++index) {
        if (!meets(regions[index], address, address + 1)) continue;
        found = regions[index];
        return true;
    }
    return false;
}

RegionsHeld::RegionsHeld() : locked_(lock) {}

bool RegionsHeld::any(u64 start, std::size_t length) const {
    u64 first, last;
    return next(start, start + length, first, last);
}

void RegionsHeld::forget(u64 start, std::size_t length) { take(start, start + length, release_room); }

bool RegionsHeld::move(u64 from, u64 to, std::size_t length) {
    Region moved;
    for (int index = 0; index < count; ++index)
        if (regions[index].start <= from && from + length <= regions[index].end)
            moved = part_of(regions[index], from, from + length);
    if (!moved.room) return false;
    take(from, from + length, [](const Region&) {});
    take(to, to + length, release_room);
    moved.start = to, moved.end = to + length;
    return push(moved);
}

bool RegionsHeld::next(u64 start, u64 end, u64& next_start, u64& next_end) const {
    const Region* first = nullptr;
    for (int index = 0; index < count; ++index)
        if (meets(regions[index], start, end) && (!first || regions[index].start < first->start))
            first = &regions[index];
    if (!first) return false;
    next_start = first->start > start ? first->start : start;
    next_end = first->end < end ? first->end : end;
    return true;
}

bool has_regions() { return count.load(std::memory_order_acquire); }

void lock_regions() { pthread_mutex_lock(&lock); }
void unlock_regions() { pthread_mutex_unlock(&lock); }

void regions_in_child() {
    lock = PTHREAD_MUTEX_INITIALIZER;
    // Another thread may just have been about to touch one.
    for (int index = 0; index < count; ++index)
        kernel(SYS_mprotect, regions[index].start, regions[index].end - regions[index].start, PROT_NONE);
}

}  // namespace viommu::shim
