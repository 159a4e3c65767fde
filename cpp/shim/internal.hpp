// Descriptors of this library's own, which the program must neither see nor close, and which do not count against its
// limit of open files.
#pragma once

#include <errno.h>
#include <sys/resource.h>

namespace viommu::shim {

bool is_internal(int fd);

// Puts a descriptor out of the program's way; takes it over. The number, or -1.
int make_internal(int fd);
void close_internal(int fd);
// A child keeps it, unlike connections.
void keep_internal_over_fork(int fd);
// Closes what a child does not keep.
void close_internal_in_child();
// No descriptor of ours is above.
int highest_internal();

// As long as one exists, this process may open as many files as its hard limit allows.
class BeyondLimit {
public:
    BeyondLimit();
    ~BeyondLimit();
    BeyondLimit(const BeyondLimit&) = delete;
    // The first number that the program's own limit forbids.
    int first() const { return static_cast<int>(before_.rlim_cur); }

private:
    rlimit64 before_{};
    bool raised_ = false;
};

// What open() gives, beyond the program's limit where that is reached.
template <typename Open> int open_for_us(Open&& open) {
    const int fd = open();
    if (fd >= 0 || errno != EMFILE) return fd;
    const BeyondLimit beyond;
    return open();
}

}  // namespace viommu::shim
