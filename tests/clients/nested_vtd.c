/* A guest on VT-d: nested translation, invalidation by address, page requests; and ahead of mainline a vIOMMU with
 * events and a queue of the guest's. nested_vtd EDU TESTER: BDFs of an edu and a dma-tester. */
#define _GNU_SOURCE
#include "guest.h"

#define BASE 0x100000u
#define IOVA 0x400000u
#define NOWHERE 0x600000u
#define LATER 0x700000u
#define GUEST_DOMAIN 7u
#define GUEST_DEVICE 0x10u
#define TABLE 0x27ull /* present, writable, for all, accessed */
#define LEAF 0x67ull  /* dirty too */

enum { HWPT_FIRST_STAGE = 1, INVALIDATE_FIRST_STAGE = 0 };
#define VTD 0x80000001u /* ahead of mainline: of the vIOMMU, its HWPTs, queues and events */

struct first_stage {
    uint64_t flags, table;
    uint32_t width, domain; /* the domain only on a vIOMMU */
};
struct invalidate {
    uint64_t address, pages;
    uint32_t flags, reserved;
};
struct descriptor {
    uint64_t words[4];
};
struct page_fault {
    uint32_t flags, dev_id, pasid, group, rights, reserved;
    uint64_t address;
    uint32_t length, cookie;
};
struct page_response {
    uint32_t cookie, code;
};

static struct guest guest;

static uint32_t hwpt(uint32_t on, uint32_t type, uint32_t domain, uint32_t fault) {
    const struct first_stage data = {0, guest.root, 48, domain};
    return guest_hwpt(&guest, (struct iommu_hwpt_alloc){.flags = fault ? HWPT_FAULT_ID_VALID : 0,
                                                        .pt_id = on,
                                                        .data_type = type,
                                                        .data_len = sizeof data,
                                                        .data_uptr = (uintptr_t)&data,
                                                        .fault_id = fault});
}

static void a_call_invalidates(void) {
    const uint32_t nested = hwpt(guest.parent, HWPT_FIRST_STAGE, 0, 0);
    edu_attach(&guest.edu, nested);
    guest_map(&guest, IOVA, "first");
    CHECK(guest_device_sees(&guest, IOVA, "first"));
    guest_map(&guest, IOVA, "second");
    CHECK(guest_device_sees(&guest, IOVA, "first")); /* cached */
    struct invalidate entry = {IOVA, 1, 0, 0};
    CHECK(guest_invalidate(&guest, nested, INVALIDATE_FIRST_STAGE, &entry, sizeof entry, 1) == 1);
    CHECK(guest_device_sees(&guest, IOVA, "second"));
}

/* A device that asks for pages: one ring, in memory as the guest's tables show it. */
#define RING 0x800000u
#define RECORDS 0x801000u
enum { COPY = 3, ATS = 1 << 10, PRI = 1 << 11 };

