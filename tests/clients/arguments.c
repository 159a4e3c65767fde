/* Arguments of ioctls lie anywhere, or not at all: what does not fit is EFAULT, and then nothing was done. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "iommufd.h"

#define PAGE 4096

static int iommu;

/* Two pages, of which the second is not mapped, or has the rights that are asked for. */
static char* two_pages(int rights) {
    char* const pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED);
    CHECK(!(rights < 0 ? munmap(pages + PAGE, PAGE) : mprotect(pages + PAGE, PAGE, rights)));
    return pages;
}

static uint32_t next_id(void) {
    struct iommu_ioas_alloc alloc = {.size = sizeof alloc};
    CHECK(!ioctl(iommu, IOMMU_IOAS_ALLOC, &alloc));
    struct iommu_destroy destroy = {.size = sizeof destroy, .id = alloc.out_ioas_id};
    CHECK(!ioctl(iommu, IOMMU_DESTROY, &destroy));
    return alloc.out_ioas_id;
}

static void a_structure_across_pages(void) {
    char* const pages = two_pages(PROT_READ | PROT_WRITE);
    for (int before = 0; before <= 12; ++before) { /* at any alignment */
        char* const at = pages + PAGE - before;
        struct iommu_ioas_alloc alloc = {.size = sizeof alloc};
        memcpy(at, &alloc, sizeof alloc);
        CHECK(!ioctl(iommu, IOMMU_IOAS_ALLOC, at));
        memcpy(&alloc, at, sizeof alloc);
        CHECK(alloc.out_ioas_id);
        struct iommu_destroy destroy = {.size = sizeof destroy, .id = alloc.out_ioas_id};
        CHECK(!ioctl(iommu, IOMMU_DESTROY, &destroy));
    }
}

static void a_structure_that_ends_where_memory_does(void) {
    const uint32_t id = next_id();
    char* const pages = two_pages(-1);
    for (uint32_t there = 0; there < sizeof(struct iommu_ioas_alloc); ++there) {
        char* const at = pages + PAGE - there;
        const uint32_t size = sizeof(struct iommu_ioas_alloc);
        memcpy(at, &size, there < 4 ? there : 4);
        CHECK_FAILS(EFAULT, ioctl(iommu, IOMMU_IOAS_ALLOC, at));
    }
    CHECK_FAILS(EFAULT, ioctl(iommu, IOMMU_IOAS_ALLOC, NULL));
    CHECK_FAILS(EFAULT, ioctl(iommu, IOMMU_IOAS_ALLOC, (char*)-8));
    CHECK(next_id() == id);
}

static void a_reply_that_cannot_be_stored(void) {
    const uint32_t id = next_id();
    char* const pages = two_pages(PROT_READ | PROT_WRITE);
    const struct iommu_ioas_alloc alloc = {.size = sizeof alloc};
    memcpy(pages + PAGE, &alloc, sizeof alloc);
    memcpy(pages + PAGE - 8, &alloc, sizeof alloc);
    CHECK(!mprotect(pages + PAGE, PAGE, PROT_READ));
    CHECK_FAILS(EFAULT, ioctl(iommu, IOMMU_IOAS_ALLOC, pages + PAGE - 8)); /* the id would lie in the second page */
    CHECK(!mprotect(pages + PAGE, PAGE, PROT_READ | PROT_WRITE));
    memcpy(pages + PAGE, &alloc, sizeof alloc);
    CHECK(!mprotect(pages + PAGE, PAGE, PROT_READ));
    CHECK_FAILS(EFAULT, ioctl(iommu, IOMMU_IOAS_ALLOC, pages + PAGE));
    CHECK(next_id() == id); /* no IOAS was left behind */
}

static void a_structure_that_nothing_is_stored_to(void) {
    static const struct iommu_destroy nothing = {.size = sizeof nothing, .id = 999};
    CHECK_FAILS(ENOENT, ioctl(iommu, IOMMU_DESTROY, (void*)&nothing));
    struct iommu_ioas_alloc alloc = {.size = sizeof alloc};
    CHECK(!ioctl(iommu, IOMMU_IOAS_ALLOC, &alloc));
    char* const pages = two_pages(PROT_READ | PROT_WRITE);
    const struct iommu_destroy destroy = {.size = sizeof destroy, .id = alloc.out_ioas_id};
    memcpy(pages, &destroy, sizeof destroy);
    CHECK(!mprotect(pages, PAGE, PROT_READ));
    CHECK(!ioctl(iommu, IOMMU_DESTROY, pages));
}

