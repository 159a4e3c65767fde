/* A driver in user space of QEMU's educational device. */
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "iommufd.h"
#include "vfio.h"

#define EDU_PAGE 4096u
#define EDU_BUFFER 0x40000u /* the device's own memory, as its DMA names it */
#define EDU_BAR (1u << 20)
enum { EDU_TO_DEVICE = 0, EDU_TO_MEMORY = 1 };

struct edu {
    int fd;
    uint32_t id;           /* of its DEVICE, once it is bound */
    uint64_t bar;          /* where its registers lie in the file */
    volatile char* mapped; /* or none: by pread and pwrite */
};

static inline uint32_t edu_load(const struct edu* edu, uint32_t at) {
    uint32_t value = 0;
    if (edu->mapped) return *(volatile uint32_t*)(edu->mapped + at);
    CHECK(pread(edu->fd, &value, 4, (off_t)(edu->bar + at)) == 4);
    return value;
}
static inline void edu_store(const struct edu* edu, uint32_t at, uint32_t value) {
    if (edu->mapped)
        *(volatile uint32_t*)(edu->mapped + at) = value;
    else
        CHECK(pwrite(edu->fd, &value, 4, (off_t)(edu->bar + at)) == 4);
}
static inline void edu_store8(const struct edu* edu, uint32_t at, uint64_t value) {
    if (edu->mapped)
        *(volatile uint64_t*)(edu->mapped + at) = value;
    else
        CHECK(pwrite(edu->fd, &value, 8, (off_t)(edu->bar + at)) == 8);
}

static inline int edu_open(const char* bdf) {
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

/* Of a device that is bound: memory space and bus master are on, and its registers found. */
static inline void edu_start(struct edu* edu) {
    struct vfio_region_info region = {.argsz = sizeof region, .index = REGION_CONFIG};
    CHECK(!ioctl(edu->fd, VFIO_DEVICE_GET_REGION_INFO, &region) && region.size == 4096);
    uint32_t identity = 0;
    const uint16_t command = 6;
    CHECK(pread(edu->fd, &identity, 4, (off_t)region.offset) == 4 && identity == 0x11e81234);
    CHECK(pwrite(edu->fd, &command, 2, (off_t)region.offset + 4) == 2);
    region.index = 0;
    CHECK(!ioctl(edu->fd, VFIO_DEVICE_GET_REGION_INFO, &region) && region.size == EDU_BAR);
    CHECK(region.flags & REGION_MAPS);
    edu->bar = region.offset;
}

static inline struct edu edu_bound(const char* bdf, int iommu) {
    struct edu edu = {.fd = edu_open(bdf)};
    struct vfio_bind bind = {.argsz = sizeof bind, .iommufd = iommu};
    CHECK(!ioctl(edu.fd, VFIO_DEVICE_BIND_IOMMUFD, &bind));
    edu.id = bind.out_devid;
    edu_start(&edu);
    return edu;
}

static inline void edu_map(struct edu* edu) {
    void* const mapped = mmap(NULL, EDU_BAR, PROT_READ | PROT_WRITE, MAP_SHARED, edu->fd, (off_t)edu->bar);
    CHECK(mapped != MAP_FAILED);
    edu->mapped = mapped;
}

static inline uint32_t edu_attach(const struct edu* edu, uint32_t page_table) {
    struct vfio_attach attach = {.argsz = sizeof attach, .pt_id = page_table};
    CHECK(!ioctl(edu->fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach));
    return attach.pt_id;
}

/* Begins a DMA, and waits for its end. */
static inline void edu_move(const struct edu* edu, uint64_t source, uint64_t target, uint32_t count, uint32_t to) {
    edu_store8(edu, 0x80, source), edu_store8(edu, 0x88, target), edu_store8(edu, 0x90, count);
    edu_store8(edu, 0x98, 1 | to << 1 | 4);
    while (edu_load(edu, 0x98) & 1) usleep(100);
}
