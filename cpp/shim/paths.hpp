// Paths of sysfs and /dev under which programs look for devices: they are led to a folder of real files.
#pragma once

#include <limits.h>

namespace viommu::shim {

// Which node the service opens for a path, or -1: /dev/iommu, /dev/vfio/vfio, then each /dev/vfio/devices/vfioN.
int node_of(const char* path);

// A path as it is to be used: that of the same file in the shadow folder, where there is one.
class Shadowed {
public:
    explicit Shadowed(const char* path);
    const char* path() const { return path_; }

private:
    const char* path_;
    char room_[PATH_MAX];
};

// The path that a program knows for one that the C library found; in place.
void without_shadow(char* path);

}  // namespace viommu::shim
