/* Owns a device by its group, as programs do that know no iommufd: group BDF. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "vfio.h"

#define PAGE 4096u

struct type1_map {
    uint32_t argsz, flags;
    uint64_t vaddr, iova, size;
};
struct group_status {
    uint32_t argsz, flags;
};
enum { GET_API_VERSION = 0, CHECK_EXTENSION = 1, SET_IOMMU = 2, GROUP_STATUS = 3, SET_CONTAINER = 4, DEVICE_FD = 6 };
enum { MAP_DMA = 13, TYPE1_V2 = 3 };

static void store(int device, uint64_t at, uint64_t value, unsigned size) {
    CHECK(pwrite(device, &value, size, (off_t)at) == (ssize_t)size);
}

int main(int count, char** arguments) {
    char path[256], link[256];
    CHECK(count == 2);
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/iommu_group", arguments[1]);
    const ssize_t length = readlink(path, link, sizeof link - 1);
    CHECK(length > 0);
    link[length] = 0;
    snprintf(path, sizeof path, "/dev/vfio/%s", basename(link));
    const int container = open("/dev/vfio/vfio", O_RDWR), group = open(path, O_RDWR);
    CHECK(container >= 0 && group >= 0);
    CHECK_FAILS(EBUSY, open(path, O_RDWR)); /* one owner at a time */
    CHECK(ioctl(container, VFIO_IO(GET_API_VERSION)) == 0);
    CHECK(ioctl(container, VFIO_IO(CHECK_EXTENSION), TYPE1_V2) == 1);
    struct group_status status = {sizeof status, 0};
    CHECK(!ioctl(group, VFIO_IO(GROUP_STATUS), &status) && status.flags == 1);
    CHECK_FAILS(EINVAL, ioctl(group, VFIO_IO(DEVICE_FD), arguments[1]));
    CHECK(!ioctl(group, VFIO_IO(SET_CONTAINER), &container));
    CHECK(!ioctl(container, VFIO_IO(SET_IOMMU), TYPE1_V2));
    CHECK(!ioctl(group, VFIO_IO(GROUP_STATUS), &status) && status.flags == 3);
    CHECK_FAILS(ENODEV, ioctl(group, VFIO_IO(DEVICE_FD), "0000:ff:1f.7"));
    const int device = ioctl(group, VFIO_IO(DEVICE_FD), arguments[1]);
    CHECK(device >= 0);

    char* const page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct type1_map map = {sizeof map, 3, (uintptr_t)page, 0x100000, PAGE};
    CHECK(!ioctl(container, VFIO_IO(MAP_DMA), &map));
    struct vfio_region_info region = {.argsz = sizeof region, .index = REGION_CONFIG};
    CHECK(!ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &region));
    store(device, region.offset + 4, 6, 2);
    strcpy(page, "by group");
    store(device, 0x80, 0x100000, 8), store(device, 0x88, 0x40000, 8), store(device, 0x90, 16, 8);
    store(device, 0x98, 1, 8); /* BAR 0 is the first region: its offset is 0 */
    store(device, 0x80, 0x40000, 8), store(device, 0x88, 0x100100, 8);
    store(device, 0x98, 3, 8);
    CHECK(!strcmp(page + 0x100, "by group"));
    struct vfio_bind bind = {.argsz = sizeof bind, .iommufd = container};
    CHECK_FAILS(ENOTTY, ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &bind)); /* the group does that */
    return 0;
}
