/* Loads and stores of mapped registers, by whatever instructions and threads: registers BDF. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

#include "edu.h"

#define FROM 0x80 /* registers of 64 bits that keep what is stored */
#define TO 0x88
#define TURNS 150
#define IDENTITY 0
#define LIVENESS 4 /* answers with the complement */

static struct edu edu;
static volatile int ended;

static void* store_again_and_again(void* at) {
    volatile uint64_t* const reg = (volatile uint64_t*)(edu.mapped + (uintptr_t)at);
    for (uint64_t value = 1; value <= TURNS; ++value) {
        *reg = value * 0x100000001;
        CHECK(*reg == value * 0x100000001);
    }
    return NULL;
}

static void* load_again_and_again(void* at) {
    for (int turn = 0; turn < TURNS; ++turn) CHECK(*(volatile uint32_t*)(edu.mapped + (uintptr_t)at) == 0x010000ed);
    return NULL;
}

static void threads_lose_nothing(void) {
    pthread_t threads[8];
    for (int index = 0; index < 8; ++index) {
        void* (*const act)(void*) = index < 2 ? store_again_and_again : load_again_and_again;
        void* const at = (void*)(uintptr_t)(index == 0 ? FROM : index == 1 ? TO : IDENTITY);
        CHECK(!pthread_create(&threads[index], NULL, act, at));
    }
    for (int index = 0; index < 8; ++index) CHECK(!pthread_join(threads[index], NULL));
}

static void registers_keep_their_values(void) {
    volatile uint32_t* const liveness = (volatile uint32_t*)(edu.mapped + LIVENESS);
    volatile uint64_t* const from = (volatile uint64_t*)(edu.mapped + FROM);
    *liveness = 5;
    CHECK(*liveness == ~5u);
    *from = 0x1122334455667788;
    *from |= 0xff; /* loads, changes and stores */
    CHECK(*from == 0x11223344556677ff);
    *from += 1;
    CHECK(*from == 0x1122334455667800);
#if defined(__x86_64__)
    uint64_t swapped = 9, base = (uintptr_t)from, value;
    __asm__ volatile("xchgq %0, (%1)" : "+r"(swapped) : "r"(from) : "memory");
    CHECK(swapped == 0x1122334455667800 && *from == 9);
    __asm__ volatile("movq (%0), %0" : "+r"(base) : : "memory"); /* the base is what is loaded */
    CHECK(base == 9);
    base = (uintptr_t)from;
    __asm__ volatile("movq %0, (%0)" : "+r"(base) : : "memory"); /* the base is what is stored */
    CHECK(base == (uintptr_t)from && *from == (uintptr_t)from);
    base = (uintptr_t)from - 0x80;
    __asm__ volatile("movq $7, 0x80(%0)\n\tmovq 0x80(%0), %1" : "+r"(base), "=r"(value) : : "memory");
    CHECK(base == (uintptr_t)from - 0x80 && value == 7);
    __asm__ volatile("movq %1, (,%0,8)" : : "r"((uintptr_t)from / 8), "r"(value + 1) : "memory"); /* no base */
    CHECK(*from == 8);
    volatile uint64_t* at = from;
    __asm__ volatile("movl $1, %%ecx\n\trep stosq" : "+D"(at) : "a"(11ull) : "rcx", "memory");
    CHECK(at == from + 1 && *from == 11);
    uint64_t room = 0, *into = &room;
    at = from;
    __asm__ volatile("movl $1, %%ecx\n\trep movsq" : "+S"(at), "+D"(into) : : "rcx", "memory");
    CHECK(room == 11 && at == from + 1 && into == &room + 1);
    __asm__ volatile("lock cmpxchgq %2, (%1)" : "=a"(value) : "r"(from), "r"(12ull), "a"(11ull) : "memory");
    CHECK(value == 11 && *from == 12);
    __asm__ volatile("movq %1, %%xmm0\n\tmovq %%xmm0, (%0)" : : "r"(from), "r"(13ull) : "xmm0", "memory");
    CHECK(*from == 13);
#endif
}

#if defined(__x86_64__)
static char* hole;

static void on_fault(int signal, siginfo_t* info, void* context) {
    (void)signal, (void)context;
    CHECK((char*)info->si_addr == hole);
    CHECK(!mprotect(hole, EDU_PAGE, PROT_READ | PROT_WRITE)); /* now it may try again */
}

static void faults_of_other_memory_are_the_programs(void) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    CHECK(!sigaction(SIGSEGV, &action, NULL));
    hole = mmap(NULL, EDU_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(hole != MAP_FAILED);
    const volatile char *const from = edu.mapped + FROM, *at = from;
    char* into = hole;
    *(volatile uint64_t*)(edu.mapped + FROM) = 21;
    __asm__ volatile("movsq" : "+S"(at), "+D"(into) : : "memory");
    CHECK(at == from + 8 && into == hole + 8 && *(uint64_t*)hole == 21);
    CHECK(*(volatile uint64_t*)from == 21);
}
#else
static void faults_of_other_memory_are_the_programs(void) {}
#endif

static void on_alarm(int signal) {
    (void)signal;
    ++ended;
    *(volatile uint64_t*)(edu.mapped + TO) = 77; /* in the middle of the others */
}

static void signals_meet_no_register_in_the_middle(void) {
    struct sigaction action = {.sa_handler = on_alarm};
    const struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    CHECK(!sigaction(SIGALRM, &action, NULL));
    CHECK(!setitimer(ITIMER_REAL, &often, NULL));
    for (uint64_t value = 1; value <= 300 || ended < 20; ++value) {
        *(volatile uint64_t*)(edu.mapped + FROM) = value;
        CHECK(*(volatile uint64_t*)(edu.mapped + FROM) == value);
    }
    CHECK(!setitimer(ITIMER_REAL, &never, NULL));
    CHECK(*(volatile uint64_t*)(edu.mapped + TO) == 77);
}

int main(int count, char** arguments) {
    CHECK(count == 2);
    const int iommu = open("/dev/iommu", O_RDWR);
    CHECK(iommu >= 0);
    edu = edu_bound(arguments[1], iommu);
    edu_map(&edu);
    registers_keep_their_values();
    threads_lose_nothing();
    signals_meet_no_register_in_the_middle();
    faults_of_other_memory_are_the_programs();
    return 0;
}
