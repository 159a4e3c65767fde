/* Memory that devices reach stays what it is to its program, whatever that does with it. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>

#include "cases.h"
#include "ioas.h"

#define IOVA 0x1010000u

/* An IOAS with a domain, so that what is mapped is pinned. */
static uint32_t pinning_ioas(int fd) {
    const uint32_t id = ioas(fd);
    domain(fd, id);
    return id;
}

static char* private_pages(unsigned count) {
    char* const at = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static int is_empty(const char* at, size_t length) {
    for (size_t index = 0; index < length; ++index)
        if (at[index]) return 0;
    return 1;
}

CASE(moved_memory_is_copied_for_a_child) {
    const int fd = opened();
    char* const page = private_pages(1);
    strcpy(page, "parent's");
    CHECK(!map(fd, pinning_ioas(fd), page, PAGE, IOVA));
    char* const elsewhere = private_pages(1);
    CHECK(mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere) == elsewhere);
    CHECK(mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page);
    strcpy(page, "other");
    const pid_t child = fork();
    if (!child) {
        CHECK(!strcmp(elsewhere, "parent's") && !strcmp(page, "other"));
        strcpy(elsewhere, "child's"), strcpy(page, "child's");
        _exit(0);
    }
    CHECK(!exit_of(child) && !strcmp(elsewhere, "parent's") && !strcmp(page, "other"));
}

CASE(a_child_has_what_was_there_when_it_was_made) {
    enum { pages = 256 };
    const int fd = opened();
    char* const memory = private_pages(pages);
    CHECK(!map(fd, pinning_ioas(fd), memory, pages * PAGE, IOVA));
    for (int turn = 0; turn < 10; ++turn) {
        memset(memory, 'a', pages * PAGE);
        const pid_t child = fork();
        if (child) memset(memory, 'b', pages * PAGE);
        if (!child) {
            for (size_t at = 0; at < pages * PAGE; at += PAGE) CHECK(memory[at] == 'a');
            _exit(0);
        }
        CHECK(!exit_of(child));
    }
}

