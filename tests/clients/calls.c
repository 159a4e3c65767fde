/* Makes the calls that the shim stands in front of: calls NAME runs one case. It ends with 0 where all is as on a
 * kernel, and says on standard error what is not. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "cases.h"
#include "ioas.h"

CASE(open) {
    const int one = opened();
    const int fds[] = {open64(NODE, O_RDWR), openat(AT_FDCWD, NODE, O_RDWR), openat64(AT_FDCWD, NODE, O_RDWR)};
    for (unsigned index = 0; index < 3; ++index) {
        CHECK(fds[index] >= 0);
        CHECK(ioas(fds[index]) == 1); /* a context of its own */
    }
    CHECK(!(fcntl(one, F_GETFD) & FD_CLOEXEC));
    CHECK(fcntl(open(NODE, O_RDWR | O_CLOEXEC), F_GETFD) & FD_CLOEXEC);
    FILE* const stream = fopen(NODE, "r+");
    CHECK(stream && ioas(fileno(stream)) == 1);
    CHECK_FAILS(EEXIST, open(NODE, O_RDWR | O_CREAT | O_EXCL, 0600));
    CHECK_FAILS(ENOTDIR, open(NODE, O_RDONLY | O_DIRECTORY));
    CHECK_FAILS(ENOENT, open("/dev/iommu-of-nobody", O_RDWR));
}

CASE(status) {
    struct stat status;
    struct statx extended;
    CHECK(!access(NODE, R_OK | W_OK) && !faccessat(AT_FDCWD, NODE, R_OK, 0));
    CHECK_FAILS(EACCES, access(NODE, X_OK));
    CHECK(!stat(NODE, &status) && S_ISCHR(status.st_mode));
    CHECK(!lstat(NODE, &status) && S_ISCHR(status.st_mode));
    CHECK(!fstatat(AT_FDCWD, NODE, &status, 0) && S_ISCHR(status.st_mode));
    CHECK(!statx(AT_FDCWD, NODE, 0, STATX_TYPE, &extended) && S_ISCHR(extended.stx_mode));
    CHECK(!stat("/dev/null", &status) && S_ISCHR(status.st_mode));
    const int fd = opened();
    CHECK(!fstat(fd, &status) && S_ISCHR(status.st_mode));
    CHECK(!fstatat(fd, "", &status, AT_EMPTY_PATH) && S_ISCHR(status.st_mode));
    CHECK(!statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &extended) && S_ISCHR(extended.stx_mode));
    CHECK(!fstat(fault_queue(fd), &status) && !S_ISCHR(status.st_mode));
    int ends[2];
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends) && !fstat(ends[0], &status) && S_ISSOCK(status.st_mode));
}

CASE(names) {
    char link[64], target[64] = {0};
    snprintf(link, sizeof link, "/proc/self/fd/%d", opened());
    CHECK(readlink(link, target, sizeof target) == 10 && !strcmp(target, NODE));
    CHECK(readlink(link, target, 4) == 4);
    CHECK(open("/dev//iommu", O_RDWR) >= 0 && open("/dev/./vfio/../iommu", O_RDWR) >= 0);
    const int folder = open("/dev", O_RDONLY | O_DIRECTORY);
    CHECK(openat(folder, "iommu", O_RDWR) >= 0 && !faccessat(folder, "iommu", R_OK, 0));
    CHECK(!chdir("/dev") && open("iommu", O_RDWR) >= 0 && open("./vfio/vfio", O_RDWR) >= 0);
    CHECK_FAILS(ENOENT, open("/tmp/../iommu", O_RDWR));
    CHECK(!chdir("/dev/vfio") && !strcmp(getcwd(target, sizeof target), "/dev/vfio"));
    CHECK(open("../iommu", O_RDWR) >= 0 && open("vfio", O_RDWR) >= 0);
    const int nodes = open("/dev/vfio", O_RDONLY | O_DIRECTORY);
    CHECK(openat(nodes, "vfio", O_RDWR) >= 0);
    struct stat status;
    CHECK(!fstatat(nodes, "vfio", &status, 0) && S_ISCHR(status.st_mode));
}

CASE(ioctl) {
    const int fd = opened();
    const uint32_t id = ioas(fd);
    CHECK(!destroy(fd, id));
    CHECK_FAILS(ENOENT, destroy(fd, id));
    CHECK_FAILS(ENOTTY, ioctl(fd, IOMMU_IO(0xff), NULL));
    CHECK_FAILS(EFAULT, ioctl(fd, IOMMU_DESTROY, (void*)8));
    CHECK_FAILS(ENOTTY, ioctl(open("/dev/null", O_RDWR), IOMMU_DESTROY, &id));
    CHECK_FAILS(EBADF, ioctl(12345, IOMMU_DESTROY, &id));
}

