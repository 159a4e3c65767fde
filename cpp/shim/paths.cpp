#include "paths.hpp"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "channel.hpp"
#include "kernel.hpp"

namespace viommu::shim {
namespace {

constexpr const char* led_elsewhere[] = {"/sys/bus/pci/", "/sys/kernel/iommu_groups", "/sys/class/iommu", "/dev/vfio",
                                         "/dev/iommu"};
constexpr int first_device = 1 << 16, first_group = 1 << 17;

// The number after a prefix, or -1 where the path is not of that form.
int numbered(const char* path, const char* prefix) {
    const size_t length = strlen(prefix);
    if (strncmp(path, prefix, length)) return -1;
    char* end;
    const unsigned long number = strtoul(path + length, &end, 10);
    return path[length] < '0' || path[length] > '9' || *end || number >= first_device ? -1 : static_cast<int>(number);
}

const char* shadow() {
    static const char* const folder = getenv("VIOMMU_SHADOW");
    return folder;
}

bool exists(const char* path) {
    const int kept = errno;
    const bool found = !kernel(SYS_faccessat, AT_FDCWD, path, F_OK);
    errno = kept;
    return found;
}

}  // namespace

int node_of(const char* path) {
    if (!path || path[0] != '/' || !serviced()) return -1;
    if (!strcmp(path, "/dev/iommu")) return 0;
    if (!strcmp(path, "/dev/vfio/vfio")) return 1;
    const int device = numbered(path, "/dev/vfio/devices/vfio");
    if (device >= 0) return first_device + device;
    const int group = numbered(path, "/dev/vfio/");
    return group >= 0 ? first_group + group : -1;
}

Shadowed::Shadowed(const char* path) : path_(path) {
    if (!path || path[0] != '/' || !serviced() || !shadow()) return;
    for (const char* const prefix : led_elsewhere) {
        if (strncmp(path, prefix, strlen(prefix))) continue;
        const int length = snprintf(room_, sizeof room_, "%s%s", shadow(), path);
        if (length > 0 && length < static_cast<int>(sizeof room_) && exists(room_)) path_ = room_;
        return;
    }
}

void without_shadow(char* path) {
    const size_t length = path && shadow() ? strlen(shadow()) : 0;
    if (length && !strncmp(path, shadow(), length) && path[length] == '/')
        memmove(path, path + length, strlen(path) - length + 1);
}

}  // namespace viommu::shim
