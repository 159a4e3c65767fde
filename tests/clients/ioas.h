/* What clients of the selftest driver do again and again. */
#pragma once

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "iommufd.h"

#define NODE "/dev/iommu"
#define PAGE 4096u

static inline int opened(void) {
    const int fd = open(NODE, O_RDWR);
    CHECK(fd >= 0);
    return fd;
}

static inline uint32_t ioas(int fd) {
    struct iommu_ioas_alloc alloc = {.size = sizeof alloc};
    CHECK(!ioctl(fd, IOMMU_IOAS_ALLOC, &alloc));
    return alloc.out_ioas_id;
}

static inline int destroy(int fd, uint32_t id) {
    struct iommu_destroy gone = {sizeof gone, id};
    return ioctl(fd, IOMMU_DESTROY, &gone);
}

static inline int map(int fd, uint32_t id, void* at, size_t length, uint64_t iova) {
    struct iommu_ioas_map mapped = {.size = sizeof mapped,
                                    .flags =
                                        IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_READABLE,
                                    .ioas_id = id,
                                    .user_va = (uintptr_t)at,
                                    .length = length,
                                    .iova = iova};
    return ioctl(fd, IOMMU_IOAS_MAP, &mapped);
}

static inline struct iommu_test_cmd test(uint32_t op, uint32_t id) {
    return (struct iommu_test_cmd){.size = sizeof(struct iommu_test_cmd), .op = op, .id = id};
}

static inline uint32_t domain(int fd, uint32_t id) {
    struct iommu_test_cmd cmd = test(MOCK_DOMAIN, id);
    CHECK(!ioctl(fd, IOMMU_TEST_CMD, &cmd));
    return cmd.mock_domain.out_hwpt_id;
}

static inline int maps_to(int fd, uint32_t hwpt, uint64_t iova, size_t length, void* at) {
    struct iommu_test_cmd cmd = test(MD_CHECK_MAP, hwpt);
    cmd.check_map.iova = iova, cmd.check_map.length = length, cmd.check_map.uptr = (uintptr_t)at;
    return ioctl(fd, IOMMU_TEST_CMD, &cmd);
}

static inline int access_of(int fd, uint32_t id) {
    struct iommu_test_cmd cmd = test(CREATE_ACCESS, id);
    CHECK(!ioctl(fd, IOMMU_TEST_CMD, &cmd));
    return (int)cmd.create_access.out_access_fd;
}

static inline int moves(int fd, int access, uint64_t iova, void* at, size_t length, uint32_t flags) {
    struct iommu_test_cmd cmd = test(ACCESS_RW, (uint32_t)access);
    cmd.access_rw.iova = iova, cmd.access_rw.length = length;
    cmd.access_rw.uptr = (uintptr_t)at, cmd.access_rw.flags = flags;
    return ioctl(fd, IOMMU_TEST_CMD, &cmd);
}

static inline int fault_queue(int fd) {
    struct iommu_fault_alloc alloc = {.size = sizeof alloc};
    CHECK(!ioctl(fd, IOMMU_FAULT_QUEUE_ALLOC, &alloc));
    return (int)alloc.out_fault_fd;
}

static inline int exit_of(pid_t child) {
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static inline void* shared_page(void) {
    void* const at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}
