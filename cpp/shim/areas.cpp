#include "areas.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "internal.hpp"
#include "kernel.hpp"
#include "viommu/map_query.hpp"

namespace viommu::shim {
namespace {

// A number in a line of /proc/self/maps, and what comes after it; nothing of the C library, which a signal may have met
// in the middle.
u64 number(const char*& text, unsigned base) {
    u64 value = 0;
    for (;; ++text) {
        const unsigned digit = *text >= '0' && *text <= '9'   ? static_cast<unsigned>(*text - '0')
                               : *text >= 'a' && *text <= 'f' ? static_cast<unsigned>(*text - 'a' + 10)
                                                              : base;
        if (digit >= base) return value;
        value = value * base + digit;
    }
}

Area parsed(const char* text) {
    Area area;
    area.start = number(text, 16);
    area.end = number(++text, 16);
    ++text;
    area.rights = (text[0] == 'r' ? readable : 0) | (text[1] == 'w' ? writable : 0) | (text[3] == 's' ? shared : 0);
    text += 5;
    area.offset = number(text, 16);
    const auto high = static_cast<unsigned>(number(++text, 16)), low = static_cast<unsigned>(number(++text, 16));
    area.file = {makedev(high, low), number(++text, 10)};
    return area;
}

}  // namespace

Areas::Areas()
    : file_(open_for_us(
          [] { return static_cast<int>(kernel(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0)); })) {}

Areas::~Areas() {
    if (file_ >= 0) kernel(SYS_close, file_);
}

bool Areas::next(u64 address, Area& found) {
    bool known = false;
    if (file_ < 0) return false;
    if (asks_ && ask(address, found, known)) return known;
    asks_ = false;
    return read(address, found);
}

// Whether the kernel answers (from Linux 6.11 on).
bool Areas::ask(u64 address, Area& found, bool& known) {
    MapQuery query;
    query.query_address = address;
    query.query_flags = MapQuery::covering_or_next;
    known = !kernel(SYS_ioctl, file_, map_query_number, &query);
    if (!known) return errno == ENOENT;
    const u64 rights = (query.flags & MapQuery::readable ? readable : 0) |
                       (query.flags & MapQuery::writable ? writable : 0) |
                       (query.flags & MapQuery::shared ? shared : 0);
    found = {
        query.start, query.end, rights, query.offset, {makedev(query.device_major, query.device_minor), query.inode}};
    return true;
}

bool Areas::read(u64 address, Area& found) {
    if (address < last_end_) {
        kernel(SYS_lseek, file_, 0, SEEK_SET);
        held_count_ = held_at_ = last_end_ = 0;
    }
    while (read_line()) {
        found = parsed(line_);
        last_end_ = found.end;
        if (found.end > address) return true;
    }
    return false;
}

bool Areas::read_line() {
    for (std::size_t length = 0;;) {
        if (held_at_ == held_count_) {
            const long got = kernel(SYS_read, file_, held_, sizeof held_);
            if (got <= 0) return false;
            held_at_ = 0, held_count_ = static_cast<std::size_t>(got);
        }
        const char one = held_[held_at_++];
        line_[length] = 0;
        if (one == '\n') return true;
        if (length < sizeof line_ - 1) line_[length++] = one;
    }
}

bool find_area(u64 address, Area& found) { return Areas().at(address, found); }

}  // namespace viommu::shim
