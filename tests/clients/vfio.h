/* What the clients need of VFIO's devices, for machines whose headers are older. */
#pragma once

#include <stdint.h>
#include <sys/ioctl.h>

#define VFIO_IO(nr) _IO(';', 100 + (nr))

struct vfio_device_info {
    uint32_t argsz, flags, num_regions, num_irqs, cap_offset, pad;
};
#define VFIO_DEVICE_GET_INFO VFIO_IO(7)

struct vfio_region_info {
    uint32_t argsz, flags, index, cap_offset;
    uint64_t size, offset;
};
#define VFIO_DEVICE_GET_REGION_INFO VFIO_IO(8)
enum { REGION_CONFIG = 7, REGION_MAPS = 4 };

struct vfio_irq_info {
    uint32_t argsz, flags, index, count;
};
#define VFIO_DEVICE_GET_IRQ_INFO VFIO_IO(9)

struct vfio_irq_set {
    uint32_t argsz, flags, index, start, count;
    int32_t eventfd;
};
#define VFIO_DEVICE_SET_IRQS VFIO_IO(10)
enum { IRQ_MSI = 1, SET_NONE = 1, SET_EVENTFD = 4, SET_TRIGGER = 32 };

#define VFIO_DEVICE_RESET VFIO_IO(11)

struct vfio_bind {
    uint32_t argsz, flags;
    int32_t iommufd;
    uint32_t out_devid;
};
#define VFIO_DEVICE_BIND_IOMMUFD VFIO_IO(18)

struct vfio_attach {
    uint32_t argsz, flags, pt_id;
};
#define VFIO_DEVICE_ATTACH_IOMMUFD_PT VFIO_IO(19)

struct vfio_detach {
    uint32_t argsz, flags;
};
#define VFIO_DEVICE_DETACH_IOMMUFD_PT VFIO_IO(20)

struct vfio_attach_pasid {
    uint32_t argsz, flags, pt_id, pasid;
};
struct vfio_detach_pasid {
    uint32_t argsz, flags, pasid;
};
enum { VFIO_WITH_PASID = 1 };
