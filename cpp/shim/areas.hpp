// What is mapped where in the program.
#pragma once

#include <cstddef>

#include "wire.hpp"

namespace viommu::shim {

// Which file an area shows.
struct AreaFile {
    u64 device = 0;
    u64 inode = 0;

    bool operator==(const AreaFile&) const = default;
};

// What is mapped around an address (bytes).
struct Area {
    u64 start = 0, end = 0;
    u64 rights = 0;
    u64 offset = 0;  // of `start` in the file
    AreaFile file;
};

// The kernel's list of what is mapped, from low addresses to high. It may change under us: each answer is of its
// moment.
class Areas {
public:
    Areas();
    ~Areas();
    Areas(const Areas&) = delete;

    // The first area that ends above an address; false where there is none.
    bool next(u64 address, Area& found);
    // The area that holds an address.
    bool at(u64 address, Area& found) { return next(address, found) && found.start <= address; }

private:
    bool ask(u64 address, Area& found, bool& known);
    bool read(u64 address, Area& found);
    bool read_line();

    int file_;
    bool asks_ = true;
    u64 last_end_ = 0;
    char line_[128];  // the beginning of a line: all but the name
    char held_[512];
    std::size_t held_count_ = 0, held_at_ = 0;
};

bool find_area(u64 address, Area& found);

}  // namespace viommu::shim
