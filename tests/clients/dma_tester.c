/* Owns a dma-tester, and uses all that it has: dma_tester BDF [mapped] [pasid] [pri] [stall] [throughput]. */
#define _GNU_SOURCE
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>

#include "edu.h"

#define PAGE 4096u
#define RING_IOVA 0x1000000u
#define DATA_IOVA 0x2000000u
#define DATA_SIZE (4u << 20)
#define NOWHERE 0x70000000u
#define RINGS 4
#define SIZE_LG2 4
#define PLACES (1u << SIZE_LG2)

enum { NOP, READ, WRITE, COPY, COMPARE, FILL, FETCH_ADD, SWAP, COMPARE_SWAP, TRANSLATE, REQUEST_PAGES };
enum {
    FENCE = 1 << 8,
    INTERRUPT = 1 << 9,
    ATS = 1 << 10,
    PRI = 1 << 11,
    SOURCE_PASID = 1 << 14,
    TARGET_PASID = 1 << 15
};
enum { DONE, FAULT, NO_MEMORY, NO_RIGHTS, UNSUPPORTED, ABORTED, PAGE_REFUSED, NOT_MASTER, BAD_DESCRIPTOR, IMPOSSIBLE };

struct descriptor {
    uint64_t what, length, source, target, operand, operand2, cookie, zero;
};
struct record {
    uint64_t cookie, address, result;
    uint32_t index;
    uint8_t status, side, detail, phase;
};
struct rings { /* in memory that the device sees at RING_IOVA */
    struct descriptor work[PLACES];
    volatile struct record done[PLACES];
};

static struct edu device; /* the ways to a file's BAR are those of any device */
static struct rings* rings;
static unsigned char* data;
static int iommu;
static uint32_t tail, seen;

static uint64_t load8(uint32_t at) { return edu_load(&device, at) | (uint64_t)edu_load(&device, at + 4) << 32; }

static void enable(void) {
    memset(rings, 0, sizeof *rings);
    tail = seen = 0;
    edu_store(&device, 0x1018, 0);
    edu_store8(&device, 0x1000, RING_IOVA);
    edu_store8(&device, 0x1008, RING_IOVA + sizeof rings->work);
    edu_store(&device, 0x1010, SIZE_LG2);
    edu_store(&device, 0x1014, 0);
    edu_store(&device, 0x1018, 1);
    CHECK(edu_load(&device, 0x101c) == 1);
}

static void submit(struct descriptor work) {
    work.cookie = 0xC00C1E00 + tail;
    rings->work[tail++ % PLACES] = work;
    edu_store(&device, 0x1020, tail);
}

static struct record next(void) {
    volatile struct record* const place = &rings->done[seen % PLACES];
    const uint8_t phase = seen / PLACES % 2 ? 0 : 0x80;
    for (int n = 0; (place->phase & 0x80) != phase; ++n) CHECK(n < 50000 && !usleep(100));
    ++seen;
    return *(const struct record*)place;
}

static struct record done(struct descriptor work) {
    const uint32_t index = tail;
    submit(work);
    const struct record record = next();
    CHECK(record.index == index && record.cookie == 0xC00C1E00 + index);
    return record;
}

