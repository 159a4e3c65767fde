// Device registers that a program has mapped: where they are.
#pragma once

#include <pthread.h>

#include <cstddef>

#include "blocked.hpp"
#include "wire.hpp"

namespace viommu::shim {

// Registers of a file of the service at [start, end); `position` is where they lie in the file, `room` the same memory
// where it can be touched.
struct Region {
    u64 start = 0, end = 0;
    u64 file = 0, position = 0;
    u8* room = nullptr;
};

// Takes registers, mapped without rights; `memory` is a descriptor of their room, which is the caller's. False, and
// errno: there is no room for more (ENOMEM).
bool add_region(u64 start, std::size_t length, u64 file, u64 position, int memory);

bool region_at(u64 address, Region& found);

// Nobody adds, finds or changes regions as long as one exists: they and what is mapped change together.
class RegionsHeld {
public:
    RegionsHeld();

    bool any(u64 start, std::size_t length) const;
    // [start, start + length) is mapped no more, or shows something else.
    void forget(u64 start, std::size_t length);
    // `length` bytes of registers lie elsewhere now. What is not within one region does not move: false.
    bool move(u64 from, u64 to, std::size_t length);
    // Calls each(start, length) for the parts of a stretch that are no registers, until it gives something else than 0.
    template <typename Each> long around(u64 start, std::size_t length, Each&& each) const {
        const u64 end = start + length;
        while (start < end) {
            u64 next_start, next_end;
            if (!next(start, end, next_start, next_end)) next_start = next_end = end;
            const long result = next_start > start ? each(start, next_start - start) : 0;
            if (result) return result;
            start = next_end;
        }
        return 0;
    }

private:
    bool next(u64 start, u64 end, u64& next_start, u64& next_end) const;
    Locked locked_;
};

// Whether there are regions at all: mostly there are none, and nothing has to wait.
bool has_regions();

// Around fork. A child finds the same registers.
void lock_regions();
void unlock_regions();
void regions_in_child();

}  // namespace viommu::shim
