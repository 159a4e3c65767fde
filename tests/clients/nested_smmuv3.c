/* A guest on a Grace (SMMUv3 with a CMDQV): nested translation, invalidation by a call and by the guest's own vCMDQ,
 * events: nested_smmuv3 BDF. How soon a doorbell is answered (nanoseconds): nested_smmuv3 BDF latency. */
#define _GNU_SOURCE
#include <time.h>

#include "guest.h"

#define BASE 0x40000000u
#define IOVA 0x400000u
#define NOWHERE 0x600000u
#define ASID 1ull
#define VSID 0xa10ull
#define TABLE 3ull
#define LEAF (0x743ull | 1 << 11) /* a page: AF, inner shareable, all may read and write, not global */

enum { VIOMMU_CMDQV = 2, HWPT_STE = 2, INVALIDATE_SMMU = 1, EVENTS_SMMU = 1, EVENTS_CMDQV = 2, QUEUE_CMDQV = 1 };
enum { TLBI_NH_VA = 0x12, SYNC = 0x46, EVENT_TRANSLATION = 0x10, ILLEGAL_OPCODE = 1 };

/* Registers of the first vCMDQ in the page that the guest has. */
enum { CONS, PROD, CONFIG, STATUS, GERROR, GERRORN };
#define RING_LG2 4u
#define RING (1u << RING_LG2)

struct command {
    uint64_t words[2];
};
static const struct command drop = {{TLBI_NH_VA | ASID << 48, IOVA | 1}}, sync_all = {{SYNC, 0}}, illegal = {{0, 0}};

static struct guest guest;
static volatile uint32_t* page0;
static volatile struct command* ring;
static uint32_t written;

static void submit(struct command command) {
    ring[written & (RING - 1)].words[0] = command.words[0];
    ring[written & (RING - 1)].words[1] = command.words[1];
    written = (written + 1) & (2 * RING - 1);
}
static void ring_doorbell(void) { __atomic_store_n(&page0[PROD], written, __ATOMIC_RELEASE); }
static uint32_t consumed(void) { return page0[CONS] & 0xfffff; }

static uint64_t context_descriptor(void) {
    const uint64_t at = guest_page(&guest, "");
    uint64_t* const words = guest_at(&guest, at);
    words[0] = 16 /* T0SZ */ | 1 << 8 | 1 << 10 | 3 << 12 /* of walks: write-back, inner shareable */ |
               1 << 30 /* EPD1 */ | 1u << 31 /* V */ | 5ull << 32 /* IPS */ | 1ull << 41 /* AA64 */ |
               7ull << 45 /* R, A, ASET */ | ASID << 48;
    words[1] = guest.root;
    words[3] = 0xff; /* MAIR */
    return at;
}

static void the_guest_nests(void) {
    const uint64_t ste[2] = {1 | 5 << 1 /* stage 1 */ | context_descriptor(), 1 << 2 | 1 << 4 | 3 << 6};
    edu_attach(&guest.edu, guest_hwpt(&guest, (struct iommu_hwpt_alloc){.pt_id = guest.viommu,
                                                                        .data_type = HWPT_STE,
                                                                        .data_len = sizeof ste,
                                                                        .data_uptr = (uintptr_t)ste}));
    guest_map(&guest, IOVA, "first");
    CHECK(guest_device_sees(&guest, IOVA, "first"));
}

static void a_call_invalidates(void) {
    guest_map(&guest, IOVA, "second");
    CHECK(guest_device_sees(&guest, IOVA, "first")); /* cached */
    struct command commands[2] = {drop, sync_all};
    CHECK(guest_invalidate(&guest, guest.viommu, INVALIDATE_SMMU, commands, sizeof *commands, 1) == 1);
    CHECK_FAILS(EIO, guest_invalidate(&guest, guest.viommu, INVALIDATE_SMMU, commands, sizeof *commands, 2)); /* SYNC */
    CHECK(guest_device_sees(&guest, IOVA, "second"));
}