CASE(copies) {
    const int fd = opened();
    const uint32_t id = ioas(fd);
    const int copies[] = {dup(fd), dup2(fd, 200), dup3(fd, 201, O_CLOEXEC), fcntl(fd, F_DUPFD, 202),
                          fcntl(fd, F_DUPFD_CLOEXEC, 203)};
    CHECK(!close(fd));
    for (unsigned index = 0; index < 5; ++index) {
        struct iommu_destroy gone = {sizeof gone, id + 1000};
        CHECK(copies[index] >= 0);
        CHECK_FAILS(ENOENT, ioctl(copies[index], IOMMU_DESTROY, &gone));
    }
    CHECK(!destroy(copies[4], id)); /* all are one file, which lives on */
}

CASE(read_and_write) {
    const int fd = opened(), queue = fault_queue(fd);
    char bytes[64];
    struct iovec pieces[2] = {{bytes, 40}, {bytes + 40, 8}};
    CHECK(!read(queue, bytes, 40) && !readv(queue, pieces, 2)); /* nothing waits */
    CHECK_FAILS(ESPIPE, read(queue, bytes, 7));
    CHECK_FAILS(ESPIPE, pread(queue, bytes, 40, 8));
    CHECK_FAILS(EINVAL, write(queue, memset(bytes, 0, 16), 16));
    CHECK_FAILS(EINVAL, writev(queue, pieces, 1));
    CHECK_FAILS(EINVAL, read(fd, bytes, 8));
    CHECK_FAILS(EINVAL, write(fd, bytes, 8));
    int ends[2];
    CHECK(!pipe(ends) && write(ends[1], "x", 1) == 1 && read(ends[0], bytes, 1) == 1);
}

CASE(poll) {
    const int fd = opened(), queue = fault_queue(fd);
    struct pollfd polled[2] = {{fd, POLLIN | POLLOUT, 0}, {queue, POLLIN | POLLOUT, 0}};
    CHECK(poll(polled, 2, 0) == 2);
    CHECK(polled[0].revents == (POLLIN | POLLOUT) && polled[1].revents == POLLOUT);
    const int set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    CHECK(!epoll_ctl(set, EPOLL_CTL_ADD, queue, &event) && !epoll_wait(set, &event, 1, 0));
}

CASE(fork) {
    const int fd = opened();
    const uint32_t id = ioas(fd), hwpt = domain(fd, id);
    char* const page = shared_page();
    strcpy(page, "before");
    const pid_t child = fork();
    CHECK(child >= 0);
    if (!child) {
        CHECK(!map(fd, id, page, PAGE, 0x1010000)); /* of the child, on its parent's file */
        strcpy(page, "after");
        _exit(0);
    }
    CHECK(!exit_of(child));
    CHECK(!maps_to(fd, hwpt, 0x1010000, PAGE, page)); /* the same page */
    char seen[8];
    CHECK(!moves(fd, access_of(fd, id), 0x1010000, seen, 6, 0) && !memcmp(seen, "after", 6));
}

CASE(exec) {
    char number[16];
    snprintf(number, sizeof number, "%d", opened());
    const pid_t child = fork();
    if (!child) execl("/proc/self/exe", "calls", "inherited", number, NULL);
    CHECK(!exit_of(child));
}

CASE(passed) {
    int ends[2];
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    const pid_t child = fork();
    char byte = 0;
    struct iovec part = {&byte, 1};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    if (child) {
        const int queue = fault_queue(opened());
        control.header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), &queue, sizeof queue);
        CHECK(sendmsg(ends[0], &message, 0) == 1);
        CHECK(!exit_of(child));
        return;
    }
    CHECK(recvmsg(ends[1], &message, 0) == 1);
    int queue;
    memcpy(&queue, CMSG_DATA(&control.header), sizeof queue);
    char bytes[40];
    CHECK(!read(queue, bytes, sizeof bytes)); /* a FAULT, not a socket without data, which would wait */
    CHECK_FAILS(ESPIPE, read(queue, bytes, 7));
    _exit(0);
}

CASE(close) {
    const int fd = opened(), other = opened();
    const uint32_t id = ioas(fd);
    CHECK(!close_range(3, ~0u, 0)); /* all that the program has, and nothing of the shim's */
    CHECK_FAILS(EBADF, close(other));
    for (int each = 3; each < 1024; ++each) close(each);
    CHECK(ioas(opened()) == id);
}

