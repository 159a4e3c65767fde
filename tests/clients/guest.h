/* A VMM whose guest owns edu: memory of the guest, tables in it, and the objects of iommufd around it. */
#pragma once

#include <poll.h>

#include "edu.h"

#define GUEST_PAGES 256u
#define PAGE EDU_PAGE

struct iommu_hwpt_invalidate {
    uint32_t size, hwpt_id;
    uint64_t data_uptr;
    uint32_t data_type, entry_len, entry_num, reserved;
};
#define IOMMU_HWPT_INVALIDATE IOMMU_IO(0x8d)

struct iommu_viommu_alloc {
    uint32_t size, flags, type, dev_id, hwpt_id, out_viommu_id, data_len, reserved;
    uint64_t data_uptr;
};
#define IOMMU_VIOMMU_ALLOC IOMMU_IO(0x90)

struct iommu_vdevice_alloc {
    uint32_t size, viommu_id, dev_id, out_vdevice_id;
    uint64_t virt_id;
};
#define IOMMU_VDEVICE_ALLOC IOMMU_IO(0x91)

struct iommu_veventq_alloc {
    uint32_t size, flags, viommu_id, type, veventq_depth, out_veventq_id, out_veventq_fd, reserved;
};
#define IOMMU_VEVENTQ_ALLOC IOMMU_IO(0x93)

struct iommu_hw_queue_alloc {
    uint32_t size, flags, viommu_id, type, index, out_hw_queue_id;
    uint64_t nesting_parent_iova, length;
};
#define IOMMU_HW_QUEUE_ALLOC IOMMU_IO(0x94)
#define HW_QUEUE_IOVA (1u << 31) /* ahead of mainline: hardware translates where it lies */

/* Memory that the guest sees from `base` on; `next` is its next free page. OUT is where edu writes what it has read. */
struct guest {
    int iommu;
    struct edu edu;
    char* memory;
    uint64_t base, next;
    uint32_t ioas, parent, viommu;
    uint64_t root, table, leaf; /* the guest's table, and bits of its entries */
};
#define OUT 0x500000u

static inline void* guest_at(const struct guest* guest, uint64_t address) {
    CHECK(address - guest->base < GUEST_PAGES * PAGE);
    return guest->memory + (address - guest->base);
}

static inline uint64_t guest_page(struct guest* guest, const char* text) {
    const uint64_t page = guest->next;
    guest->next += PAGE;
    strcpy(guest_at(guest, page), text);
    return page;
}

static inline uint64_t* guest_entry(struct guest* guest, uint64_t iova) {
    uint64_t table = guest->root;
    for (int level = 3; level; --level) {
        volatile uint64_t* const entry = (uint64_t*)guest_at(guest, table) + (iova >> (12 + 9 * level) & 511);
        if (!*entry) *entry = guest_page(guest, "") | guest->table;
        table = *entry & 0xfffffffff000;
    }
    return (uint64_t*)guest_at(guest, table) + (iova >> 12 & 511);
}

/* Maps a new page that begins with a text: what is cached of the old one is not told. */
static inline void guest_map(struct guest* guest, uint64_t iova, const char* text) {
    const uint64_t page = guest_page(guest, text);
    *(volatile uint64_t*)guest_entry(guest, iova) = page | guest->leaf;
}

static inline uint32_t guest_hwpt(struct guest* guest, struct iommu_hwpt_alloc alloc) {
    alloc.size = sizeof alloc, alloc.dev_id = guest->edu.id;
    CHECK(!ioctl(guest->iommu, IOMMU_HWPT_ALLOC, &alloc));
    return alloc.out_hwpt_id;
}

