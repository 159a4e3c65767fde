/* One call has many names: 64-bit ones, those of fortified programs, those of programs built long ago, and the number
 * of the system call itself. */
#define _GNU_SOURCE
#include <limits.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "cases.h"
#include "ioas.h"

int __open_2(const char*, int);
int __open64_2(const char*, int);
int __openat_2(int, const char*, int);
int __openat64_2(int, const char*, int);
ssize_t __read_chk(int, void*, size_t, size_t);
ssize_t __pread_chk(int, void*, size_t, off_t, size_t);
ssize_t __pread64_chk(int, void*, size_t, off64_t, size_t);
int __poll_chk(struct pollfd*, nfds_t, int, size_t);
int __ppoll_chk(struct pollfd*, nfds_t, const struct timespec*, const sigset_t*, size_t);
int __xstat(int, const char*, struct stat*);
int __xstat64(int, const char*, struct stat64*);
int __lxstat(int, const char*, struct stat*);
int __lxstat64(int, const char*, struct stat64*);
int __fxstat(int, int, struct stat*);
int __fxstat64(int, int, struct stat64*);
int __fxstatat(int, int, const char*, struct stat*, int);
int __fxstatat64(int, int, const char*, struct stat64*, int);
/* The C library has those of long ago for programs of then alone: what this one calls is found when it is started. */
#pragma weak __xstat
#pragma weak __xstat64
#pragma weak __lxstat
#pragma weak __lxstat64
#pragma weak __fxstat
#pragma weak __fxstat64
#pragma weak __fxstatat
#pragma weak __fxstatat64

static void is_iommu(int fd) {
    CHECK(fd >= 0);
    CHECK(ioas(fd) == 1);
    CHECK(!close(fd));
}

CASE(opening) {
    is_iommu(__open_2(NODE, O_RDWR));
    is_iommu(__open64_2(NODE, O_RDWR));
    is_iommu(__openat_2(AT_FDCWD, NODE, O_RDWR));
    is_iommu(__openat64_2(AT_FDCWD, NODE, O_RDWR));
    is_iommu(creat(NODE, 0600));
    is_iommu(creat64(NODE, 0600));
    FILE* const stream = fopen64(NODE, "r+e");
    CHECK(stream && ioas(fileno(stream)) == 1 && fcntl(fileno(stream), F_GETFD) & FD_CLOEXEC && !fclose(stream));
    CHECK_FAILS(ENOENT, __open_2("/dev/iommu-of-nobody", O_RDWR));
    CHECK_FAILS(ENOENT, __open64_2("/dev/iommu-of-nobody", O_RDWR));
    CHECK_FAILS(ENOENT, __openat_2(AT_FDCWD, "/dev/iommu-of-nobody", O_RDWR));
    CHECK_FAILS(ENOENT, __openat64_2(AT_FDCWD, "/dev/iommu-of-nobody", O_RDWR));
    CHECK(!fopen("/dev/iommu-of-nobody", "r") && !fopen64("/dev/iommu-of-nobody", "r"));
}

CASE(asking) {
    struct stat64 status64;
    const int fd = opened();
    CHECK(!euidaccess(NODE, R_OK | W_OK) && !eaccess(NODE, R_OK));
    CHECK_FAILS(EACCES, euidaccess(NODE, X_OK));
    CHECK_FAILS(ENOENT, eaccess("/dev/iommu-of-nobody", R_OK));
    CHECK(!stat64(NODE, &status64) && S_ISCHR(status64.st_mode));
    CHECK(!lstat64(NODE, &status64) && S_ISCHR(status64.st_mode));
    CHECK(!fstat64(fd, &status64) && S_ISCHR(status64.st_mode));
    CHECK(!fstatat64(AT_FDCWD, NODE, &status64, 0) && S_ISCHR(status64.st_mode));
    CHECK_FAILS(ENOENT, stat64("/dev/iommu-of-nobody", &status64));
}