CASE(memory) {
    const int fd = opened();
    const uint32_t id = ioas(fd), hwpt = domain(fd, id);
    const int access = access_of(fd, id);
    const int file = memfd_create("memory", 0);
    CHECK(!ftruncate(file, 4 * PAGE));
    char* const first = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    char* const again = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, PAGE);
    char* const alone = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(!map(fd, id, first, 4 * PAGE, 0x1010000) && !map(fd, id, alone, 2 * PAGE, 0x1020000));
    CHECK(!maps_to(fd, hwpt, 0x1011000, 2 * PAGE, again)); /* one page, two addresses */
    CHECK(!maps_to(fd, hwpt, 0x1020000, 2 * PAGE, alone));
    CHECK_FAILS(EINVAL, maps_to(fd, hwpt, 0x1020000, PAGE, again));
    strcpy(alone + PAGE, "alone");
    strcpy(again, "again");
    char seen[8];
    CHECK(!moves(fd, access, 0x1021000, seen, 6, 0) && !memcmp(seen, "alone", 6));
    CHECK(!moves(fd, access, 0x1011000, seen, 6, 0) && !memcmp(seen, "again", 6));
    CHECK(!moves(fd, access, 0x1020010, seen, 6, ACCESS_RW_WRITE) && !memcmp(alone + 0x10, "again", 6));
    struct iommu_ioas_map_file mapped = {.size = sizeof mapped,
                                         .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE,
                                         .ioas_id = id,
                                         .fd = file,
                                         .start = PAGE,
                                         .length = PAGE,
                                         .iova = 0x1040000};
    CHECK(!ioctl(fd, IOMMU_IOAS_MAP_FILE, &mapped) && !maps_to(fd, hwpt, 0x1040000, PAGE, again));
    mapped.fd = 12345, mapped.iova = 0x1050000;
    CHECK_FAILS(EBADF, ioctl(fd, IOMMU_IOAS_MAP_FILE, &mapped));
    CHECK_FAILS(EFAULT, map(fd, id, (void*)0x1000, PAGE, 0x1060000)); /* nothing is there */
    CHECK(!munmap(first, 4 * PAGE));                                  /* what is pinned stays */
    CHECK(!maps_to(fd, hwpt, 0x1011000, 2 * PAGE, again));
}

/* Memory of one process, which devices reach: its child has a copy, whoever stores to it. */
CASE(private_memory) {
    const int fd = opened();
    const uint32_t id = ioas(fd), hwpt = domain(fd, id);
    char* const alone = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char* heap;
    CHECK(!posix_memalign((void**)&heap, PAGE, 2 * PAGE));
    strcpy(alone + PAGE, "mapped"), strcpy(alone, "beside"), strcpy(heap, "heap");
    CHECK(!map(fd, id, alone + PAGE, PAGE, 0x1010000) && !map(fd, id, heap, 2 * PAGE, 0x1020000));
    CHECK(!strcmp(alone + PAGE, "mapped") && !strcmp(alone, "beside") && !strcmp(heap, "heap"));
    CHECK(!maps_to(fd, hwpt, 0x1010000, PAGE, alone + PAGE) && !maps_to(fd, hwpt, 0x1020000, 2 * PAGE, heap));
    const pid_t child = fork();
    if (!child) {
        CHECK(!strcmp(alone + PAGE, "mapped") && !strcmp(heap, "heap"));
        strcpy(alone + PAGE, "child's"), strcpy(heap, "child's");
        _exit(0);
    }
    CHECK(!exit_of(child) && !strcmp(alone + PAGE, "mapped") && !strcmp(heap, "heap"));
    CHECK(!maps_to(fd, hwpt, 0x1010000, PAGE, alone + PAGE));
    char seen[8];
    strcpy(heap, "stored");
    CHECK(!moves(fd, access_of(fd, id), 0x1020000, seen, 7, 0) && !strcmp(seen, "stored"));
    free(heap);
}

static uint64_t pinned_kib(void) {
    FILE* const status = fopen("/proc/self/status", "r");
    char line[256];
    uint64_t found = ~0ull;
    while (fgets(line, sizeof line, status))
        if (!strncmp(line, "VmPin:", 6)) found = strtoull(line + 6, NULL, 10);
    fclose(status);
    return found;
}

CASE(proc_status) {
    const int fd = opened();
    const uint32_t id = ioas(fd);
    domain(fd, id);
    CHECK(!pinned_kib());
    CHECK(!map(fd, id, shared_page(), PAGE, 0x1010000));
    CHECK(pinned_kib() == 4);
}

static void* many(void* file) {
    for (int turn = 0; turn < 50; ++turn) CHECK(!destroy(*(int*)file, ioas(*(int*)file)));
    return NULL;
}

CASE(threads) {
    int fd = opened();
    pthread_t threads[4];
    for (int index = 0; index < 4; ++index) CHECK(!pthread_create(&threads[index], NULL, many, &fd));
    for (int index = 0; index < 4; ++index) CHECK(!pthread_join(threads[index], NULL));
    CHECK(ioas(fd) == 1); /* nothing is left */
}

int main(int count, char** arguments) {
    if (count == 3 && !strcmp(arguments[1], "inherited")) {
        CHECK(ioas(atoi(arguments[2])) == 1);
        return 0;
    }
    return run_cases(count, arguments);
}
