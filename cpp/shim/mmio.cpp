// A page of registers cannot be touched. Whoever does is led here: what it loads is fetched into the page, the one
// instruction runs on it, and what it stored is passed on before the next. No instruction has to be imitated.
#include "mmio.hpp"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "channel.hpp"
#include "kernel.hpp"
#include "operand.hpp"
#include "regions.hpp"
#include "sharing.hpp"
#include "signals.hpp"

namespace viommu::shim {

#if defined(__x86_64__)

namespace {

constexpr u64 page_size = 4096;

constexpr long trap_flag = 1 << 8;
constexpr long wrote = 1 << 1;

// The instruction under way in this thread.
struct Step {
    Region region;  // without room: there is none
    u64 address = 0;
    unsigned size = 0;
    bool stores = false;
    bool was_stepping = false;
};
constinit thread_local Step step;

void transfer(Op op, const Region& region, u64 address, unsigned size) {
    const u64 offset = address - region.start;
    u8* const room = region.room + offset;
    const i64 moved = ask(op, region.file, reinterpret_cast<u64>(room), size, region.position + offset);
    if (moved != size && op == Op::read) memset(room, 0xff, size);
}

}  // namespace

void on_fault(int signal, siginfo_t* info, void* context) {
    const u64 address = reinterpret_cast<u64>(info->si_addr);
    Region region;
    const bool is_register = info->si_code > 0 && !step.region.room && region_at(address, region);
    if (!is_register && info->si_code > 0 && waited_for_sharing(address)) return;
    if (!is_register) return pass_on(signal, info, context);
    const int kept = errno;
    greg_t* const registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    const Operand operand = operand_of(reinterpret_cast<const u8*>(registers[REG_RIP]));
    const u64 to_page_end = page_size - address % page_size;
    step = {region, address, static_cast<unsigned>(operand.size < to_page_end ? operand.size : to_page_end),
            (registers[REG_ERR] & wrote) != 0, (registers[REG_EFL] & trap_flag) != 0};
    if (!step.stores || operand.loads) transfer(Op::read, region, address, step.size);
    kernel(SYS_mprotect, address & -page_size, page_size, PROT_READ | PROT_WRITE);
    registers[REG_EFL] |= trap_flag;
    errno = kept;
}

void on_step(int signal, siginfo_t* info, void* context) {
    if (!step.region.room) return pass_on(signal, info, context);
    const int kept = errno;
    kernel(SYS_mprotect, step.address & -page_size, page_size, PROT_NONE);
    const Step done = step;
    step.region.room = nullptr;
    if (done.stores) transfer(Op::write, done.region, done.address, done.size);
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

bool trap_registers(u64 start, std::size_t length, u64 file, u64 position, int memory) {
    if (!can_step) return errno = ENODEV, false;
    listen_for_faults();
    return add_region(start, length, file, position, memory);
}

}  // namespace viommu::shim