CASE(asking_as_long_ago) {
    struct stat status;
    struct stat64 status64;
    const int fd = opened();
    CHECK(__xstat && __xstat64 && __lxstat && __lxstat64 && __fxstat && __fxstat64 && __fxstatat && __fxstatat64);
    CHECK(!__xstat(1, NODE, &status) && S_ISCHR(status.st_mode));
    CHECK(!__xstat64(1, NODE, &status64) && S_ISCHR(status64.st_mode));
    CHECK(!__lxstat(1, NODE, &status) && S_ISCHR(status.st_mode));
    CHECK(!__lxstat64(1, NODE, &status64) && S_ISCHR(status64.st_mode));
    CHECK(!__fxstat(1, fd, &status) && S_ISCHR(status.st_mode));
    CHECK(!__fxstat64(1, fd, &status64) && S_ISCHR(status64.st_mode));
    CHECK(!__fxstatat(1, AT_FDCWD, NODE, &status, 0) && S_ISCHR(status.st_mode));
    CHECK(!__fxstatat64(1, AT_FDCWD, NODE, &status64, 0) && S_ISCHR(status64.st_mode));
    CHECK_FAILS(ENOENT, __xstat(1, "/dev/iommu-of-nobody", &status));
}

CASE(reading) {
    const int fd = opened(), queue = fault_queue(fd);
    char bytes[64];
    struct iovec pieces[2] = {{bytes, 40}, {bytes + 40, 8}};
    CHECK(!__read_chk(queue, bytes, 40, sizeof bytes));
    CHECK_FAILS(ESPIPE, __read_chk(queue, bytes, 7, sizeof bytes));
    CHECK_FAILS(ESPIPE, pread64(queue, bytes, 40, 8));
    CHECK_FAILS(ESPIPE, __pread_chk(queue, bytes, 40, 8, sizeof bytes));
    CHECK_FAILS(ESPIPE, __pread64_chk(queue, bytes, 40, 8, sizeof bytes));
    CHECK_FAILS(ESPIPE, preadv(queue, pieces, 2, 8));
    CHECK_FAILS(ESPIPE, preadv64(queue, pieces, 2, 8));
    CHECK_FAILS(ESPIPE, preadv2(queue, pieces, 2, 8, 0));
    CHECK_FAILS(ESPIPE, preadv64v2(queue, pieces, 2, 8, 0));
    CHECK(!preadv2(queue, pieces, 1, -1, 0)); /* where it stands */
    for (volatile int count = -1; count <= IOV_MAX + 1; count += IOV_MAX + 2)
        CHECK_FAILS(EINVAL, readv(queue, pieces, count));
    CHECK(!readv(queue, pieces, 0));
}

CASE(writing) {
    const int fd = opened();
    char bytes[64] = {0};
    struct iovec pieces[2] = {{bytes, 40}, {bytes + 40, 8}};
    CHECK_FAILS(EINVAL, pwrite(fd, bytes, 8, 8));
    CHECK_FAILS(EINVAL, pwrite64(fd, bytes, 8, 8));
    CHECK_FAILS(EINVAL, pwritev(fd, pieces, 2, 8));
    CHECK_FAILS(EINVAL, pwritev64(fd, pieces, 2, 8));
    CHECK_FAILS(EINVAL, pwritev2(fd, pieces, 2, 8, 0));
    CHECK_FAILS(EINVAL, pwritev64v2(fd, pieces, 2, 8, 0));
}

