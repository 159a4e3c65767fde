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

struct iommu_ioas_unmap {
    uint32_t size, ioas_id;
    uint64_t iova, length;
};
#define IOMMU_IOAS_UNMAP IOMMU_IO(0x86)

struct iommu_hwpt_alloc {
    uint32_t size, flags, dev_id, pt_id, out_hwpt_id, reserved, data_type, data_len;
    uint64_t data_uptr;
    uint32_t fault_id, reserved2;
};
#define IOMMU_HWPT_ALLOC IOMMU_IO(0x89)
enum { HWPT_NEST_PARENT = 1, HWPT_DIRTY_TRACKING = 2, HWPT_FAULT_ID_VALID = 4, HWPT_PASID = 8 };

/* What a FAULT's fd is read in, and what is written to it. */
struct iommu_hwpt_pgfault {
    uint32_t flags, dev_id, pasid, grpid, perm, reserved;
    uint64_t addr;
    uint32_t length, cookie;
};
enum { PGFAULT_PASID_VALID = 1, PGFAULT_LAST = 2 };
struct iommu_hwpt_page_response {
    uint32_t cookie, code;
};

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