static uint32_t crc32(const unsigned char* bytes, size_t count) {
    uint32_t crc = ~0u;
    while (count--) {
        crc ^= *bytes++;
        for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

static uint32_t ioas(void) {
    struct iommu_ioas_alloc alloc = {.size = sizeof alloc};
    CHECK(!ioctl(iommu, IOMMU_IOAS_ALLOC, &alloc));
    return alloc.out_ioas_id;
}

static void map(uint32_t id, void* at, size_t length, uint64_t iova) {
    struct iommu_ioas_map map = {.size = sizeof map,
                                 .flags =
                                     IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
                                 .ioas_id = id,
                                 .user_va = (uintptr_t)at,
                                 .length = length,
                                 .iova = iova};
    CHECK(!ioctl(iommu, IOMMU_IOAS_MAP, &map));
}

static void* memory(size_t length) {
    void* const at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static uint32_t hwpt(uint32_t pt, uint32_t flags, uint32_t fault) {
    struct iommu_hwpt_alloc alloc = {
        .size = sizeof alloc, .flags = flags, .dev_id = device.id, .pt_id = pt, .fault_id = fault};
    CHECK(!ioctl(iommu, IOMMU_HWPT_ALLOC, &alloc));
    return alloc.out_hwpt_id;
}

static void attach(uint32_t pt) {
    struct vfio_attach attach = {.argsz = sizeof attach, .pt_id = pt};
    CHECK(!ioctl(device.fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach));
}

static void operations(void) {
    for (unsigned n = 0; n < 8 * PAGE; ++n) data[n] = (unsigned char)(n * 7 + n / 251);
    const uint64_t length = 5 * PAGE + 99;
    struct record record = done((struct descriptor){COPY, length, DATA_IOVA + 3, DATA_IOVA + 0x100000 + 8, 0, 0, 0, 0});
    CHECK(record.status == DONE && record.result == length && !memcmp(data + 3, data + 0x100000 + 8, length));
    record = done((struct descriptor){READ, length, DATA_IOVA + 3, 0, 0, 0, 0, 0});
    CHECK(record.status == DONE && record.result == crc32(data + 3, length));
    data[0x100000 + 8 + 12345] ^= 0x40;
    record = done((struct descriptor){COMPARE, length, DATA_IOVA + 3, DATA_IOVA + 0x100000 + 8, 0, 0, 0, 0});
    CHECK(record.status == DONE && record.result == 12345);
    record = done((struct descriptor){FILL, 20, 0, DATA_IOVA + 0x200001, 0x0807060504030201, 0, 0, 0});
    CHECK(record.status == DONE && data[0x200001 + 19] == 4 && data[0x200001 + 20] == 0);
    record = done((struct descriptor){WRITE, 9, 0, DATA_IOVA + 0x200100, 0x0807060504030201, 9, 0, 0});
    CHECK(record.status == DONE && data[0x200108] == 9);
    uint64_t* const word = (uint64_t*)(void*)(data + 0x200200);
    *word = 40;
    CHECK(done((struct descriptor){FETCH_ADD, 8, 0, DATA_IOVA + 0x200200, 2, 0, 0, 0}).result == 40 && *word == 42);
    CHECK(done((struct descriptor){SWAP, 8, 0, DATA_IOVA + 0x200200, 7, 0, 0, 0}).result == 42 && *word == 7);
    CHECK(done((struct descriptor){COMPARE_SWAP, 8, 0, DATA_IOVA + 0x200200, 7, 8, 0, 0}).result == 7 && *word == 8);
    record = done((struct descriptor){COPY, 2 * PAGE, DATA_IOVA, DATA_IOVA + DATA_SIZE - PAGE, 0, 0, 0, 0});
    CHECK(record.status == FAULT || record.status == ABORTED); /* at once, or as nobody answers a stall */
    CHECK((record.side & 1) && record.result == PAGE);
    CHECK(record.address == DATA_IOVA + DATA_SIZE);
    CHECK(done((struct descriptor){READ | 1ull << 60, 8, DATA_IOVA, 0, 0, 0, 0, 0}).status == BAD_DESCRIPTOR);
}

static void interrupts(void) {
    const int first = eventfd(0, EFD_NONBLOCK), last = eventfd(0, EFD_NONBLOCK);
    struct {
        struct vfio_irq_set set;
        int32_t more[RINGS - 1];
    } all = {{20 + 4 * RINGS, SET_EVENTFD | SET_TRIGGER, 2 /* MSI-X */, 0, RINGS, first}, {-1, -1, last}};
    uint64_t count;
    CHECK(!ioctl(device.fd, VFIO_DEVICE_SET_IRQS, &all));
    CHECK(done((struct descriptor){NOP | INTERRUPT, 0, 0, 0, 0, 0, 0, 0}).status == DONE);
    struct pollfd raised = {first, POLLIN, 0};
    CHECK(poll(&raised, 1, 5000) == 1 && read(first, &count, 8) == 8 && count == 1);
    CHECK_FAILS(EAGAIN, read(last, &count, 8));
    CHECK(!close(first) && !close(last));
}

static void own_tlb(uint32_t pt) {
    struct record record = done((struct descriptor){TRANSLATE, 0, DATA_IOVA + 0x2123, 0, 1, 0, 0, 0});
    if (record.status == UNSUPPORTED || record.status == IMPOSSIBLE) return; /* no ATS here */
    CHECK(record.status == DONE && (record.detail & 3) == 3 && record.result % PAGE == 0x123);
    CHECK(edu_load(&device, 0x14) == 1);
    struct iommu_ioas_unmap unmap = {sizeof unmap, pt, DATA_IOVA, DATA_SIZE};
    const uint64_t before = load8(0x18);
    CHECK(!ioctl(iommu, IOMMU_IOAS_UNMAP, &unmap));
    CHECK(load8(0x18) > before && edu_load(&device, 0x14) == 0);
    CHECK(done((struct descriptor){READ | ATS, 8, DATA_IOVA, 0, 0, 0, 0, 0}).status != DONE);
    map(pt, data, DATA_SIZE, DATA_IOVA);
    CHECK(done((struct descriptor){READ | ATS, 8, DATA_IOVA, 0, 0, 0, 0, 0}).status == DONE);
}

/* A PASID sees other memory at the same address. */
static void pasids(void) {
    const uint32_t other = ioas();
    unsigned char* const hidden = memory(PAGE);
    map(other, hidden, PAGE, DATA_IOVA);
    strcpy((char*)hidden, "by PASID");
    struct vfio_attach_pasid attached = {sizeof attached, VFIO_WITH_PASID, hwpt(other, HWPT_PASID, 0), 5};
    CHECK(!ioctl(device.fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attached));
    struct descriptor work = {COPY | SOURCE_PASID | 5u << 16, 9, DATA_IOVA, DATA_IOVA + 0x3000, 0, 0, 0, 0};
    CHECK(done(work).status == DONE && !strcmp((char*)data + 0x3000, "by PASID"));
    struct vfio_detach_pasid detached = {sizeof detached, VFIO_WITH_PASID, 5};
    CHECK(!ioctl(device.fd, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detached));
    CHECK(done(work).status == FAULT);
}

/* Memory that is not mapped yet is mapped when the device asks for it, or waits for it. */
static void faults(uint32_t pt, uint64_t flags, uint32_t more) {
    struct iommu_fault_alloc alloc = {.size = sizeof alloc};
    CHECK(!ioctl(iommu, IOMMU_FAULT_QUEUE_ALLOC, &alloc));
    const int queue = (int)alloc.out_fault_fd;
    attach(hwpt(pt, HWPT_FAULT_ID_VALID | more, alloc.out_fault_id));
    unsigned char* const late = memory(4 * PAGE);
    struct pollfd waits = {queue, POLLIN, 0};
    for (unsigned answered = 0; answered < 2; ++answered) {
        const uint64_t iova = NOWHERE + answered * 0x100000;
        submit((struct descriptor){FILL | flags, 2 * PAGE, 0, iova, 0x55, 0, 0, 0});
        submit((struct descriptor){NOP, 0, 0, 0, 0, 0, 0, 0}); /* is not held up */
        CHECK(next().index == tail - 1);
        struct iommu_hwpt_pgfault request;
        struct iommu_hwpt_page_response response = {0, 0};
        CHECK(poll(&waits, 1, 5000) == 1 && read(queue, &request, sizeof request) == sizeof request);
        CHECK((request.addr & -PAGE) == iova && (request.perm & 2));
        if (!answered) map(pt, late, 4 * PAGE, iova);
        response.cookie = request.cookie, response.code = answered; /* 1: invalid */
        CHECK(write(queue, &response, sizeof response) == sizeof response);
        const struct record record = next();
        CHECK(record.index == tail - 2 && record.address == (answered ? iova : 0));
        CHECK(record.status == (!answered ? DONE : flags & PRI ? PAGE_REFUSED : ABORTED));
    }
    CHECK(late[2 * PAGE - 8] == 0x55 && late[2 * PAGE] == 0);
    attach(pt);
    CHECK(!close(queue));
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void throughput(void) {
    const uint64_t times = 256, size = 1 << 20;
    const double before = seconds();
    const struct record record = done((struct descriptor){COPY, size, DATA_IOVA, DATA_IOVA + 2 * size, times, 0, 0, 0});
    const double device_took = seconds() - before;
    CHECK(record.status == DONE && record.result == times * size && !memcmp(data, data + 2 * size, size));
    const double between = seconds();
    for (uint64_t n = 0; n < times; ++n) {
        memcpy(data + 3 * size, data + size, size);
        __asm__ volatile("" ::: "memory");
    }
    printf("%.0f MiB/s, memcpy %.0f MiB/s\n", (double)times / device_took, (double)times / (seconds() - between));
}

int main(int count, char** arguments) {
    CHECK(count >= 2);
    int maps = 0, has_pasids = 0, asks = 0, stalls = 0, streams = 0;
    for (int n = 2; n < count; ++n) {
        maps |= !strcmp(arguments[n], "mapped"), has_pasids |= !strcmp(arguments[n], "pasid");
        asks |= !strcmp(arguments[n], "pri"), stalls |= !strcmp(arguments[n], "stall");
        streams |= !strcmp(arguments[n], "throughput");
    }
    device.fd = edu_open(arguments[1]);
    iommu = open("/dev/iommu", O_RDWR);
    struct vfio_bind bind = {.argsz = sizeof bind, .iommufd = iommu};
    CHECK(!ioctl(device.fd, VFIO_DEVICE_BIND_IOMMUFD, &bind));
    device.id = bind.out_devid;
    struct vfio_region_info region = {.argsz = sizeof region, .index = REGION_CONFIG};
    uint16_t command = 6; /* memory space, bus master */
    CHECK(!ioctl(device.fd, VFIO_DEVICE_GET_REGION_INFO, &region));
    CHECK(pwrite(device.fd, &command, 2, (off_t)region.offset + 4) == 2);
    region.index = 0;
    CHECK(!ioctl(device.fd, VFIO_DEVICE_GET_REGION_INFO, &region) && region.size == 0x10000);
    device.bar = region.offset;
    if (maps) {
        device.mapped = mmap(NULL, region.size, PROT_READ | PROT_WRITE, MAP_SHARED, device.fd, (off_t)region.offset);
        CHECK(device.mapped != MAP_FAILED);
    }
    CHECK(edu_load(&device, 0) == 0x54414D44 && (load8(8) >> 16 & 0xf) == RINGS);

    const uint32_t pt = ioas();
    rings = memory(PAGE), data = memory(DATA_SIZE);
    CHECK(sizeof *rings <= PAGE);
    map(pt, rings, PAGE, RING_IOVA), map(pt, data, DATA_SIZE, DATA_IOVA);
    attach(has_pasids ? hwpt(pt, HWPT_PASID, 0) : pt);
    enable();
    operations();
    interrupts();
    own_tlb(pt);
    if (has_pasids) pasids();
    if (streams) throughput();
    if (asks) faults(pt, ATS | PRI, 0);
    if (stalls) faults(pt, 0, HWPT_DIRTY_TRACKING);

    CHECK(!ioctl(device.fd, VFIO_DEVICE_RESET, NULL) && edu_load(&device, 0x101c) == 0);
    enable();
    CHECK(done((struct descriptor){NOP, 0, 0, 0, 0, 0, 0, 0}).status == DONE);
    struct vfio_detach detach = {sizeof detach, 0};
    CHECK(!ioctl(device.fd, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach));
    CHECK(!close(device.fd) && !close(iommu));
    return 0;
}
