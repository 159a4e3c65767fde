/* Looks for a device as programs do that know its address alone: folders BDF. The machine's own sysfs is not what is
 * found. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "check.h"

#define DEVICES "/sys/bus/pci/devices"

ssize_t __readlink_chk(const char*, char*, size_t, size_t);
ssize_t __readlinkat_chk(int, const char*, char*, size_t, size_t);
char* __realpath_chk(const char*, char*, size_t);
char* __getcwd_chk(char*, size_t, size_t);

static char device[256], node[512];

static int is_named(const struct dirent* entry) { return !strncmp(entry->d_name, "vfio", 4); }
static int is_named64(const struct dirent64* entry) { return !strncmp(entry->d_name, "vfio", 4); }

static void listing(void) {
    char path[512];
    snprintf(path, sizeof path, "%s/vfio-dev", device);
    DIR* const folder = opendir(path);
    CHECK(folder && !closedir(folder));
    struct dirent** found;
    struct dirent64** found64;
    CHECK(scandir(path, &found, is_named, alphasort) == 1);
    snprintf(node, sizeof node, "/dev/vfio/devices/%s", found[0]->d_name);
    CHECK(scandir64(path, &found64, is_named64, alphasort64) == 1);
    const int whole = open(device, O_RDONLY | O_DIRECTORY);
    CHECK(scandirat(whole, "vfio-dev", &found, is_named, alphasort) == 1);
    CHECK(scandirat64(whole, "vfio-dev", &found64, is_named64, alphasort64) == 1);
    CHECK(scandirat(AT_FDCWD, path, &found, is_named, alphasort) == 1);
    CHECK(scandir("/dev/vfio/devices", &found, is_named, alphasort) >= 1);
    const int fd = open(node, O_RDWR);
    CHECK(fd >= 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    char target[64] = {0};
    CHECK(readlink(path, target, sizeof target) == (ssize_t)strlen(node) && !strcmp(target, node));
}

static void patterns(const char* bdf) {
    glob_t found;
    glob64_t found64;
    char pattern[512], whole[512];
    snprintf(whole, sizeof whole, DEVICES "/%s", bdf);
    snprintf(pattern, sizeof pattern, "%s/vfio-dev/vfio*", device);
    CHECK(!glob(DEVICES "/*", 0, NULL, &found) && found.gl_pathc &&
          !strncmp(found.gl_pathv[0], DEVICES, strlen(DEVICES)));
    int is_there = 0;
    for (size_t index = 0; index < found.gl_pathc; ++index) is_there |= !strcmp(found.gl_pathv[index], whole);
    CHECK(is_there);
    globfree(&found);
    CHECK(!glob64(pattern, 0, NULL, &found64) && found64.gl_pathc == 1 &&
          strstr(found64.gl_pathv[0], "/vfio-dev/vfio"));
    CHECK(glob("/sys/bus/pci/devices/nobody*", 0, NULL, &found) == GLOB_NOMATCH);
    CHECK(!glob("/dev/nul?", 0, NULL, &found) && !strcmp(found.gl_pathv[0], "/dev/null"));
}

static void links(const char* bdf) {
    char path[512], target[PATH_MAX] = {0}, expected[512];
    snprintf(path, sizeof path, "%s/driver", device);
    CHECK(readlink(path, target, sizeof target) > 0 && strstr(target, "vfio-pci"));
    CHECK(__readlink_chk(path, target, 64, sizeof target) > 0);
    const int folder = open(device, O_RDONLY | O_DIRECTORY);
    CHECK(readlinkat(folder, "driver", target, sizeof target) > 0);
    CHECK(__readlinkat_chk(folder, "driver", target, 64, sizeof target) > 0);
    snprintf(expected, sizeof expected, "/sys/bus/pci/drivers/vfio-pci");
    CHECK(realpath(path, target) && !strcmp(target, expected));
    CHECK(__realpath_chk(path, target, sizeof target) && !strcmp(target, expected));
    char* const made = canonicalize_file_name(path);
    CHECK(made && !strcmp(made, expected));
    CHECK(!realpath("/sys/bus/pci/devices/nobody", NULL));
    CHECK(!chdir(device) && getcwd(target, sizeof target) && strstr(target, bdf) && !strncmp(target, "/sys/", 5));
    CHECK(__getcwd_chk(target, 512, sizeof target) && strstr(target, bdf));
    CHECK(strstr(get_current_dir_name(), bdf) && !access("vendor", R_OK));
    CHECK(!chdir("iommu_group/devices") && !access(bdf, F_OK));
}

static void attributes(void) {
    char room[64];
    CHECK_FAILS(ENODATA, getxattr(device, "user.none", room, sizeof room));
    CHECK_FAILS(ENODATA, lgetxattr(device, "user.none", room, sizeof room));
    CHECK(listxattr(device, room, sizeof room) >= 0 && llistxattr(device, room, sizeof room) >= 0);
    CHECK_FAILS(ENOENT, getxattr(DEVICES "/nobody", "user.none", room, sizeof room));
}

int main(int count, char** arguments) {
    CHECK(count == 2);
    snprintf(device, sizeof device, DEVICES "/%s", arguments[1]);
    listing();
    patterns(arguments[1]);
    attributes();
    links(arguments[1]);
    return 0;
}
