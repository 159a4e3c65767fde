/* Never ends by itself: threads, children, memory and queues, until there is no service any more (19), or it is killed.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "ioas.h"

static int fd;

/* Ends the program as soon as nobody answers; what else fails is a fault of somebody's. */
static void must(int result, const char* what) {
    if (result >= 0) return;
    if (errno == ENODEV) _exit(ENODEV);
    perror(what);
    _exit(1);
}

static uint32_t made_ioas(void) {
    struct iommu_ioas_alloc alloc = {.size = sizeof alloc};
    must(ioctl(fd, IOMMU_IOAS_ALLOC, &alloc), "IOAS_ALLOC");
    return alloc.out_ioas_id;
}

static void* use_memory(void* number) {
    for (int turn = 0;; ++turn) {
        const uint32_t id = made_ioas();
        struct iommu_test_cmd device = test(MOCK_DOMAIN, id);
        must(ioctl(fd, IOMMU_TEST_CMD, &device), "MOCK_DOMAIN");
        const int kind = (turn + (int)(intptr_t)number) % 2 ? MAP_SHARED : MAP_PRIVATE;
        char* const memory = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS, -1, 0);
        memset(memory, 'm', 16 * PAGE);
        must(map(fd, id, memory, 16 * PAGE, 0x1000000), "IOAS_MAP");
        must(munmap(memory, 16 * PAGE), "munmap");
        must(destroy(fd, device.mock_domain.out_stdev_id), "DESTROY of a device");
        must(destroy(fd, id), "DESTROY");
    }
    return NULL;
}

static void* make_queues(void* unused) {
    for (;;) {
        struct iommu_fault_alloc alloc = {.size = sizeof alloc};
        must(ioctl(fd, IOMMU_FAULT_QUEUE_ALLOC, &alloc), "FAULT_QUEUE_ALLOC");
        char event[40];
        must((int)read((int)alloc.out_fault_fd, event, sizeof event), "read");
        must(close((int)alloc.out_fault_fd), "close");
        int left;
        while ((left = destroy(fd, alloc.out_fault_id)) && errno == EBUSY)
            continue; /* a child has it too, for a while */
        must(left, "DESTROY of a queue");
    }
    return unused;
}

static void* make_children(void* unused) {
    for (;;) {
        const pid_t child = fork();
        must(child, "fork");
        if (!child) {
            must(destroy(fd, made_ioas()), "DESTROY by a child");
            must(open(NODE, O_RDWR), "open");
            _exit(0);
        }
        const int status = exit_of(child);
        if (status) _exit(status);
    }
    return unused;
}

int main(void) {
    must(fd = open(NODE, O_RDWR), "open");
    void* (*const work[])(void*) = {use_memory, use_memory, make_queues, make_children};
    puts("busy"), fflush(stdout);
    pthread_t threads[4];
    for (int index = 0; index < 4; ++index)
        CHECK(!pthread_create(&threads[index], NULL, work[index], (void*)(intptr_t)index));
    pthread_join(threads[0], NULL);
    return 1;
}
