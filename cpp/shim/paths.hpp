// Paths of sysfs and /dev under which programs look for devices: they are led to a folder of real files.
#pragma once

#include <fcntl.h>
#include <limits.h>

namespace viommu::shim {

// What a program names by a path, which may lie in a folder that it has open.
class Named {
public:
    explicit Named(const char* path) : Named(AT_FDCWD, path) {}
    Named(int folder, const char* path);
    Named(const Named&) = delete;

    // Which node the service opens for it, or -1: /dev/iommu, /dev/vfio/vfio, then each /dev/vfio/devices/vfioN.
    int node() const { return node_; }
    // As it is to be used: that of the same file in the shadow folder, where there is one. The folder is as it was.
    const char* path() const { return path_; }

private:
    int node_ = -1;
    const char* path_;
    char room_[PATH_MAX + 256];
};

// The path of a node.
void put_node_path(int node, char* room, unsigned long size);

// The path that a program knows for one that the C library found; in place.
void without_shadow(char* path);
// How many bytes of a path are those of the shadow folder: 0 where it does not lie there.
unsigned long shadow_prefix(const char* path);

}  // namespace viommu::shim
