/* Processes come about in many ways, with few descriptors too: what the shim keeps in one harms no other. */
#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cases.h"
#include "ioas.h"

extern char** environ;

static int queue_is_empty(int queue) {
    char event[40];
    alarm(5); /* a pipe, not a FAULT, would wait */
    const ssize_t got = read(queue, event, sizeof event);
    alarm(0);
    return !got;
}

static int sockets(void) {
    int count = 0, type;
    for (int fd = 0; fd < 8192; ++fd) {
        socklen_t size = sizeof type;
        count += !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
    }
    return count;
}

static void lower_limit(unsigned most) {
    const struct rlimit low = {most, 4096};
    CHECK(!setrlimit(RLIMIT_NOFILE, &low));
}

CASE(a_child_that_borrows_memory_closes_what_is_its_own) {
    const int fd = opened(), queue = fault_queue(fd);
    const pid_t child = vfork();
    if (!child) {
        close(queue), close(fd), dup2(1, queue);
        _exit(0);
    }
    CHECK(!exit_of(child));
    CHECK(queue_is_empty(queue) && ioas(fd) == 2);
}

CASE(a_child_that_borrows_memory_asks) {
    const int fd = opened();
    const int before = sockets();
    static volatile int failed;
    for (int turn = 0; turn < 3; ++turn) {
        const pid_t child = vfork();
        if (!child) {
            const int other = open(NODE, O_RDWR);
            struct iommu_ioas_alloc alloc = {.size = sizeof alloc};
            failed = other < 0 || ioctl(other, IOMMU_IOAS_ALLOC, &alloc) || alloc.out_ioas_id != 1;
            _exit(0);
        }
        CHECK(!exit_of(child) && !failed);
    }
    CHECK(sockets() == before && ioas(fd) == 1);
}

CASE(a_first_question_may_be_that_of_a_borrower) {
    static volatile int failed;
    const pid_t child = vfork();
    if (!child) {
        failed = open(NODE, O_RDWR) < 0;
        _exit(0);
    }
    CHECK(!exit_of(child) && !failed && ioas(opened()) == 1);
}

static void use_both(int fd, pid_t child) {
    CHECK(child >= 0);
    if (!child) {
        for (int turn = 0; turn < 50; ++turn) CHECK(!destroy(fd, ioas(fd)));
        CHECK(ioas(opened()) == 1);
        _exit(0);
    }
    for (int turn = 0; turn < 50; ++turn) CHECK(!destroy(fd, ioas(fd)));
    CHECK(!exit_of(child));
}

