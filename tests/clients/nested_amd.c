/* A guest on AMD hardware that runs its IOMMU: nested translation, invalidation by a call and by the guest's own
 * command buffer, faults in its event log or for its VMM. nested_amd BDF. */
#define _GNU_SOURCE
#include "guest.h"

#define BASE 0x100000u
#define IOVA 0x400000u
#define NOWHERE 0x600000u
#define GUEST_DOMAIN 1ull
#define GUEST_DEVICE 0xa10ull
#define TABLE 0x27ull /* present, writable, for all, accessed */
#define LEAF 0x67ull  /* dirty too */

/* Ahead of mainline: the vIOMMU is the published series', what else has no number yet is this project's. */
enum { VIOMMU_AMD = 3, HWPT_DTE = 3, QUEUE_COMMANDS = 2, QUEUE_EVENTS = 3 };
#define AMD 0x80000002u /* of arrays of commands, and events */

/* Registers of the page that the guest has, and of the VMM's. */
enum { CMD_HEAD, CMD_TAIL, EVT_HEAD, EVT_TAIL, EVENT_STATUS };
enum { CONTROL = 3 };
enum { EVT_INT = 1 << 1, EVT_RUN = 1 << 3, CMD_RUN = 1 << 4 };
/* Control: the event log and its interrupt, those of completions, the command buffer. */
#define RUNNING (1ull << 2 | 1ull << 3 | 1ull << 4 | 1ull << 12)
#define RING_BYTES 8192u /* two pages, as the guest sees them */
enum { COMPLETION_WAIT = 1, IO_PAGE_FAULT = 2, INVALIDATE_PAGES = 3, ILLEGAL_COMMAND = 5 };

struct entry {
    uint64_t words[2];
};
static struct guest guest;
static volatile uint64_t *page, *control;
static uint64_t ring, status;
static uint64_t stored;

static const struct entry drop = {{GUEST_DOMAIN << 32 | (uint64_t)INVALIDATE_PAGES << 60,
                                   1 | 2 | 4 | 0x7ffffffffffff000}}; /* all pages, tables too, of PASID 0 */

static struct entry wait_for(uint64_t value) {
    return (struct entry){{1 | status | (uint64_t)COMPLETION_WAIT << 60, value}};
}

static void submit(struct entry entry) {
    static uint64_t tail = 0;
    memcpy(guest_at(&guest, ring + tail), &entry, sizeof entry);
    tail = (tail + sizeof entry) % RING_BYTES;
    __atomic_store_n(&page[CMD_TAIL], tail, __ATOMIC_RELEASE);
}

/* As a driver does: a store to memory tells that all before it is done. */
static void synchronize(void) {
    submit(wait_for(++stored));
    volatile uint64_t* const told = guest_at(&guest, status);
    UNTIL(*told == stored);
}

static uint64_t pages(int count) {
    const uint64_t first = guest_page(&guest, "");
    while (--count) guest_page(&guest, "");
    return first;
}

static void the_guest_nests(void) {
    const uint64_t gcr3 = guest_page(&guest, "");
    *(uint64_t*)guest_at(&guest, gcr3) = guest.root | 1;
    const uint64_t dte[4] = {3 | 1ull << 54 /* GIOV */ | 1ull << 55 /* GV */ | (gcr3 >> 12 & 7) << 58,
                             GUEST_DOMAIN | (gcr3 >> 15 & 0xffff) << 16 | (gcr3 >> 31) << 43};
    edu_attach(&guest.edu, guest_hwpt(&guest, (struct iommu_hwpt_alloc){.pt_id = guest.viommu,
                                                                        .data_type = HWPT_DTE,
                                                                        .data_len = sizeof dte,
                                                                        .data_uptr = (uintptr_t)dte}));
    guest_map(&guest, IOVA, "first");
    CHECK(guest_device_sees(&guest, IOVA, "first"));
}

static void a_call_invalidates(void) {
    guest_map(&guest, IOVA, "second");
    CHECK(guest_device_sees(&guest, IOVA, "first")); /* cached */
    struct entry commands[1] = {drop};
    CHECK(guest_invalidate(&guest, guest.viommu, AMD, commands, sizeof *commands, 1) == 1);
    CHECK(guest_device_sees(&guest, IOVA, "second"));
}