static void a_page_request_is_answered(const char* bdf) {
    struct edu tester = {.fd = edu_open(bdf)};
    struct vfio_bind bind = {.argsz = sizeof bind, .iommufd = guest.iommu};
    CHECK(!ioctl(tester.fd, VFIO_DEVICE_BIND_IOMMUFD, &bind));
    struct vfio_region_info region = {.argsz = sizeof region, .index = REGION_CONFIG};
    CHECK(!ioctl(tester.fd, VFIO_DEVICE_GET_REGION_INFO, &region));
    const uint16_t command = 6;
    CHECK(pwrite(tester.fd, &command, 2, (off_t)region.offset + 4) == 2);
    region.index = 0;
    CHECK(!ioctl(tester.fd, VFIO_DEVICE_GET_REGION_INFO, &region));
    tester.bar = region.offset;

    struct iommu_fault_alloc faults = {.size = sizeof faults};
    CHECK(!ioctl(guest.iommu, IOMMU_FAULT_QUEUE_ALLOC, &faults));
    const struct first_stage data = {0, guest.root, 48, 0};
    struct iommu_hwpt_alloc alloc = {.size = sizeof alloc,
                                     .flags = HWPT_FAULT_ID_VALID,
                                     .dev_id = bind.out_devid,
                                     .pt_id = guest.parent,
                                     .data_type = HWPT_FIRST_STAGE,
                                     .data_len = sizeof data,
                                     .data_uptr = (uintptr_t)&data,
                                     .fault_id = faults.out_fault_id};
    CHECK(!ioctl(guest.iommu, IOMMU_HWPT_ALLOC, &alloc));
    edu_attach(&tester, alloc.out_hwpt_id);

    guest_map(&guest, RING, ""), guest_map(&guest, RECORDS, "");
    uint64_t* const ring = guest_at(&guest, *guest_entry(&guest, RING) & 0xfffffffff000);
    volatile uint64_t* const records = guest_at(&guest, *guest_entry(&guest, RECORDS) & 0xfffffffff000);
    ring[0] = COPY | ATS | PRI, ring[1] = 16, ring[2] = LATER, ring[3] = OUT, ring[6] = 77;
    edu_store8(&tester, 0x1000, RING), edu_store8(&tester, 0x1008, RECORDS), edu_store(&tester, 0x1010, 2);
    edu_store(&tester, 0x1018, 1);
    edu_store(&tester, 0x1020, 1);

    struct pollfd asked = {.fd = (int)faults.out_fault_fd, .events = POLLIN};
    struct page_fault fault;
    CHECK(poll(&asked, 1, 10000) == 1);
    CHECK(read(asked.fd, &fault, sizeof fault) == sizeof fault);
    CHECK(fault.dev_id == bind.out_devid && fault.address == LATER && !records[3]);
    guest_map(&guest, LATER, "later");
    const struct page_response response = {fault.cookie, 0};
    CHECK(write(asked.fd, &response, sizeof response) == sizeof response);
    UNTIL(records[3] >> 63); /* its phase */
    CHECK(records[0] == 77 && (records[3] >> 32 & 0xff) == 0);
    CHECK(!strcmp(guest_at(&guest, *guest_entry(&guest, OUT) & 0xfffffffff000), "later"));
}

static void the_guests_queue_invalidates(volatile uint32_t* page) {
    const uint64_t at = guest_page(&guest, ""), status = guest_page(&guest, "");
    struct descriptor* const ring = guest_at(&guest, at);
    guest_queue(&guest, VTD, at, PAGE, 0);
    edu_attach(&guest.edu, hwpt(guest.viommu, VTD, GUEST_DOMAIN, 0));
    CHECK(guest_device_sees(&guest, IOVA, "second"));
    guest_map(&guest, IOVA, "third");
    CHECK(guest_device_sees(&guest, IOVA, "second"));
    ring[0].words[0] = 6 | 2 << 4 | GUEST_DOMAIN << 16; /* all of the domain's first-stage translations */
    ring[1].words[0] = 5 | 1 << 5 | 600ull << 32, ring[1].words[1] = status; /* then store 600 */
    *(volatile uint64_t*)&page[0x88 / 4] = 2 * sizeof *ring; /* IQT: each access of this page is a call */
    CHECK(*(uint32_t*)guest_at(&guest, status) == 600 && page[0x80 / 4] == 2 * sizeof *ring);
    CHECK(guest_device_sees(&guest, IOVA, "third"));
}

static void a_fault_is_an_event(void) {
    const int events = guest_events(&guest, VTD);
    struct {
        uint32_t fsts, ics;
        uint64_t record[2];
    } event;
    edu_move(&guest.edu, NOWHERE, EDU_BUFFER, 16, EDU_TO_DEVICE);
    guest_event(events, &event, sizeof event);
    CHECK(event.fsts & 2 && event.record[0] == NOWHERE && (event.record[1] & 0xffff) == GUEST_DEVICE);
    CHECK(event.record[1] >> 63); /* F */
}

int main(int count, char** arguments) {
    CHECK(count == 3);
    uint64_t where[2];
    guest = guest_made(arguments[1], BASE, TABLE, LEAF);
    a_call_invalidates();
    a_page_request_is_answered(arguments[2]);
    guest_viommu(&guest, VTD, where, sizeof where, GUEST_DEVICE);
    the_guests_queue_invalidates(guest_registers(&guest, where[0], where[1], 0));
    a_fault_is_an_event();
    return 0;
}