/* What is nobody's but the kernel's goes on as it was. */
CASE(files_of_the_kernel) {
    const int file = memfd_create("file", 0);
    char bytes[16] = {0};
    struct iovec pieces[2] = {{"two ", 4}, {"pieces", 6}}, into[2] = {{bytes, 2}, {bytes + 2, 8}};
    CHECK(pwritev(file, pieces, 2, 2) == 10 && preadv(file, into, 2, 2) == 10 && !strcmp(bytes, "two pieces"));
    CHECK(pwritev64(file, pieces, 2, 0) == 10 && preadv64(file, into, 2, 0) == 10 && !strcmp(bytes, "two pieces"));
    CHECK(pwritev2(file, pieces, 2, 1, 0) == 10 && preadv2(file, into, 2, 1, 0) == 10 && !strcmp(bytes, "two pieces"));
    CHECK(pwritev64v2(file, pieces, 1, 9, 0) == 4 && preadv64v2(file, into, 1, 9, 0) == 2 && bytes[0] == 't');
    CHECK(pwrite64(file, "64", 2, 0) == 2 && pread64(file, bytes, 2, 0) == 2 && bytes[1] == '4');
    CHECK(pwrite(file, "x", 1, 0) == 1 && __pread_chk(file, bytes, 1, 0, 16) == 1 && *bytes == 'x');
    CHECK(__pread64_chk(file, bytes, 1, 0, 16) == 1 && __read_chk(file, bytes, 1, 16) == 1 && *bytes == 'x');
    CHECK(fcntl64(file, F_GETFD) == 0 && !fcntl64(file, F_SETFD, FD_CLOEXEC) && fcntl64(file, F_GETFD) == FD_CLOEXEC);
    struct stat status;
    CHECK(!fstat(file, &status) && S_ISREG(status.st_mode));
}

CASE(waiting) {
    const int fd = opened(), queue = fault_queue(fd);
    struct pollfd polled[2] = {{fd, POLLIN | POLLOUT, 0}, {queue, POLLIN | POLLOUT, 0}};
    const struct timespec at_once = {0, 0};
    CHECK(__poll_chk(polled, 2, 0, sizeof polled) == 2 && polled[1].revents == POLLOUT);
    CHECK(ppoll(polled, 2, &at_once, NULL) == 2 && polled[1].revents == POLLOUT);
    CHECK(__ppoll_chk(polled, 2, &at_once, NULL, sizeof polled) == 2 && polled[0].revents == (POLLIN | POLLOUT));
    fd_set in, out;
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_SET(fd, &in), FD_SET(queue, &in), FD_SET(fd, &out), FD_SET(queue, &out);
    struct timeval no_time = {0, 0};
    CHECK(select(queue + 1, &in, &out, NULL, &no_time) == 3 && !FD_ISSET(queue, &in) && FD_ISSET(queue, &out));
    FD_SET(queue, &in);
    CHECK(pselect(queue + 1, &in, NULL, NULL, &at_once, NULL) == 1 && !FD_ISSET(queue, &in));
    const int set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN}, two[2];
    CHECK(!epoll_ctl(set, EPOLL_CTL_ADD, queue, &event) && !epoll_pwait(set, two, 2, 0, NULL));
    CHECK(!epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) && epoll_wait(set, two, 2, 0) == 1);
}

CASE(copies_and_closing) {
    const int fd = opened();
    const int copy = fcntl64(fd, F_DUPFD_CLOEXEC, 100);
    CHECK(copy >= 100 && ioas(copy) == 1);
    CHECK_FAILS(EBADF, dup3(fd, -1, 0));
    CHECK_FAILS(EINVAL, dup3(fd, fd, 0));
    CHECK(!close_range((unsigned)fd, (unsigned)fd, 0));
    CHECK_FAILS(EBADF, fcntl(fd, F_GETFD));
    CHECK(ioas(copy) == 2 && !close_range((unsigned)copy, (unsigned)copy, CLOSE_RANGE_CLOEXEC) && ioas(copy) == 3);
    CHECK_FAILS(EINVAL, close_range(9, 8, 0));
    closefrom(3);
    CHECK_FAILS(EBADF, fcntl(copy, F_GETFD));
    CHECK(ioas(opened()) == 1);
}

static int passed(int ends[2], int fd) {
    char byte = 0, room[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
    struct iovec part = {&byte, 1};
    struct mmsghdr message = {
        .msg_hdr = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room}};
    struct cmsghdr* const header = CMSG_FIRSTHDR(&message.msg_hdr);
    *header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    CHECK(sendmmsg(ends[0], &message, 1, 0) == 1);
    memset(room, 0, sizeof room);
    message.msg_hdr.msg_controllen = sizeof room;
    CHECK(recvmmsg(ends[1], &message, 1, 0, NULL) == 1);
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message.msg_hdr)), sizeof fd);
    return fd;
}

