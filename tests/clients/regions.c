/* What a program does with the addresses at which registers are mapped, beside loads and stores: regions BDF. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "edu.h"

#define PAGE EDU_PAGE
#define IDENTITY 0x010000edu

static struct edu edu;
static volatile int is_over;

static uint32_t load(volatile char* at) { return *(volatile uint32_t*)at; }

static int faults(volatile char* at) {
    const pid_t child = fork();
    if (!child) load(at), _exit(0);
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

static void parts_are_unmapped_alone(void) {
    CHECK(!munmap((char*)edu.mapped + 16 * PAGE, 16 * PAGE));
    CHECK(faults(edu.mapped + 16 * PAGE) && faults(edu.mapped + 31 * PAGE));
    CHECK(!faults(edu.mapped + 15 * PAGE) && !faults(edu.mapped + 32 * PAGE));
    CHECK(load(edu.mapped) == IDENTITY);
    CHECK(munmap((char*)edu.mapped + 1, PAGE) == -1 && load(edu.mapped) == IDENTITY);
}

static void other_memory_takes_their_place(void) {
    char* const place = (char*)edu.mapped + 4 * PAGE;
    CHECK(mmap(place, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == place);
    memset(place, 'm', PAGE);
    CHECK(place[0] == 'm' && place[PAGE - 1] == 'm' && load(edu.mapped) == IDENTITY);
    CHECK(mmap(place, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, edu.fd, (off_t)edu.bar) == place);
    CHECK(load(place) == IDENTITY); /* and they its, once more */
    CHECK(mmap(place, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, edu.fd, (off_t)edu.bar + EDU_BAR) == MAP_FAILED);
}

static void rights_change_beside_them(void) {
    char* const room = mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mmap(room + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, edu.fd, (off_t)edu.bar) ==
          room + PAGE);
    CHECK(!mprotect(room, 3 * PAGE, PROT_READ | PROT_WRITE));
    room[0] = room[3 * PAGE - 1] = 'm';
    CHECK(load(room + PAGE) == IDENTITY);
    *(volatile uint32_t*)(room + PAGE + 4) = 5;
    CHECK(load(room + PAGE + 4) == ~5u);
    CHECK(!munmap(room, 3 * PAGE));
}

static void they_move(void) {
    char* const room = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char* const some = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, edu.fd, (off_t)edu.bar);
    CHECK(mremap(some, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room) == room);
    CHECK(load(room) == IDENTITY && faults(some) && !faults(some + PAGE));
    CHECK(mremap(room, PAGE, 2 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT);
    CHECK(load(room) == IDENTITY && !munmap(room, PAGE) && !munmap(some + PAGE, PAGE));
}

static void* load_until_the_end(void* unused) {
    while (!is_over) CHECK(load(edu.mapped) == IDENTITY);
    return unused;
}

static void children_have_them_too(void) {
    pthread_t threads[2];
    for (int index = 0; index < 2; ++index) CHECK(!pthread_create(&threads[index], NULL, load_until_the_end, NULL));
    for (int turn = 0; turn < 20; ++turn) {
        const pid_t child = fork();
        if (!child) {
            char* const own = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, edu.fd, (off_t)edu.bar);
            _exit(load(edu.mapped) != IDENTITY || load(own) != IDENTITY || munmap(own, PAGE));
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && !WEXITSTATUS(status));
    }
    is_over = 1;
    for (int index = 0; index < 2; ++index) CHECK(!pthread_join(threads[index], NULL));
}

static void nothing_is_left_of_them(void) {
    char* const place = (char*)edu.mapped;
    CHECK(!munmap(place, EDU_BAR) && faults(place));
    CHECK(mmap(place, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == place);
    memset(place, 'm', PAGE);
    CHECK(place[0] == 'm' && !munmap(place, PAGE));
}

int main(int count, char** arguments) {
    CHECK(count == 2);
    edu = edu_bound(arguments[1], open("/dev/iommu", O_RDWR));
    edu_map(&edu);
    parts_are_unmapped_alone();
    other_memory_takes_their_place();
    rights_change_beside_them();
    they_move();
    children_have_them_too();
    nothing_is_left_of_them();
    return 0;
}
