/* Owns QEMU's educational device as a driver in user space does: edu BDF, by calls;
 * edu BDF mapped, by loads and stores. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "iommufd.h"
#include "vfio.h"

#define PAGE 4096u
#define IOVA 0x400000u
#define BUFFER 0x40000u

static int device;
static uint64_t bar;

static volatile char* mapped; /* or none: by pread and pwrite */

static uint32_t load(uint32_t at) {
    uint32_t value = 0;
    if (mapped) return *(volatile uint32_t*)(mapped + at);
    CHECK(pread(device, &value, 4, (off_t)(bar + at)) == 4);
    return value;
}
static void store(uint32_t at, uint32_t value) {
    if (mapped)
        *(volatile uint32_t*)(mapped + at) = value;
    else
        CHECK(pwrite(device, &value, 4, (off_t)(bar + at)) == 4);
}
static void store8(uint32_t at, uint64_t value) {
    if (mapped)
        *(volatile uint64_t*)(mapped + at) = value;
    else
        CHECK(pwrite(device, &value, 8, (off_t)(bar + at)) == 8);
}

static int opened(const char* bdf) {
    char path[512];
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/vfio-dev", bdf);
    DIR* const folder = opendir(path);
    CHECK(folder);
    struct dirent* entry;
    while ((entry = readdir(folder)) && strncmp(entry->d_name, "vfio", 4)) continue;
    CHECK(entry);
    snprintf(path, sizeof path, "/dev/vfio/devices/%s", entry->d_name);
    closedir(folder);
    const int fd = open(path, O_RDWR);
    CHECK(fd >= 0);
    return fd;
}

static void move(uint64_t source, uint64_t target, uint32_t count, uint32_t direction) {
    store8(0x80, source), store8(0x88, target), store8(0x90, count);
    store8(0x98, 1 | direction << 1 | 4);
    while (load(0x98) & 1) usleep(100);
}

int main(int count, char** arguments) {
    CHECK(count >= 2);
    device = opened(arguments[1]);
    const int iommu = open("/dev/iommu", O_RDWR);
    struct vfio_device_info info = {.argsz = sizeof info};
    CHECK_FAILS(EINVAL, ioctl(device, VFIO_DEVICE_GET_INFO, &info)); /* nobody has bound it */
    struct vfio_bind bind = {.argsz = sizeof bind, .iommufd = device};
    CHECK_FAILS(EBADFD, ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind));
    bind.iommufd = iommu;
    CHECK(!ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind) && bind.out_devid);
    CHECK_FAILS(EINVAL, ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind));
    CHECK(!ioctl(device, VFIO_DEVICE_GET_INFO, &info) && info.num_regions == 9 && info.num_irqs == 5);

    struct vfio_region_info region = {.argsz = sizeof region, .index = REGION_CONFIG};
    CHECK(!ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &region) && region.size == 4096);
    uint32_t identity = 0;
    uint16_t command = 6; /* memory space, bus master */
    CHECK(pread(device, &identity, 4, (off_t)region.offset) == 4 && identity == 0x11e81234);
    CHECK(pwrite(device, &command, 2, (off_t)region.offset + 4) == 2);
    region.index = 0;
    CHECK(!ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &region) && region.size == 1 << 20);
    bar = region.offset;
    if (count > 2) {
        CHECK(region.flags & REGION_MAPS);
        mapped = mmap(NULL, region.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, (off_t)bar);
        CHECK(mapped != MAP_FAILED);
    }
    CHECK(load(0) == 0x010000ed);
    store(4, 0x12345678);
    CHECK(load(4) == (uint32_t)~0x12345678);

    struct iommu_ioas_alloc alloc = {.size = sizeof alloc};
    CHECK(!ioctl(iommu, IOMMU_IOAS_ALLOC, &alloc));
    struct vfio_attach attach = {.argsz = sizeof attach, .pt_id = alloc.out_ioas_id};
    CHECK(!ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) && attach.pt_id != alloc.out_ioas_id);
    char* const page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct iommu_ioas_map map = {.size = sizeof map,
                                 .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
                                          IOMMU_IOAS_MAP_WRITEABLE,
                                 .ioas_id = alloc.out_ioas_id,
                                 .user_va = (uintptr_t)page,
                                 .length = 2 * PAGE,
                                 .iova = IOVA};
    CHECK(!ioctl(iommu, IOMMU_IOAS_MAP, &map));

    struct vfio_irq_info irqs = {.argsz = sizeof irqs, .index = IRQ_MSI};
    CHECK(!ioctl(device, VFIO_DEVICE_GET_IRQ_INFO, &irqs) && irqs.count == 1);
    const int event = eventfd(0, EFD_NONBLOCK);
    struct vfio_irq_set set = {sizeof set, SET_EVENTFD | SET_TRIGGER, IRQ_MSI, 0, 1, event};
    CHECK(!ioctl(device, VFIO_DEVICE_SET_IRQS, &set));

    uint64_t raised = 0;
    store(0x20, 0x80), store(8, 10);
    while (load(0x20) & 1) usleep(100);
    CHECK(load(8) == 3628800 && read(event, &raised, 8) == 8 && load(0x24) == 1);
    store(0x64, 1);

    strcpy(page + 100, "from memory, by way of the device, to memory");
    move(IOVA + 100, BUFFER, 64, 0);
    move(BUFFER, IOVA + PAGE, 64, 1);
    CHECK(!strcmp(page + PAGE, page + 100));
    CHECK(read(event, &raised, 8) == 8 && raised == 2 && load(0x24) == 0x100);
    move(IOVA + 2 * PAGE, BUFFER, 64, 0); /* nothing is mapped there: zeros */
    move(BUFFER, IOVA, 64, 1);
    CHECK(!page[0] && !page[63]);

    set = (struct vfio_irq_set){offsetof(struct vfio_irq_set, eventfd), SET_NONE | SET_TRIGGER, IRQ_MSI, 0, 0, 0};
    CHECK(!ioctl(device, VFIO_DEVICE_SET_IRQS, &set));
    CHECK(!ioctl(device, VFIO_DEVICE_RESET, NULL) && load(8) == 0);
    struct vfio_detach detach = {sizeof detach, 0};
    CHECK(!ioctl(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach));
    if (mapped) CHECK(!munmap((void*)mapped, region.size));
    CHECK(!close(device));
    device = opened(arguments[1]);
    bind.iommufd = iommu;
    CHECK(!ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind)); /* free again */
    return 0;
}
