/* The signals that the shim needs for itself do what the program wants, as without it. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>

#include "cases.h"
#include "ioas.h"

static int fd;
static uint32_t id;
static uint64_t iova = 0x1010000;

/* From then on faults are caught. */
static void* pinned_page(void) {
    if (!id) {
        id = ioas(fd = opened());
        domain(fd, id);
    }
    char* const page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED && !map(fd, id, page, PAGE, iova));
    iova += PAGE;
    return page;
}

static volatile int is_over;
static void* store(void* page) {
    while (!is_over) ++*(volatile long*)page;
    return NULL;
}

/* Whether a store to memory that is being shared still waits. */
static void stores_wait(void) {
    for (int turn = 0; turn < 30; ++turn) {
        char* const page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        pthread_t thread;
        is_over = 0;
        CHECK(!pthread_create(&thread, NULL, store, page));
        while (!*(volatile long*)page) sched_yield();
        CHECK(!map(fd, id, page, PAGE, iova));
        iova += PAGE;
        is_over = 1;
        CHECK(!pthread_join(thread, NULL));
    }
}

static int killed_by(pid_t child) {
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static volatile int taken;
static sigjmp_buf back;
static void take(int number) { taken = number; }
static void take_info(int number, siginfo_t* info, void* context) {
    CHECK(number == SIGSEGV && info->si_addr == (void*)8 && context);
    taken = number;
    siglongjmp(back, 1);
}

#define ENDED_BY(what)                                                                                                 \
    ({                                                                                                                 \
        const pid_t child = fork();                                                                                    \
        if (!child) {                                                                                                  \
            pinned_page();                                                                                             \
            what;                                                                                                      \
            _exit(0);                                                                                                  \
        }                                                                                                              \
        killed_by(child);                                                                                              \
    })

CASE(what_nobody_takes_ends_the_program) {
    CHECK(ENDED_BY(raise(SIGTRAP)) == SIGTRAP);
    CHECK(ENDED_BY(raise(SIGSEGV)) == SIGSEGV);
    CHECK(ENDED_BY(kill(getpid(), SIGSEGV)) == SIGSEGV);
    CHECK(ENDED_BY(*(volatile int*)8 = 1) == SIGSEGV);
#if defined(__x86_64__)
    CHECK(ENDED_BY(__asm__ volatile("int3")) == SIGTRAP);
#endif
}

CASE(what_is_ignored_is_ignored_when_sent_alone) {
    pinned_page();
    CHECK(signal(SIGSEGV, SIG_IGN) == SIG_DFL && signal(SIGTRAP, SIG_IGN) == SIG_DFL);
    CHECK(!raise(SIGSEGV) && !raise(SIGTRAP));
    stores_wait();
    CHECK(signal(SIGSEGV, SIG_DFL) == SIG_IGN);
    CHECK(ENDED_BY(signal(SIGSEGV, SIG_IGN); *(volatile int*)8 = 1) == SIGSEGV);
}

CASE(handlers_get_what_is_theirs) {
    pinned_page();
    struct sigaction action = {.sa_sigaction = take_info, .sa_flags = SA_SIGINFO}, before;
    CHECK(!sigaction(SIGSEGV, &action, NULL));
    if (!sigsetjmp(back, 1)) *(volatile int*)8 = 1;
    CHECK(taken == SIGSEGV);
    stores_wait();
    CHECK(!sigaction(SIGSEGV, NULL, &before) && before.sa_sigaction == take_info);
    CHECK(signal(SIGTRAP, take) == SIG_DFL && !raise(SIGTRAP) && taken == SIGTRAP);
    taken = 0;
    CHECK(!raise(SIGTRAP) && taken == SIGTRAP && signal(SIGTRAP, SIG_DFL) == take);
}

CASE(a_handler_for_one_signal_is_gone_after_it) {
    struct sigaction action = {.sa_handler = take, .sa_flags = SA_RESETHAND};
    CHECK(ENDED_BY(CHECK(!sigaction(SIGTRAP, &action, NULL)); CHECK(!raise(SIGTRAP) && taken == SIGTRAP);
                   raise(SIGTRAP)) == SIGTRAP);
}

static void look_at_mask(int number) {
    sigset_t blocked;
    CHECK(!pthread_sigmask(SIG_SETMASK, NULL, &blocked));
    CHECK(sigismember(&blocked, SIGUSR1) == 1 && sigismember(&blocked, SIGUSR2) == 0 && sigismember(&blocked, number));
    taken = number;
}

CASE(handlers_run_with_the_signals_blocked_that_they_named) {
    pinned_page();
    struct sigaction action = {.sa_handler = look_at_mask};
    sigaddset(&action.sa_mask, SIGUSR1);
    CHECK(!sigaction(SIGTRAP, &action, NULL) && !raise(SIGTRAP) && taken == SIGTRAP);
}

static void* store_unheard(void* page) {
    sigset_t all;
    sigfillset(&all);
    CHECK(!pthread_sigmask(SIG_BLOCK, &all, NULL) && !sigprocmask(SIG_SETMASK, &all, NULL));
    return store(page);
}

CASE(a_thread_that_blocks_all_signals_waits_too) {
    pinned_page();
    for (int turn = 0; turn < 30; ++turn) {
        char* const page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        pthread_t thread;
        is_over = 0;
        CHECK(!pthread_create(&thread, NULL, store_unheard, page));
        while (!*(volatile long*)page) sched_yield();
        CHECK(!map(fd, id, page, PAGE, iova));
        iova += PAGE;
        is_over = 1;
        CHECK(!pthread_join(thread, NULL));
    }
}

int main(int count, char** arguments) { return run_cases(count, arguments); }
