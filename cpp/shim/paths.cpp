#include "paths.hpp"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "channel.hpp"

namespace viommu::shim {
namespace {

constexpr const char* led_elsewhere[] = {"/sys/bus/pci/", "/sys/kernel/iommu_groups", "/sys/class/iommu", "/dev/vfio",
                                         "/dev/iommu"};
constexpr const char device_nodes[] = "/dev/vfio/devices/vfio";
constexpr int first_device = 2;

const char* shadow() {
    static const char* const folder = getenv("VIOMMU_SHADOW");
    return folder;
}

bool exists(const char* path) {
    const int kept = errno;
    const bool found = !syscall(SYS_faccessat, AT_FDCWD, path, F_OK);
    errno = kept;
    return found;
}

}  // namespace

int node_of(const char* path) {
    if (!path || path[0] != '/' || !serviced()) return -1;
    if (!strcmp(path, "/dev/iommu")) return 0;
    if (!strcmp(path, "/dev/vfio/vfio")) return 1;
    if (strncmp(path, device_nodes, sizeof device_nodes - 1)) return -1;
    char* end;
    const char* const digits = path + sizeof device_nodes - 1;
    const unsigned long number = strtoul(digits, &end, 10);
    return end == digits || *end || number > 65535 ? -1 : first_device + static_cast<int>(number);
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