static void structures_of_other_sizes(void) {
    struct {
        struct iommu_ioas_alloc alloc;
        char more[4000];
    } large = {.alloc.size = sizeof large};
    CHECK(!ioctl(iommu, IOMMU_IOAS_ALLOC, &large));
    large.more[3999] = 1;
    CHECK_FAILS(E2BIG, ioctl(iommu, IOMMU_IOAS_ALLOC, &large));
    large.alloc.size = 100;
    CHECK(!ioctl(iommu, IOMMU_IOAS_ALLOC, &large));
    large.more[50] = 1;
    CHECK_FAILS(E2BIG, ioctl(iommu, IOMMU_IOAS_ALLOC, &large));
    for (uint32_t size = 0; size < sizeof large.alloc; ++size) {
        large.alloc.size = size;
        CHECK_FAILS(EINVAL, ioctl(iommu, IOMMU_IOAS_ALLOC, &large));
    }
}

static void arrays_that_structures_point_to(void) {
    struct iommu_ioas_alloc alloc = {.size = sizeof alloc};
    CHECK(!ioctl(iommu, IOMMU_IOAS_ALLOC, &alloc));
    char* const pages = two_pages(-1);
    const uint64_t ranges[4] = {0, PAGE - 1, 4 * PAGE, 8 * PAGE - 1};
    memcpy(pages + PAGE - sizeof ranges, ranges, sizeof ranges);
    struct iommu_ioas_allow_iovas allow = {.size = sizeof allow,
                                           .ioas_id = alloc.out_ioas_id,
                                           .num_iovas = 2,
                                           .allowed_iovas = (uintptr_t)(pages + PAGE - sizeof ranges)};
    CHECK(!ioctl(iommu, IOMMU_IOAS_ALLOW_IOVAS, &allow));
    allow.num_iovas = 3; /* beyond what is mapped */
    CHECK_FAILS(EFAULT, ioctl(iommu, IOMMU_IOAS_ALLOW_IOVAS, &allow));
    struct {
        struct iommu_ioas_allow_iovas allow;
        uint64_t ranges[2];
    } both = {.allow = allow, .ranges = {0, PAGE - 1}};
    both.allow.num_iovas = 1;
    both.allow.allowed_iovas = (uintptr_t)&both.ranges;
    CHECK(!ioctl(iommu, IOMMU_IOAS_ALLOW_IOVAS, &both.allow));
}

static volatile int ended;

static void* change_beside(void* beside) {
    for (unsigned value = 1; !ended; ++value) {
        *(volatile unsigned*)beside = value;
        CHECK(*(volatile unsigned*)beside == value); /* nobody stores an older one */
    }
    return NULL;
}

static void what_lies_beside_is_left_alone(void) {
    struct {
        unsigned before;
        struct iommu_ioas_alloc alloc;
        unsigned after;
    } both = {.alloc.size = sizeof both.alloc};
    pthread_t threads[2];
    CHECK(!pthread_create(&threads[0], NULL, change_beside, &both.before));
    CHECK(!pthread_create(&threads[1], NULL, change_beside, &both.after));
    for (int count = 0; count < 300; ++count) CHECK(!ioctl(iommu, IOMMU_IOAS_ALLOC, &both.alloc));
    ended = 1;
    for (int index = 0; index < 2; ++index) CHECK(!pthread_join(threads[index], NULL));
}

int main(void) {
    iommu = open("/dev/iommu", O_RDWR);
    CHECK(iommu >= 0);
    a_structure_across_pages();
    a_structure_that_ends_where_memory_does();
    a_reply_that_cannot_be_stored();
    a_structure_that_nothing_is_stored_to();
    structures_of_other_sizes();
    arrays_that_structures_point_to();
    what_lies_beside_is_left_alone();
    return 0;
}
