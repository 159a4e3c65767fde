/* io_uring goes on for what is the kernel's, and is refused for what is the service's: by system calls, and (uring lib)
 * by the functions of liburing, for which another library stands in. */
#define _GNU_SOURCE
#include <linux/io_uring.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "cases.h"
#include "ioas.h"

static struct io_uring_params made;
static char *queue, *done;
static struct io_uring_sqe* entries;

static unsigned* word(char* where, unsigned offset) { return (unsigned*)(where + offset); }

static int ring(void) {
    const int fd = (int)syscall(SYS_io_uring_setup, 8, &made);
    if (fd < 0 && (errno == ENOSYS || errno == EPERM)) exit(77); /* this kernel has none, or not for us */
    CHECK(fd >= 0);
    const int rights = PROT_READ | PROT_WRITE;
    queue = mmap(NULL, made.sq_off.array + made.sq_entries * 4, rights, MAP_SHARED, fd, IORING_OFF_SQ_RING);
    done = mmap(NULL, made.cq_off.cqes + made.cq_entries * sizeof(struct io_uring_cqe), rights, MAP_SHARED, fd,
                IORING_OFF_CQ_RING);
    entries = mmap(NULL, made.sq_entries * sizeof *entries, rights, MAP_SHARED, fd, IORING_OFF_SQES);
    CHECK(queue != MAP_FAILED && done != MAP_FAILED && entries != MAP_FAILED);
    return fd;
}