CASE(a_child_keeps_rights_and_what_is_left_of_memory) {
    const int fd = opened();
    char* const memory = private_pages(4);
    strcpy(memory + 3 * PAGE, "last");
    CHECK(!map(fd, pinning_ioas(fd), memory, 4 * PAGE, IOVA));
    CHECK(!munmap(memory + PAGE, PAGE) && !mprotect(memory + 3 * PAGE, PAGE, PROT_READ));
    const pid_t child = fork();
    if (!child) {
        CHECK(!strcmp(memory + 3 * PAGE, "last"));
        CHECK(!madvise(memory, PAGE, MADV_NORMAL) && !madvise(memory + 2 * PAGE, 2 * PAGE, MADV_NORMAL));
        CHECK_FAILS(ENOMEM, madvise(memory + PAGE, PAGE, MADV_NORMAL)); /* nothing is there */
        const pid_t grandchild = fork();
        if (!grandchild) memory[3 * PAGE] = 'x'; /* may not */
        int status;
        CHECK(waitpid(grandchild, &status, 0) == grandchild && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
        _exit(0);
    }
    CHECK(!exit_of(child));
}

CASE(memory_grows_where_it_lies) {
    enum { pages = 64 };
    const int fd = opened();
    char* memory = private_pages(2);
    memset(memory, 'm', 2 * PAGE);
    CHECK(!map(fd, pinning_ioas(fd), memory, 2 * PAGE, IOVA));
    memory = mremap(memory, 2 * PAGE, pages * PAGE, MREMAP_MAYMOVE);
    CHECK(memory != MAP_FAILED && memory[2 * PAGE - 1] == 'm' && is_empty(memory + 2 * PAGE, (pages - 2) * PAGE));
    memset(memory, 'n', pages * PAGE);
    CHECK(mremap(memory, pages * PAGE, PAGE, 0) == memory);
    memory = mremap(memory, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
    CHECK(memory != MAP_FAILED && is_empty(memory + PAGE, PAGE));
}

CASE(an_allocation_grows) {
    enum { length = 1 << 20 };
    const int fd = opened();
    char* memory = malloc(length);
    memset(memory, 'm', length);
    char* const first = (char*)((uintptr_t)memory & -(uintptr_t)PAGE); /* with what malloc keeps of it */
    CHECK(!map(fd, pinning_ioas(fd), first, length + PAGE, IOVA));
    memory = realloc(memory, 4 * length);
    CHECK(memory && memory[length - 1] == 'm');
    memset(memory, 'n', 4 * length);
    free(memory);
}

CASE(memory_that_is_given_up_is_empty) {
    const int fd = opened();
    const uint32_t id = ioas(fd), hwpt = domain(fd, id);
    char* const memory = private_pages(3);
    memset(memory, 'm', 3 * PAGE);
    CHECK(!map(fd, id, memory, 3 * PAGE, IOVA) && !maps_to(fd, hwpt, IOVA, 3 * PAGE, memory));
    CHECK(!madvise(memory + PAGE, PAGE, MADV_DONTNEED));
    CHECK(is_empty(memory + PAGE, PAGE) && memory[PAGE - 1] == 'm' && memory[2 * PAGE] == 'm');
    CHECK(!maps_to(fd, hwpt, IOVA, PAGE, memory));
    CHECK_FAILS(EINVAL, maps_to(fd, hwpt, IOVA + PAGE, PAGE, memory + PAGE)); /* a device keeps the page that it had */
    CHECK(!madvise(memory, 3 * PAGE, MADV_FREE));
    memset(memory, 'n', 3 * PAGE);
    CHECK_FAILS(EINVAL, madvise(memory + 1, PAGE, MADV_DONTNEED));
}

static volatile int is_over;
static void* count_up(void* page) {
    for (int turn = 0; !is_over; ++turn) {
        volatile long* const word = (long*)page + turn % 512;
        *word = *word + 1;
        ++*((long*)page + 512 * 3); /* in a page of its own, for what the sum must be */
    }
    return NULL;
}

CASE(stores_wait_while_memory_is_shared) {
    const int fd = opened();
    const uint32_t id = pinning_ioas(fd);
    for (int turn = 0; turn < 100; ++turn) {
        char* const memory = private_pages(4);
        pthread_t thread;
        is_over = 0;
        CHECK(!pthread_create(&thread, NULL, count_up, memory));
        while (!*(volatile long*)(memory + 8)) sched_yield();
        CHECK(!map(fd, id, memory, PAGE, IOVA + (uint64_t)turn * PAGE));
        is_over = 1;
        CHECK(!pthread_join(thread, NULL));
        long sum = 0;
        for (int word = 0; word < 512; ++word) sum += ((long*)memory)[word];
        CHECK(sum == ((long*)memory)[512 * 3]);
    }
}

CASE(stacks_are_reached_where_they_are) {
    const int fd = opened();
    const uint32_t id = ioas(fd), hwpt = domain(fd, id);
    char room[3 * PAGE];
    char* const page = (char*)(((uintptr_t)room + PAGE) & -(uintptr_t)PAGE);
    strcpy(page, "stack");
    CHECK(!map(fd, id, page, PAGE, IOVA) && !maps_to(fd, hwpt, IOVA, PAGE, page));
    char seen[8];
    CHECK(!moves(fd, access_of(fd, id), IOVA, seen, 6, 0) && !strcmp(seen, "stack"));
}

CASE(shared_memory_has_the_size_it_was_given) {
    char* const memory = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    char* const grown = mremap(memory, 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE);
    CHECK(grown != MAP_FAILED);
    const pid_t child = fork();
    if (!child) grown[3 * PAGE] = 'x'; /* beyond what is shared */
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

CASE(a_file_that_is_cut_short_harms_nobody) {
    const int fd = opened();
    const uint32_t id = pinning_ioas(fd);
    const int file = memfd_create("file", 0), access = access_of(fd, id);
    CHECK(!ftruncate(file, 4 * PAGE));
    struct iommu_ioas_map_file mapped = {.size = sizeof mapped,
                                         .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
                                                  IOMMU_IOAS_MAP_WRITEABLE,
                                         .ioas_id = id,
                                         .fd = file,
                                         .length = 4 * PAGE,
                                         .iova = IOVA};
    CHECK(!ioctl(fd, IOMMU_IOAS_MAP_FILE, &mapped) && !ftruncate(file, PAGE));
    char bytes[8] = "bytes";
    for (int page = 0; page < 4; ++page) moves(fd, access, IOVA + (uint64_t)page * PAGE, bytes, 8, ACCESS_RW_WRITE);
    CHECK(ioas(fd) > id && ioas(opened()) == 1);
}

CASE(a_lock_on_a_file_outlives_its_mapping) {
    char name[] = "/var/tmp/viommu-client-XXXXXX";
    const int file = mkstemp(name);
    CHECK(file >= 0 && !ftruncate(file, PAGE));
    const struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    CHECK(!fcntl(file, F_SETLK, &whole));
    char* const mapped = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    CHECK(mapped != MAP_FAILED && !munmap(mapped, PAGE));
    CHECK(!unlink(name));
    const pid_t child = fork();
    if (!child) {
        struct flock other = whole;
        CHECK(!fcntl(file, F_GETLK, &other) && other.l_type == F_WRLCK);
        _exit(0);
    }
    CHECK(!exit_of(child));
}

int main(int count, char** arguments) { return run_cases(count, arguments); }