/* Opens everything, and maps the guest's memory into a nesting parent. */
static inline struct guest guest_made(const char* bdf, uint64_t base, uint64_t table, uint64_t leaf) {
    struct guest guest = {
        .iommu = open("/dev/iommu", O_RDWR), .base = base, .next = base, .table = table, .leaf = leaf};
    CHECK(guest.iommu >= 0);
    guest.edu = edu_bound(bdf, guest.iommu);
    guest.memory = mmap(NULL, GUEST_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(guest.memory != MAP_FAILED);
    struct iommu_ioas_alloc ioas = {.size = sizeof ioas};
    CHECK(!ioctl(guest.iommu, IOMMU_IOAS_ALLOC, &ioas));
    guest.ioas = ioas.out_ioas_id;
    struct iommu_ioas_map map = {.size = sizeof map,
                                 .flags =
                                     IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
                                 .ioas_id = guest.ioas,
                                 .user_va = (uintptr_t)guest.memory,
                                 .length = GUEST_PAGES * PAGE,
                                 .iova = base};
    CHECK(!ioctl(guest.iommu, IOMMU_IOAS_MAP, &map));
    guest.parent = guest_hwpt(&guest, (struct iommu_hwpt_alloc){.flags = HWPT_NEST_PARENT, .pt_id = guest.ioas});
    guest.root = guest_page(&guest, "");
    guest_map(&guest, OUT, "");
    return guest;
}

static inline void guest_viommu(struct guest* guest, uint32_t type, void* data, uint32_t length, uint64_t virt_id) {
    struct iommu_viommu_alloc alloc = {.size = sizeof alloc,
                                       .type = type,
                                       .dev_id = guest->edu.id,
                                       .hwpt_id = guest->parent,
                                       .data_len = length,
                                       .data_uptr = (uintptr_t)data};
    CHECK(!ioctl(guest->iommu, IOMMU_VIOMMU_ALLOC, &alloc));
    guest->viommu = alloc.out_viommu_id;
    struct iommu_vdevice_alloc vdevice = {
        .size = sizeof vdevice, .viommu_id = guest->viommu, .dev_id = guest->edu.id, .virt_id = virt_id};
    CHECK(!ioctl(guest->iommu, IOMMU_VDEVICE_ALLOC, &vdevice));
}

static inline int guest_events(const struct guest* guest, uint32_t type) {
    struct iommu_veventq_alloc alloc = {
        .size = sizeof alloc, .viommu_id = guest->viommu, .type = type, .veventq_depth = 16};
    CHECK(!ioctl(guest->iommu, IOMMU_VEVENTQ_ALLOC, &alloc));
    return (int)alloc.out_veventq_fd;
}

/* Waits for one event, of which `length` bytes are the vendor's. */
static inline void guest_event(int events, void* record, size_t length) {
    struct pollfd poll_fd = {.fd = events, .events = POLLIN};
    uint32_t raw[2 + 16] = {0};
    CHECK(poll(&poll_fd, 1, 10000) == 1 && poll_fd.revents == POLLIN);
    CHECK(read(events, raw, sizeof raw) == (ssize_t)(8 + length));
    CHECK(raw[0] == 0); /* none was lost */
    memcpy(record, raw + 2, length);
}

static inline int guest_invalidate(const struct guest* guest, uint32_t id, uint32_t type, void* entries,
                                   uint32_t length, uint32_t count) {
    struct iommu_hwpt_invalidate all = {.size = sizeof all,
                                        .hwpt_id = id,
                                        .data_uptr = (uintptr_t)entries,
                                        .data_type = type,
                                        .entry_len = length,
                                        .entry_num = count};
    return ioctl(guest->iommu, IOMMU_HWPT_INVALIDATE, &all) ? -1 : (int)all.entry_num;
}

static inline uint32_t guest_queue(const struct guest* guest, uint32_t type, uint64_t at, uint64_t length,
                                   uint32_t flags) {
    struct iommu_hw_queue_alloc alloc = {.size = sizeof alloc,
                                         .flags = flags,
                                         .viommu_id = guest->viommu,
                                         .type = type,
                                         .nesting_parent_iova = at,
                                         .length = length};
    CHECK(!ioctl(guest->iommu, IOMMU_HW_QUEUE_ALLOC, &alloc));
    return alloc.out_hw_queue_id;
}

/* Registers that the driver offers; whether they are memory, so that no load or store of theirs is a call, is told by
 * the kernel: it can read what is. */
static inline volatile void* guest_registers(const struct guest* guest, uint64_t offset, size_t length, int is_memory) {
    void* const mapped = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, guest->iommu, (off_t)offset);
    CHECK(mapped != MAP_FAILED);
    int ends[2];
    CHECK(!pipe(ends));
    CHECK((write(ends[1], mapped, 4) == 4) == is_memory);
    CHECK(!close(ends[0]) && !close(ends[1]));
    return mapped;
}

/* What the device finds at an IOVA: it reads, and writes that elsewhere, where the guest looks at it. */
static inline int guest_device_sees(struct guest* guest, uint64_t iova, const char* text) {
    char* const out = guest_at(guest, *guest_entry(guest, OUT) & 0xfffffffff000);
    memset(out, 0, 16);
    edu_move(&guest->edu, iova, EDU_BUFFER, 16, EDU_TO_DEVICE);
    edu_move(&guest->edu, EDU_BUFFER, OUT, 16, EDU_TO_MEMORY);
    return !strcmp(out, text);
}

#define UNTIL(condition)                                                                                               \
    for (int turns = 0; !(condition); ++turns) CHECK(turns < 100000 && !usleep(turns < 1000 ? 0 : 100))
