/* What the clients need of the uAPI of /dev/iommu, for machines whose headers are older. */
#pragma once

#include <stdint.h>
#include <sys/ioctl.h>

#define IOMMU_IO(nr) _IO(';', nr)

struct iommu_destroy {
    uint32_t size, id;
};
#define IOMMU_DESTROY IOMMU_IO(0x80)

struct iommu_ioas_alloc {
    uint32_t size, flags, out_ioas_id;
};
#define IOMMU_IOAS_ALLOC IOMMU_IO(0x81)

struct iommu_ioas_allow_iovas {
    uint32_t size, ioas_id, num_iovas, reserved;
    uint64_t allowed_iovas;
};
#define IOMMU_IOAS_ALLOW_IOVAS IOMMU_IO(0x82)

struct iommu_ioas_map {
    uint32_t size, flags, ioas_id, reserved;
    uint64_t user_va, length, iova;
};
#define IOMMU_IOAS_MAP IOMMU_IO(0x85)
#define IOMMU_IOAS_MAP_FIXED_IOVA 1
#define IOMMU_IOAS_MAP_WRITEABLE 2
#define IOMMU_IOAS_MAP_READABLE 4

struct iommu_ioas_map_file {
    uint32_t size, flags, ioas_id;
    int32_t fd;
    uint64_t start, length, iova;
};
#define IOMMU_IOAS_MAP_FILE IOMMU_IO(0x8f)

struct iommu_fault_alloc {
    uint32_t size, flags, out_fault_id, out_fault_fd;
};
#define IOMMU_FAULT_QUEUE_ALLOC IOMMU_IO(0x8e)

/* Of the selftest driver. */
struct iommu_test_cmd {
    uint32_t size, op, id, reserved;
    union {
        struct {
            uint32_t out_stdev_id, out_hwpt_id, out_idev_id;
        } mock_domain;
        struct {
            uint64_t iova, length, uptr;
        } check_map;
        struct {
            uint64_t length, uptr;
            uint32_t refs;
        } check_refs;
        struct {
            uint64_t iova, length, uptr;
            uint32_t flags;
        } access_rw;
        struct {
            uint32_t out_access_fd, flags;
        } create_access;
        uint64_t room[6];
    };
    uint32_t last;
};
#define IOMMU_TEST_CMD IOMMU_IO(0xa0)
enum { MOCK_DOMAIN = 2, MD_CHECK_MAP = 3, MD_CHECK_REFS = 4, CREATE_ACCESS = 5, ACCESS_RW = 8 };
enum { ACCESS_RW_WRITE = 1 };
