#include "files.hpp"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>

#include "channel.hpp"
#include "forks.hpp"
#include "internal.hpp"
#include "kernel.hpp"

namespace viommu::shim {
namespace {

constexpr int most_marks = 1 << 16;  // descriptors beyond are always looked at
std::atomic<u8> marks[most_marks];

void look_at_inherited() {
    DIR* const folder = opendir("/proc/self/fd");
    if (!folder) return;
    while (const dirent* entry = readdir(folder)) {
        const int fd = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || fd == dirfd(folder) || is_internal(fd)) continue;
        const u64 number = file_number(fd);
        if (number && ask(Op::owns, number) > 0) mark(fd);
    }
    closedir(folder);
}

__attribute__((constructor(200))) void begin_files() {
    if (serviced()) look_at_inherited();
}

}  // namespace

void mark(int fd) {
    if (fd >= 0 && fd < most_marks) marks[fd].store(1, std::memory_order_relaxed);
}
void unmark(int fd) {
    if (fd < 0 || fd >= most_marks || !marks[fd].load(std::memory_order_relaxed) || is_borrower()) return;
    marks[fd].store(0, std::memory_order_relaxed);
}
bool is_marked(int fd) { return fd >= 0 && (fd >= most_marks || marks[fd].load(std::memory_order_relaxed)); }

u64 file_number(int fd) {
    const int kept = errno;
    struct stat status;
    const long failed = kernel(SYS_fstat, fd, &status);
    errno = kept;
    return !failed && (S_ISSOCK(status.st_mode) || S_ISFIFO(status.st_mode)) ? status.st_ino : 0;
}

u64 marked_file(int fd) {
    if (!is_marked(fd)) return 0;
    const u64 number = file_number(fd);
    if (!number) unmark(fd);
    return number;
}

}  // namespace viommu::shim
