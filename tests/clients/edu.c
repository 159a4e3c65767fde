/* Owns QEMU's educational device as a driver in user space does: edu BDF, by calls;
 * edu BDF mapped, by loads and stores. */
#define _GNU_SOURCE
#include <poll.h>
#include <stddef.h>
#include <sys/eventfd.h>

#include "edu.h"

#define PAGE EDU_PAGE
#define IOVA 0x400000u
#define BUFFER EDU_BUFFER

static struct edu edu;

static uint32_t load(uint32_t at) { return edu_load(&edu, at); }
static void store(uint32_t at, uint32_t value) { edu_store(&edu, at, value); }
static void move(uint64_t source, uint64_t target, uint32_t count, uint32_t direction) {
    edu_move(&edu, source, target, count, direction);
}

int main(int count, char** arguments) {
    CHECK(count >= 2);
    edu.fd = edu_open(arguments[1]);
    const int iommu = open("/dev/iommu", O_RDWR);
    struct vfio_device_info info = {.argsz = sizeof info};
    CHECK_FAILS(EINVAL, ioctl(edu.fd, VFIO_DEVICE_GET_INFO, &info)); /* nobody has bound it */
    struct vfio_bind bind = {.argsz = sizeof bind, .iommufd = edu.fd};
    CHECK_FAILS(EBADFD, ioctl(edu.fd, VFIO_DEVICE_BIND_IOMMUFD, &bind));
    bind.iommufd = iommu;
    CHECK(!ioctl(edu.fd, VFIO_DEVICE_BIND_IOMMUFD, &bind) && bind.out_devid);
    CHECK_FAILS(EINVAL, ioctl(edu.fd, VFIO_DEVICE_BIND_IOMMUFD, &bind));
    CHECK(!ioctl(edu.fd, VFIO_DEVICE_GET_INFO, &info) && info.num_regions == 9 && info.num_irqs == 5);

    edu_start(&edu);
    if (count > 2) edu_map(&edu);
    CHECK(load(0) == 0x010000ed);
    store(4, 0x12345678);
    CHECK(load(4) == (uint32_t)~0x12345678);

    struct iommu_ioas_alloc alloc = {.size = sizeof alloc};
    CHECK(!ioctl(iommu, IOMMU_IOAS_ALLOC, &alloc));
    struct vfio_attach attach = {.argsz = sizeof attach, .pt_id = alloc.out_ioas_id};
    CHECK(!ioctl(edu.fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) && attach.pt_id != alloc.out_ioas_id);
    char* const page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct iommu_ioas_map map = {.size = sizeof map,
                                 .flags =
                                     IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
                                 .ioas_id = alloc.out_ioas_id,
                                 .user_va = (uintptr_t)page,
                                 .length = 2 * PAGE,
                                 .iova = IOVA};
    CHECK(!ioctl(iommu, IOMMU_IOAS_MAP, &map));

    struct vfio_irq_info irqs = {.argsz = sizeof irqs, .index = IRQ_MSI};
    CHECK(!ioctl(edu.fd, VFIO_DEVICE_GET_IRQ_INFO, &irqs) && irqs.count == 1);
    const int event = eventfd(0, EFD_NONBLOCK);
    struct vfio_irq_set set = {sizeof set, SET_EVENTFD | SET_TRIGGER, IRQ_MSI, 0, 1, event};
    CHECK(!ioctl(edu.fd, VFIO_DEVICE_SET_IRQS, &set));

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
    CHECK(!ioctl(edu.fd, VFIO_DEVICE_SET_IRQS, &set));
    CHECK(!ioctl(edu.fd, VFIO_DEVICE_RESET, NULL) && load(8) == 0);
    struct vfio_detach detach = {sizeof detach, 0};
    CHECK(!ioctl(edu.fd, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach));
    if (edu.mapped) CHECK(!munmap((void*)edu.mapped, EDU_BAR));
    CHECK(!close(edu.fd));
    edu.fd = edu_open(arguments[1]);
    bind.iommufd = iommu;
    CHECK(!ioctl(edu.fd, VFIO_DEVICE_BIND_IOMMUFD, &bind)); /* free again */
    return 0;
}
