#include "paths.hpp"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "channel.hpp"
#include "kernel.hpp"

namespace viommu::shim {
namespace {

constexpr const char* led_elsewhere[] = {
    "/sys/bus/pci/",       "/sys/kernel/iommu_groups", "/sys/class/iommu",
    "/sys/class/vfio-dev", "/sys/devices/pci",         "/sys/devices/virtual/iommu",
    "/sys/module/iommufd", "/sys/module/vfio",         "/dev/vfio",
    "/dev/iommu",
};
constexpr int first_device = 1 << 16, first_group = 1 << 17;

// The number after a prefix, or -1 where the path is not of that form.
int numbered(const char* path, const char* prefix) {
    const size_t length = strlen(prefix);
    if (strncmp(path, prefix, length)) return -1;
    char* end;
    const unsigned long number = strtoul(path + length, &end, 10);
    return path[length] < '0' || path[length] > '9' || *end || number >= first_device ? -1 : static_cast<int>(number);
}

// `path` is whole and tidy.
int node_at(const char* path) {
    if (strncmp(path, "/dev/", 5)) return -1;
    if (!strcmp(path, "/dev/iommu") || !strcmp(path, "/dev/char/10:126")) return 0;
    if (!strcmp(path, "/dev/vfio/vfio") || !strcmp(path, "/dev/char/10:196")) return 1;
    int device = numbered(path, "/dev/vfio/devices/vfio");
    if (device < 0) device = numbered(path, "/dev/char/511:");
    if (device >= 0) return first_device + device;
    const int group = numbered(path, "/dev/vfio/");
    return group >= 0 ? first_group + group : -1;
}

const char* shadow() {
    static const char* const folder = getenv("VIOMMU_SHADOW");
    return folder;
}

bool exists(const char* path) { return !kernel(SYS_faccessat, AT_FDCWD, path, F_OK); }

// The folder in which a relative path begins: its length, or 0.
size_t put_folder(char* room, size_t size, int folder) {
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    const long length = folder == AT_FDCWD ? kernel(SYS_getcwd, room, size) - 1
                                           : kernel(SYS_readlinkat, AT_FDCWD, link, room, size - 1);
    if (length <= 0 || room[0] != '/') return 0;
    room[length] = 0;
    without_shadow(room);
    return strlen(room);
}

// The whole path, as the program knows it; false where it has none.
bool put_whole(char* room, size_t size, int folder, const char* path) {
    const size_t before = path[0] == '/' ? 0 : put_folder(room, size, folder);
    if (path[0] != '/' && !before) return false;
    const int length = snprintf(room + before, size - before, before ? "/%s" : "%s", path);
    return length > 0 && static_cast<size_t>(length) < size - before;
}

bool is_dot(const char* part, size_t length) { return !length || (length == 1 && *part == '.'); }
bool is_dots(const char* part, size_t length) { return length == 2 && part[0] == '.' && part[1] == '.'; }

// Takes "//" and "/./" out of a whole path, in place; "/name/.." as well where no name is that of a link.
void tidy(char* path, bool has_no_links) {
    char* out = path;
    for (const char* at = path; *at;) {
        const char* const part = at + 1;
        const size_t length = strcspn(part, "/");
        at = part + length;
        if (has_no_links && is_dots(part, length)) {
            while (out > path && *--out != '/') {
            }
        } else if (!is_dot(part, length)) {
            *out = '/';
            memmove(out + 1, part, length);
            out += length + 1;
        }
    }
    if (out == path) *out++ = '/';
    *out = 0;
}

// /dev has no links on the way to a node.
int node_of(const char* path) {
    if (strncmp(path, "/dev/", 5)) return -1;
    char straight[64];
    if (!strstr(path, "/..")) return node_at(path);
    if (strlen(path) >= sizeof straight) return -1;
    tidy(strcpy(straight, path), true);
    return node_at(straight);
}

bool is_led_elsewhere(const char* path) {
    for (const char* const prefix : led_elsewhere)
        if (!strncmp(path, prefix, strlen(prefix))) return true;
    return false;
}

}  // namespace

Named::Named(int folder, const char* path) : path_(path) {
    if (!path || !*path || !serviced()) return;
    const int kept = errno;
    const size_t before = shadow() ? strlen(shadow()) : 0;
    char* const whole = room_ + before;
    if (before < sizeof room_ - PATH_MAX && put_whole(whole, sizeof room_ - before, folder, path)) {
        tidy(whole, false);
        node_ = node_of(whole);
        if (node_ < 0 && before && is_led_elsewhere(whole)) {
            memcpy(room_, shadow(), before);
            if (exists(room_)) path_ = room_;
        }
    }
    errno = kept;
}

void put_node_path(int node, char* room, unsigned long size) {
    if (node < 2)
        snprintf(room, size, "%s", node ? "/dev/vfio/vfio" : "/dev/iommu");
    else if (node < first_group)
        snprintf(room, size, "/dev/vfio/devices/vfio%d", node - first_device);
    else
        snprintf(room, size, "/dev/vfio/%d", node - first_group);
}

unsigned long shadow_prefix(const char* path) {
    const size_t length = path && shadow() ? strlen(shadow()) : 0;
    return length && !strncmp(path, shadow(), length) && (path[length] == '/' || !path[length]) ? length : 0;
}

void without_shadow(char* path) {
    const size_t length = shadow_prefix(path);
    if (!length) return;
    memmove(path, path + length, strlen(path) - length + 1);
    if (!*path) strcpy(path, "/");
}

}  // namespace viommu::shim