static void a_fault_is_an_event_of_the_vmms(void) {
    const int events = guest_events(&guest, AMD);
    struct entry event;
    edu_move(&guest.edu, NOWHERE, EDU_BUFFER, 16, EDU_TO_DEVICE);
    guest_event(events, &event, sizeof event);
    CHECK(event.words[0] >> 60 == IO_PAGE_FAULT && (event.words[0] & 0xffff) == GUEST_DEVICE);
    CHECK(event.words[1] == NOWHERE);
}

static void the_guests_buffer_invalidates(void) {
    ring = pages(RING_BYTES / PAGE), status = guest_page(&guest, "");
    guest_queue(&guest, QUEUE_COMMANDS, ring, RING_BYTES, HW_QUEUE_IOVA);
    control[CONTROL] = RUNNING;
    UNTIL(page[EVENT_STATUS] & CMD_RUN);
    guest_map(&guest, IOVA, "third");
    CHECK(guest_device_sees(&guest, IOVA, "second"));
    submit(drop), synchronize();
    CHECK(guest_device_sees(&guest, IOVA, "third"));
    CHECK(page[CMD_HEAD] == page[CMD_TAIL]);
}

static void the_buffer_wraps_under_load(void) {
    char text[16];
    for (int turn = 0; turn < 400; ++turn) {
        if (turn % 100 == 0) {
            snprintf(text, sizeof text, "turn %d", turn);
            guest_map(&guest, IOVA, text);
        }
        submit(drop), submit(drop), synchronize();
        if (turn % 100 == 0) CHECK(guest_device_sees(&guest, IOVA, text));
    }
}

static struct entry logged(uint64_t log) {
    UNTIL(page[EVT_TAIL] != page[EVT_HEAD]);
    struct entry event;
    memcpy(&event, guest_at(&guest, log + page[EVT_HEAD]), sizeof event);
    page[EVT_HEAD] = (page[EVT_HEAD] + sizeof event) % RING_BYTES;
    return event;
}

static void faults_come_to_the_guests_own_log(uint64_t log) {
    edu_move(&guest.edu, NOWHERE, EDU_BUFFER, 16, EDU_TO_DEVICE);
    const struct entry event = logged(log);
    CHECK(event.words[0] >> 60 == IO_PAGE_FAULT && (event.words[0] & 0xffff) == GUEST_DEVICE);
    CHECK(event.words[1] == NOWHERE);
    UNTIL(page[EVENT_STATUS] & EVT_INT); /* registers are shown one after the other */
    page[EVENT_STATUS] = EVT_INT; /* a 1 clears */
    UNTIL((page[EVENT_STATUS] & (EVT_INT | EVT_RUN)) == EVT_RUN);
}

static void an_illegal_command_halts_the_buffer(uint64_t log) {
    submit((struct entry){{0xfull << 60, 0}});
    const struct entry event = logged(log);
    CHECK(event.words[0] >> 60 == ILLEGAL_COMMAND);
    UNTIL(!(page[EVENT_STATUS] & CMD_RUN));
    CHECK(page[CMD_HEAD] != page[CMD_TAIL]);
}

int main(int count, char** arguments) {
    CHECK(count == 2);
    uint64_t where[2];
    guest = guest_made(arguments[1], BASE, TABLE, LEAF);
    guest_viommu(&guest, VIOMMU_AMD, where, sizeof where, GUEST_DEVICE);
    page = guest_registers(&guest, where[0], PAGE, 1);
    control = guest_registers(&guest, where[1], PAGE, 0);
    the_guest_nests();
    a_call_invalidates();
    a_fault_is_an_event_of_the_vmms();
    the_guests_buffer_invalidates();
    the_buffer_wraps_under_load();
    const uint64_t log = pages(RING_BYTES / PAGE);
    guest_queue(&guest, QUEUE_EVENTS, log, RING_BYTES, HW_QUEUE_IOVA);
    faults_come_to_the_guests_own_log(log);
    an_illegal_command_halts_the_buffer(log);
    return 0;
}