CASE(receiving_many_messages) {
    int ends[2];
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    const int queue = fault_queue(opened()), got = passed(ends, queue);
    char event[40];
    CHECK(!close(queue) && !read(got, event, sizeof event));
    CHECK_FAILS(ESPIPE, read(got, event, 7));
}

CASE(mapping) {
    char* const page = mmap64(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED && !pkey_mprotect(page, PAGE, PROT_READ, -1) &&
          !mprotect(page, PAGE, PROT_READ | PROT_WRITE));
    CHECK(!madvise(page, 2 * PAGE, MADV_WILLNEED) && mremap(page, 2 * PAGE, PAGE, 0) == page && !munmap(page, PAGE));
    CHECK(mmap64(NULL, PAGE, PROT_READ, MAP_SHARED, opened(), 0) == MAP_FAILED && errno == ENXIO);
    CHECK(mmap(NULL, 0, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EINVAL);
    CHECK_FAILS(EINVAL, munmap(page + 1, PAGE));
}

CASE(by_number) {
    struct open_how how = {.flags = O_RDWR};
    is_iommu((int)syscall(SYS_openat, AT_FDCWD, NODE, O_RDWR));
    is_iommu((int)syscall(SYS_openat2, AT_FDCWD, NODE, &how, sizeof how));
#ifdef SYS_open
    is_iommu((int)syscall(SYS_open, NODE, O_RDWR));
    is_iommu((int)syscall(SYS_creat, NODE, 0600));
#endif
    CHECK_FAILS(ENOENT, syscall(SYS_openat2, AT_FDCWD, "/dev/iommu-of-nobody", &how, sizeof how));
    CHECK_FAILS(EINVAL, syscall(SYS_openat2, AT_FDCWD, NODE, &how, 8));
    CHECK_FAILS(ENOSYS, syscall(100000));
    CHECK(syscall(SYS_getpid) == getpid());
}

CASE(files_by_number) {
    const int fd = opened(), queue = fault_queue(fd);
    struct iommu_ioas_alloc alloc = {.size = sizeof alloc};
    CHECK(!syscall(SYS_ioctl, fd, IOMMU_IOAS_ALLOC, &alloc) && alloc.out_ioas_id == 2);
    char event[40];
    struct iovec piece = {event, 40};
    CHECK(!syscall(SYS_read, queue, event, 40) && !syscall(SYS_readv, queue, &piece, 1));
    CHECK_FAILS(ESPIPE, syscall(SYS_pread64, queue, event, 40, 8));
    CHECK_FAILS(ESPIPE, syscall(SYS_preadv, queue, &piece, 1, 8, 0));
    CHECK_FAILS(ESPIPE, syscall(SYS_preadv2, queue, &piece, 1, 8, 0, 0));
    CHECK_FAILS(EINVAL, syscall(SYS_write, fd, event, 8));
    CHECK_FAILS(EINVAL, syscall(SYS_pwrite64, fd, event, 8, 0));
    CHECK_FAILS(EINVAL, syscall(SYS_writev, fd, &piece, 1));
    CHECK_FAILS(EINVAL, syscall(SYS_pwritev, fd, &piece, 1, 0, 0));
    CHECK_FAILS(EINVAL, syscall(SYS_pwritev2, fd, &piece, 1, 0, 0, 0));
    const int copies[] = {(int)syscall(SYS_dup, queue), (int)syscall(SYS_dup3, queue, 150, O_CLOEXEC),
                          (int)syscall(SYS_fcntl, queue, F_DUPFD, 160)};
    for (int index = 0; index < 3; ++index) CHECK(copies[index] >= 0 && !syscall(SYS_read, copies[index], event, 40));
    CHECK(!syscall(SYS_close, copies[0]) && !syscall(SYS_close_range, 150, 160, 0));
    CHECK_FAILS(EBADF, syscall(SYS_read, copies[1], event, 40));
    struct stat status;
    struct statx extended;
    char link[64], target[64] = {0};
    CHECK(!syscall(SYS_fstat, fd, &status) && S_ISCHR(status.st_mode));
    CHECK(!syscall(SYS_newfstatat, AT_FDCWD, NODE, &status, 0) && S_ISCHR(status.st_mode));
    CHECK(!syscall(SYS_statx, AT_FDCWD, NODE, 0, STATX_TYPE, &extended) && S_ISCHR(extended.stx_mode));
    CHECK(!syscall(SYS_faccessat, AT_FDCWD, NODE, R_OK) && !syscall(SYS_faccessat2, AT_FDCWD, NODE, R_OK, 0));
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    CHECK(syscall(SYS_readlinkat, AT_FDCWD, link, target, sizeof target) == 10 && !strcmp(target, NODE));
    CHECK(!syscall(SYS_chdir, "/dev/vfio") && syscall(SYS_getcwd, target, sizeof target) == 10);
    CHECK(!strcmp(target, "/dev/vfio"));
#ifdef SYS_stat
    CHECK(!syscall(SYS_stat, NODE, &status) && !syscall(SYS_lstat, NODE, &status) && S_ISCHR(status.st_mode));
    CHECK(!syscall(SYS_access, NODE, R_OK) && syscall(SYS_readlink, link, target, sizeof target) == 10);
    CHECK(syscall(SYS_dup2, queue, 170) == 170 && !syscall(SYS_read, 170, event, 40));
#endif
}

CASE(memory_by_number) {
    const int fd = opened();
    const uint32_t id = ioas(fd), hwpt = domain(fd, id);
    char* const memory =
        (char*)syscall(SYS_mmap, NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED && !map(fd, id, memory, 2 * PAGE, 0x1010000));
    CHECK(!maps_to(fd, hwpt, 0x1010000, 2 * PAGE, memory));
    CHECK(syscall(SYS_mmap, NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0) == -1 && errno == ENXIO);
    CHECK(!syscall(SYS_mprotect, memory, PAGE, PROT_READ) && !syscall(SYS_madvise, memory, PAGE, MADV_WILLNEED));
    CHECK(!syscall(SYS_pkey_mprotect, memory, PAGE, PROT_READ | PROT_WRITE, -1));
    CHECK(syscall(SYS_mremap, memory, 2 * PAGE, PAGE, 0, NULL) == (long)memory && !syscall(SYS_munmap, memory, PAGE));
    char* const alone =
        (char*)syscall(SYS_mmap, NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *alone = 'x';
    CHECK(!map(fd, id, alone, PAGE, 0x1020000) && !syscall(SYS_madvise, alone, PAGE, MADV_DONTNEED) && !*alone);
}

CASE(messages_by_number) {
    int ends[2];
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    const int queue = fault_queue(opened());
    char byte = 0, event[40], room[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = {0};
    struct iovec part = {&byte, 1};
    struct mmsghdr message = {
        .msg_hdr = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room}};
    for (int way = 0; way < 2; ++way) {
        struct cmsghdr* const header = (struct cmsghdr*)room;
        *header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(header), &queue, sizeof queue);
        message.msg_hdr.msg_controllen = sizeof room;
        CHECK(sendmsg(ends[0], &message.msg_hdr, 0) == 1);
        message.msg_hdr.msg_controllen = sizeof room;
        if (way)
            CHECK(syscall(SYS_recvmsg, ends[1], &message.msg_hdr, 0) == 1);
        else
            CHECK(syscall(SYS_recvmmsg, ends[1], &message, 1, 0, NULL) == 1);
        int got;
        memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&message.msg_hdr)), sizeof got);
        CHECK(!read(got, event, sizeof event));
    }
}

CASE(signals_by_number) {
    const uint64_t all = ~0ull;
    uint64_t blocked = 0;
    CHECK(!syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, NULL, 8));
    CHECK(!syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &blocked, 8));
    CHECK(blocked & 1ull << (SIGUSR1 - 1) && !(blocked & 1ull << (SIGSEGV - 1))); /* which could not wait */
}

int main(int count, char** arguments) { return run_cases(count, arguments); }