static void put(struct io_uring_sqe entry) {
    const unsigned tail = *word(queue, made.sq_off.tail), slot = tail & *word(queue, made.sq_off.ring_mask);
    entries[slot] = entry;
    word(queue, made.sq_off.array)[slot] = slot;
    __atomic_store_n(word(queue, made.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
}
static void take_back(void) { --*word(queue, made.sq_off.tail); }

static int submit(int fd, unsigned count) {
    return (int)syscall(SYS_io_uring_enter, fd, count, count, IORING_ENTER_GETEVENTS, NULL, 0);
}

static int result(void) {
    unsigned* const head = word(done, made.cq_off.head);
    CHECK(*head != __atomic_load_n(word(done, made.cq_off.tail), __ATOMIC_ACQUIRE));
    const struct io_uring_cqe* const all = (void*)(done + made.cq_off.cqes);
    return all[(*head)++ & *word(done, made.cq_off.ring_mask)].res;
}

static struct io_uring_sqe on(int operation, int fd, const void* at, unsigned length) {
    return (struct io_uring_sqe){.opcode = (uint8_t)operation, .fd = fd, .addr = (uintptr_t)at, .len = length};
}

CASE(entries_for_files_of_the_kernel_are_done) {
    const int fd = ring(), file = memfd_create("file", 0);
    char seen[8] = {0};
    CHECK(ioas(opened()) == 1);
    put(on(IORING_OP_WRITE, file, "content", 7));
    CHECK(submit(fd, 1) == 1 && result() == 7);
    put(on(IORING_OP_READ, file, seen, 7));
    CHECK(submit(fd, 1) == 1 && result() == 7 && !strcmp(seen, "content"));
    CHECK(!close(fd));
}

CASE(entries_for_files_of_the_service_are_refused) {
    const int fd = ring(), iommu = opened(), events = fault_queue(iommu), file = memfd_create("file", 0);
    char seen[40];
    const struct io_uring_sqe refused[] = {
        on(IORING_OP_READ, events, seen, 40),
        on(IORING_OP_WRITE, iommu, seen, 8),
        on(IORING_OP_URING_CMD, iommu, NULL, 0),
        on(IORING_OP_OPENAT, AT_FDCWD, NODE, 0),
    };
    for (unsigned index = 0; index < sizeof refused / sizeof *refused; ++index) {
        put(on(IORING_OP_WRITE, file, "content", 7));
        put(refused[index]);
        CHECK_FAILS(EOPNOTSUPP, submit(fd, 2));
        take_back();
        CHECK(submit(fd, 1) == 1 && result() == 7); /* nothing was submitted before */
    }
    struct io_uring_sqe polled = on(IORING_OP_POLL_ADD, iommu, NULL, 0);
    polled.poll32_events = POLLIN;
    put(polled);
    CHECK(submit(fd, 1) == 1 && result() & POLLIN);
    put(on(IORING_OP_CLOSE, iommu, NULL, 0));
    CHECK(submit(fd, 1) == 1 && !result());
}

CASE(files_of_the_service_are_not_registered) {
    const int fd = ring(), iommu = opened(), file = memfd_create("file", 0);
    const int both[2] = {file, iommu};
    struct io_uring_rsrc_register all = {.nr = 2, .data = (uintptr_t)both};
    struct io_uring_files_update some = {.fds = (uintptr_t)&both[1]};
    struct io_uring_rsrc_update2 others = {.nr = 1, .data = (uintptr_t)&both[1]};
    CHECK_FAILS(EOPNOTSUPP, syscall(SYS_io_uring_register, fd, IORING_REGISTER_FILES, both, 2));
    CHECK_FAILS(EOPNOTSUPP, syscall(SYS_io_uring_register, fd, IORING_REGISTER_FILES2, &all, sizeof all));
    CHECK(!syscall(SYS_io_uring_register, fd, IORING_REGISTER_FILES, both, 1));
    CHECK_FAILS(EOPNOTSUPP, syscall(SYS_io_uring_register, fd, IORING_REGISTER_FILES_UPDATE, &some, 1));
    CHECK_FAILS(EOPNOTSUPP, syscall(SYS_io_uring_register, fd, IORING_REGISTER_FILES_UPDATE2, &others, sizeof others));
    CHECK_FAILS(EFAULT, syscall(SYS_io_uring_register, fd, IORING_REGISTER_FILES_UPDATE, 8, 1));
    some.fds = (uintptr_t)both;
    CHECK(syscall(SYS_io_uring_register, fd, IORING_REGISTER_FILES_UPDATE, &some, 1) == 1);
}

static void* enter_for_ever(void* fd) {
    for (;;) syscall(SYS_io_uring_enter, (int)(intptr_t)fd, 1, 0, 0, NULL, 0);
    return fd;
}

/* A child that waited would wait with its signals blocked: somebody else has to see it. */
CASE(children_close_files_whoever_looked_through_a_ring_meanwhile) {
    const int fd = ring();
    pthread_t threads[2];
    put(on(IORING_OP_READ, opened(), NULL, 0)); /* whether it is the service's takes a call */
    for (int n = 0; n < 2; ++n) CHECK(!pthread_create(&threads[n], NULL, enter_for_ever, (void*)(intptr_t)fd));
    for (int round = 0; round < 20; ++round) {
        const pid_t child = fork();
        if (!child) _exit(close(dup(fd)));
        int status = -1;
        for (int tenths = 0; tenths < 100 && !waitpid(child, &status, WNOHANG); ++tenths)
            usleep(tenths ? 100000 : 1000);
        if (status == -1) kill(child, SIGKILL);
        CHECK(!status);
    }
}

/* As liburing has it. */
struct io_uring {
    struct {
        unsigned *khead, *ktail, *kring_mask, *kring_entries, *kflags, *kdropped, *array;
        struct io_uring_sqe* sqes;
        unsigned sqe_head, sqe_tail;
    } sq;
};
#define WEAK __attribute__((weak))
WEAK int io_uring_submit(struct io_uring*);
WEAK int io_uring_submit_and_wait(struct io_uring*, unsigned);
WEAK int io_uring_submit_and_wait_timeout(struct io_uring*, void**, unsigned, void*, void*);
WEAK int io_uring_submit_and_get_events(struct io_uring*);
WEAK int io_uring_register_files(struct io_uring*, const int*, unsigned);
WEAK int io_uring_register_files_tags(struct io_uring*, const int*, const uint64_t*, unsigned);
WEAK int io_uring_register_files_update(struct io_uring*, unsigned, const int*, unsigned);
WEAK int io_uring_register_files_update_tag(struct io_uring*, unsigned, const int*, const uint64_t*, unsigned);

static void submit_all_ways(struct io_uring* filled, int expected) {
    CHECK(io_uring_submit(filled) == expected && io_uring_submit_and_wait(filled, 1) == expected);
    CHECK(io_uring_submit_and_wait_timeout(filled, NULL, 1, NULL, NULL) == expected);
    CHECK(io_uring_submit_and_get_events(filled) == expected);
}

static void register_all_ways(const int* files, int expected) {
    CHECK(io_uring_register_files(NULL, files, 2) == expected);
    CHECK(io_uring_register_files_tags(NULL, files, NULL, 2) == expected);
    CHECK(io_uring_register_files_update(NULL, 0, files, 2) == expected);
    CHECK(io_uring_register_files_update_tag(NULL, 0, files, NULL, 2) == expected);
}

/* The library answers 7. */
CASE(liburing_is_asked_about_files_of_the_kernel_alone) {
    const int iommu = opened(), file = memfd_create("file", 0), files[] = {file, file}, others[] = {file, iommu};
    unsigned mask = 3;
    struct io_uring_sqe room[4] = {on(IORING_OP_READ, iommu, NULL, 0), {0}, {0}, on(IORING_OP_READ, file, NULL, 0)};
    struct io_uring filled = {{.kring_mask = &mask, .sqes = room, .sqe_head = 7, .sqe_tail = 8}};
    submit_all_ways(&filled, 7);
    filled.sq.sqe_tail = 9;
    submit_all_ways(&filled, -EOPNOTSUPP);
    register_all_ways(files, 7);
    register_all_ways(others, -EOPNOTSUPP);
}

int main(int count, char** arguments) { return run_cases(count, arguments); }