static void the_guests_queue_invalidates(void) {
    const uint64_t at = guest_page(&guest, "");
    ring = guest_at(&guest, at);
    guest_queue(&guest, QUEUE_CMDQV, at, RING * sizeof *ring, 0);
    page0[CONFIG] = 1;
    UNTIL(page0[STATUS] == 1);
    guest_map(&guest, IOVA, "third");
    CHECK(guest_device_sees(&guest, IOVA, "second"));
    submit(drop), submit(sync_all), ring_doorbell();
    UNTIL(consumed() == written);
    CHECK(guest_device_sees(&guest, IOVA, "third"));
}

static void the_queue_wraps_under_load(void) {
    char text[16];
    for (int turn = 0; turn < 400; ++turn) {
        if (turn % 100 == 0) {
            snprintf(text, sizeof text, "turn %d", turn);
            guest_map(&guest, IOVA, text);
        }
        submit(drop), submit(drop), submit(sync_all), ring_doorbell();
        UNTIL(consumed() == written);
        if (turn % 100 == 0) CHECK(guest_device_sees(&guest, IOVA, text));
    }
}

static void an_error_stops_the_queue(void) {
    const int events = guest_events(&guest, EVENTS_CMDQV);
    uint64_t map[2];
    const uint32_t stopped = written;
    submit(illegal), submit(drop), submit(sync_all), ring_doorbell();
    guest_event(events, map, sizeof map);
    CHECK(map[0] == 1 && !map[1]); /* of the first queue */
    CHECK(page0[GERROR] != page0[GERRORN]);
    CHECK(consumed() == stopped && page0[CONS] >> 24 == ILLEGAL_OPCODE);
    ring[stopped & (RING - 1)].words[0] = sync_all.words[0]; /* mended, and acknowledged */
    __atomic_store_n(&page0[GERRORN], page0[GERROR], __ATOMIC_RELEASE);
    UNTIL(consumed() == written);
    CHECK(page0[GERROR] == page0[GERRORN]);
}

static void a_fault_is_an_event(void) {
    const int events = guest_events(&guest, EVENTS_SMMU);
    uint64_t event[4];
    edu_move(&guest.edu, NOWHERE, EDU_BUFFER, 16, EDU_TO_DEVICE);
    guest_event(events, event, sizeof event);
    CHECK((event[0] & 0xff) == EVENT_TRANSLATION && event[0] >> 32 == VSID && event[2] == NOWHERE);
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static int compare(const void* one, const void* other) {
    const uint64_t a = *(const uint64_t*)one, b = *(const uint64_t*)other;
    return a < b ? -1 : a > b;
}

/* From a doorbell for an invalidation and a SYNC until the guest sees both done: the time in the middle. */
static void tell_latency(void) {
    static uint64_t taken[2000];
    const unsigned times = sizeof taken / sizeof *taken;
    for (unsigned turn = 0; turn < times; ++turn) {
        submit(drop), submit(sync_all);
        const uint64_t before = now();
        ring_doorbell();
        while (consumed() != written) continue;
        taken[turn] = now() - before;
    }
    qsort(taken, times, sizeof *taken, compare);
    printf("%lu\n", (unsigned long)taken[times / 2]);
}

int main(int count, char** arguments) {
    CHECK(count == 2 || count == 3);
    uint64_t where[2];
    guest = guest_made(arguments[1], BASE, TABLE, LEAF);
    guest_viommu(&guest, VIOMMU_CMDQV, where, sizeof where, VSID);
    page0 = guest_registers(&guest, where[0], where[1], 1);
    the_guest_nests();
    a_call_invalidates();
    the_guests_queue_invalidates();
    if (count == 3) return tell_latency(), 0;
    the_queue_wraps_under_load();
    an_error_stops_the_queue();
    a_fault_is_an_event();
    return 0;
}
