// A page of registers cannot be touched. Whoever does is led here: what it loads is fetched into the page, the one
// instruction runs on it, and what it stored is passed on before the next. No instruction has to be imitated.
#include "mmio.hpp"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>

#include "areas.hpp"
#include "channel.hpp"
#include "kernel.hpp"
#include "operand.hpp"
#include "real.hpp"

namespace viommu::shim {

DECLARE_REAL(sigaction)
DECLARE_REAL(signal)

namespace {

constexpr u64 page_size = 4096;
constexpr int most_regions = 256;

struct Region {
    std::atomic<u64> start = 0;  // 0: free
    u64 end, file, position;
    u8* room;  // the same memory where it can be touched
};
Region regions[most_regions];
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

Region* region_at(u64 address) {
    for (Region& region : regions) {
        const u64 start = region.start.load(std::memory_order_acquire);
        if (start && address - start < region.end - start) return &region;
    }
    return nullptr;
}

// What the program wants done with these signals.
struct sigaction wanted[2];
bool installed = false;

int place_of(int signal) { return signal == SIGSEGV ? 0 : signal == SIGTRAP ? 1 : -1; }

void pass_on(int signal, siginfo_t* info, void* context) {
    const struct sigaction& action = wanted[place_of(signal)];
    if (action.sa_flags & SA_SIGINFO) return action.sa_sigaction(signal, info, context);
    if (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN) return action.sa_handler(signal);
    REAL(sigaction)(signal, &action, nullptr);  // the fault comes again, and ends the program as it would have
}

#if defined(__x86_64__)

constexpr long trap_flag = 1 << 8;
constexpr long wrote = 1 << 1;

// The instruction under way in this thread.
struct Step {
    Region* region;  // none: there is none
    u64 address;
    unsigned size;
    bool stores;
    bool was_stepping;
};
__thread Step step;

void transfer(Op op, const Region& region, u64 address, unsigned size) {
    const u64 offset = address - region.start;
    u8* const room = region.room + offset;
    const i64 moved = ask(op, region.file, reinterpret_cast<u64>(room), size, region.position + offset);
    if (moved != size && op == Op::read) memset(room, 0xff, size);
}

void on_fault(int signal, siginfo_t* info, void* context) {
    const u64 address = reinterpret_cast<u64>(info->si_addr);
    Region* const region = info->si_code > 0 ? region_at(address) : nullptr;
    if (!region && info->si_code > 0 && waited_for_sharing(address)) return;
    if (!region || step.region) return pass_on(signal, info, context);
    const int kept = errno;
    greg_t* const registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    const Operand operand = operand_of(reinterpret_cast<const u8*>(registers[REG_RIP]));
    const u64 to_page_end = page_size - address % page_size;
    step = {region, address, static_cast<unsigned>(operand.size < to_page_end ? operand.size : to_page_end),
            (registers[REG_ERR] & wrote) != 0, (registers[REG_EFL] & trap_flag) != 0};
    if (!step.stores || operand.loads) transfer(Op::read, *region, address, step.size);
    kernel(SYS_mprotect, address & -page_size, page_size, PROT_READ | PROT_WRITE);
    registers[REG_EFL] |= trap_flag;
    errno = kept;
}

void on_step(int signal, siginfo_t* info, void* context) {
    if (!step.region) return pass_on(signal, info, context);
    const int kept = errno;
    kernel(SYS_mprotect, step.address & -page_size, page_size, PROT_NONE);
    const Step done = step;
    step.region = nullptr;
    if (done.stores) transfer(Op::write, *done.region, done.address, done.size);
    if (!done.was_stepping) static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] &= ~trap_flag;
    errno = kept;
}

constexpr bool can_step = true;

#else

// No way to run one instruction alone from user space.
constexpr bool can_step = false;

void on_fault(int signal, siginfo_t* info, void* context) {
    if (info->si_code <= 0 || !waited_for_sharing(reinterpret_cast<u64>(info->si_addr))) pass_on(signal, info, context);
}
void on_step(int signal, siginfo_t* info, void* context) { pass_on(signal, info, context); }

#endif

void install() {
    if (installed) return;
    installed = true;
    struct sigaction action{};
    sigfillset(&action.sa_mask);
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    action.sa_sigaction = on_fault;
    REAL(sigaction)(SIGSEGV, &action, &wanted[0]);
    action.sa_sigaction = on_step;
    REAL(sigaction)(SIGTRAP, &action, &wanted[1]);
}

}  // namespace

void listen_for_faults() {
    pthread_mutex_lock(&lock);
    install();
    pthread_mutex_unlock(&lock);
}

bool trap_registers(u64 start, std::size_t length, u64 file, u64 position, int memory) {
    if (!can_step) return errno = ENODEV, false;
    void* const room =
        reinterpret_cast<void*>(kernel(SYS_mmap, nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0));
    if (room == MAP_FAILED) return false;
    pthread_mutex_lock(&lock);
    install();
    Region* free_one = nullptr;
    for (Region& region : regions)
        if (!region.start.load(std::memory_order_relaxed)) free_one = &region;
    if (free_one) {
        free_one->end = start + length, free_one->file = file, free_one->position = position;
        free_one->room = static_cast<u8*>(room);
        free_one->start.store(start, std::memory_order_release);
    }
    pthread_mutex_unlock(&lock);
    if (free_one) return true;
    kernel(SYS_munmap, room, length);
    return errno = ENOMEM, false;
}

void forget_registers(u64 start, std::size_t length) {
    pthread_mutex_lock(&lock);
    for (Region& region : regions) {
        const u64 first = region.start.load(std::memory_order_relaxed);
        if (!first || first >= start + length || region.end <= start) continue;
        region.start.store(0, std::memory_order_release);
        kernel(SYS_munmap, region.room, region.end - first);
    }
    pthread_mutex_unlock(&lock);
}

}  // namespace viommu::shim

using namespace viommu::shim;

// A program may have handlers of its own for what we need: they get what is not ours.
EXPORT int sigaction(int number, const struct sigaction* action, struct sigaction* before) noexcept {
    const int place = place_of(number);
    if (place < 0 || !installed) return REAL(sigaction)(number, action, before);
    const struct sigaction kept = wanted[place];
    if (action) wanted[place] = *action;
    if (before) *before = kept;
    return 0;
}
EXPORT sighandler_t signal(int number, sighandler_t handler) noexcept {
    const int place = place_of(number);
    if (place < 0 || !installed) return REAL(signal)(number, handler);
    const sighandler_t before = wanted[place].sa_handler;
    wanted[place] = {};
    wanted[place].sa_handler = handler;
    return before;
}