CASE(children_of_which_nobody_tells_have_connections_of_their_own) {
    const int fd = opened();
    CHECK(ioas(fd) == 1);
    use_both(fd, (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
    use_both(fd, _Fork());
#ifdef SYS_fork
    use_both(fd, (pid_t)syscall(SYS_fork));
#endif
}

CASE(memory_is_copied_for_children_of_which_nobody_tells) {
    const int fd = opened();
    const uint32_t id = ioas(fd);
    domain(fd, id);
    char* const page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(!map(fd, id, page, PAGE, 0x1010000));
    for (int way = 0; way < 2; ++way) {
        strcpy(page, "parent's");
        const pid_t child = way ? _Fork() : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        if (!child) _exit(strcmp(page, "parent's") || !strcpy(page, "child's"));
        CHECK(!exit_of(child) && !strcmp(page, "parent's"));
    }
}

CASE(a_program_that_is_spawned_uses_what_it_inherits) {
    char number[16];
    snprintf(number, sizeof number, "%d", opened());
    char name[] = "processes", hidden[] = "inherited";
    char* const words[] = {name, hidden, number, NULL};
    pid_t child;
    CHECK(!posix_spawn(&child, "/proc/self/exe", NULL, NULL, words, environ) && !exit_of(child));
}

CASE(threads_make_children_at_the_same_time) {
    const int fd = opened();
    pthread_t threads[4];
    extern void* make_children(void*);
    for (int index = 0; index < 4; ++index) CHECK(!pthread_create(&threads[index], NULL, make_children, (void*)&fd));
    for (int index = 0; index < 4; ++index) CHECK(!pthread_join(threads[index], NULL));
}
void* make_children(void* file) {
    const int fd = *(const int*)file;
    for (int turn = 0; turn < 8; ++turn) use_both(fd, fork());
    return NULL;
}

static volatile int is_over;
static void* share_and_forget(void* file) {
    const int fd = *(const int*)file;
    const uint32_t id = ioas(fd);
    domain(fd, id);
    while (!is_over) {
        char* const page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        struct iommu_ioas_map mapped = {.size = sizeof mapped,
                                        .flags = IOMMU_IOAS_MAP_READABLE,
                                        .ioas_id = id,
                                        .user_va = (uintptr_t)page,
                                        .length = PAGE};
        CHECK(!ioctl(fd, IOMMU_IOAS_MAP, &mapped) && !munmap(page, PAGE));
    }
    return NULL;
}

CASE(children_are_made_while_memory_is_shared) {
    int fd = opened();
    pthread_t threads[2];
    for (int index = 0; index < 2; ++index) CHECK(!pthread_create(&threads[index], NULL, share_and_forget, &fd));
    for (int turn = 0; turn < 40; ++turn) {
        const pid_t child = fork();
        if (!child) _exit(0);
        CHECK(!exit_of(child));
    }
    is_over = 1;
    for (int index = 0; index < 2; ++index) CHECK(!pthread_join(threads[index], NULL));
}

CASE(all_descriptors_that_are_allowed_are_the_programs) {
    lower_limit(64);
    int fd, highest = 0;
    while ((fd = open(NODE, O_RDWR)) >= 0) highest = fd > highest ? fd : highest;
    CHECK(errno == EMFILE && highest == 63);
    CHECK(ioas(highest) == 1);
    CHECK(!close(highest) && open(NODE, O_RDWR) == highest);
    struct iommu_fault_alloc alloc = {.size = sizeof alloc};
    CHECK_FAILS(EMFILE, ioctl(highest, IOMMU_FAULT_QUEUE_ALLOC, &alloc));
    const uint32_t id = ioas(highest);
    domain(highest, id);
    char* const page = shared_page();
    CHECK(!map(highest, id, page, PAGE, 0x1010000));
}

CASE(a_child_with_few_descriptors_keeps_none_of_its_parents_connections) {
    lower_limit(64);
    const int fd = opened();
    CHECK(ioas(fd) == 1);
    const int before = sockets();
    const pid_t child = fork();
    if (!child) {
        CHECK(sockets() == before - 2); /* this thread's, and the one on which the service asks */
        CHECK(ioas(fd) == 2);
        _exit(0);
    }
    CHECK(!exit_of(child));
}

CASE(a_thread_that_first_asks_when_all_descriptors_are_taken_is_answered) {
    lower_limit(64);
    const int fd = opened();
    while (dup(0) >= 0) continue;
    extern void* ask_once(void*);
    pthread_t thread;
    CHECK(!pthread_create(&thread, NULL, ask_once, (void*)&fd) && !pthread_join(thread, NULL));
}
void* ask_once(void* file) {
    CHECK(ioas(*(const int*)file) == 1);
    return NULL;
}

CASE(many_threads_come_and_go) {
    const int fd = opened(), before = sockets();
    for (int turn = 0; turn < 200; ++turn) {
        pthread_t thread;
        extern void* ask_and_undo(void*);
        CHECK(!pthread_create(&thread, NULL, ask_and_undo, (void*)&fd) && !pthread_join(thread, NULL));
    }
    CHECK(sockets() <= before + 1);
}
void* ask_and_undo(void* file) {
    CHECK(!destroy(*(const int*)file, ioas(*(const int*)file)));
    return NULL;
}

int main(int count, char** arguments) {
    if (count == 3 && !strcmp(arguments[1], "inherited")) return ioas(atoi(arguments[2])) != 1;
    return run_cases(count, arguments);
}
