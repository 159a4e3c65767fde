#include "internal.hpp"

#include <fcntl.h>

#include <atomic>

#include "kernel.hpp"
#include "wire.hpp"

namespace viommu::shim {
namespace {

constexpr int most_internal = 1 << 16;
enum : u8 { not_ours_at_all, of_this_process, of_children_too };
std::atomic<u8> internal[most_internal];
std::atomic<int> highest = -1;
constexpr int lowest_internal = 700;  // above what programs use, below the usual limit of 1024

int copied_from(int fd, int lowest) { return static_cast<int>(kernel(SYS_fcntl, fd, F_DUPFD_CLOEXEC, lowest)); }

// The number of a copy that is out of the way, or -1.
int moved(int fd) {
    const int usual = copied_from(fd, lowest_internal);
    if (usual >= 0) return usual;
    const BeyondLimit beyond;
    return copied_from(fd, beyond.first());
}

void note_highest(int fd) {
    int known = highest;
    while (fd > known && !highest.compare_exchange_weak(known, fd)) {
    }
}

}  // namespace

BeyondLimit::BeyondLimit() {
    if (kernel(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &before_) || before_.rlim_cur >= before_.rlim_max) return;
    const rlimit64 all{before_.rlim_max, before_.rlim_max};
    raised_ = !kernel(SYS_prlimit64, 0, RLIMIT_NOFILE, &all, nullptr);
}
BeyondLimit::~BeyondLimit() {
    const int kept = errno;
    if (raised_) kernel(SYS_prlimit64, 0, RLIMIT_NOFILE, &before_, nullptr);
    errno = kept;
}

bool is_internal(int fd) { return fd >= 0 && fd < most_internal && internal[fd]; }

int make_internal(int fd) {
    const int away = moved(fd);
    const int made = away < 0 ? fd : away;  // no room elsewhere: it stays where it is
    if (away >= 0) kernel(SYS_close, fd);
    if (made < 0 || made >= most_internal) return made;
    note_highest(made);
    internal[made] = of_this_process;
    return made;
}
void keep_internal_over_fork(int fd) {
    if (is_internal(fd)) internal[fd] = of_children_too;
}
void close_internal(int fd) {
    if (fd >= 0 && fd < most_internal) internal[fd] = not_ours_at_all;
    kernel(SYS_close, fd);
}
void close_internal_in_child() {
    for (int fd = 0; fd <= highest; ++fd)
        if (internal[fd] == of_this_process) close_internal(fd);
}
int highest_internal() { return highest; }

}  // namespace viommu::shim
