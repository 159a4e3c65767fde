// A page of registers cannot be touched. Whoever does is led here: what it loads is fetched into memory of its own
// thread, the one instruction runs on that, because the register that leads it there is changed for as long as it runs,
// and what it stored is passed on before the next. No instruction has to be imitated, and no other thread sees the page
// open.
//
// An instruction that says otherwise where it goes (without a base register) runs on the page itself, which is open for
// that long: another thread's access of the page is lost just then.
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
constexpr u64 most_aligned = 64;  // bytes that an instruction may want its operand aligned to, and most that it moves

constexpr long trap_flag = 1 << 8;
constexpr long wrote = 1 << 1;

// By the numbers that instructions have for them.
constexpr int general_registers[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                     REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

// The instruction under way in this thread.
struct Step {
    Region region;  // without room: there is none
    u64 address = 0;
    unsigned size = 0;
    bool stores = false;
    bool was_stepping = false;
    int led_by = -1;     // which register leads to `place` instead; -1: none, and the page is open
    bool keeps = false;  // it holds what was loaded, afterwards
    u64 blocked = 0;
    alignas(most_aligned) u8 place[2 * most_aligned] = {};

    u8* bytes() { return led_by < 0 ? region.room + (address - region.start) : place + address % most_aligned; }
    u64 distance() { return reinterpret_cast<u64>(bytes()) - address; }
};
constinit thread_local Step step;

void load(const Step& of, u8* into) {
    Message message = question(Op::load, of.region.file, of.region.position + (of.address - of.region.start), of.size);
    if (ask(message, nullptr, {nullptr, into, of.size}) != of.size) memset(into, 0xff, of.size);
}

void store(const Step& of, const u8* from) {
    Message message = question(Op::store, of.region.file, of.region.position + (of.address - of.region.start));
    message.length = of.size;
    ask(message, nullptr, {from, nullptr, 0});
}

int register_that_leads(const Operand& operand, const greg_t* registers, u64 address) {
    if (operand.base >= 0) return general_registers[operand.base];
    if (operand.base != Operand::of_string) return -1;
    return static_cast<u64>(registers[REG_RDI]) == address ? REG_RDI : REG_RSI;
}

void protect(u64 address, int rights) { kernel(SYS_mprotect, address & -page_size, page_size, rights); }

// Signals wait until the instruction has run: a handler would find a register changed, or come for registers itself.
u64 exchange_blocked(ucontext_t& context, u64 blocked) {
    u64 before;
    memcpy(&before, &context.uc_sigmask, sizeof before);
    memcpy(&context.uc_sigmask, &blocked, sizeof blocked);
    return before;
}
constexpr u64 all_but_ours = ~(u64{1} << (SIGSEGV - 1) | u64{1} << (SIGTRAP - 1));

void begin(const Region& region, u64 address, ucontext_t& context) {
    greg_t* const registers = context.uc_mcontext.gregs;
    const Operand operand = operand_of(reinterpret_cast<const u8*>(registers[REG_RIP]));
    const u64 left = region.end - address;
    step.region = region;
    step.address = address;
    step.size = static_cast<unsigned>(operand.size < left ? operand.size : left);
    step.stores = registers[REG_ERR] & wrote;
    step.was_stepping = registers[REG_EFL] & trap_flag;
    step.led_by = register_that_leads(operand, registers, address);
    step.keeps = operand.replaces_base;
    if (!step.stores || operand.loads) load(step, step.bytes());
    if (step.led_by < 0)
        protect(address, PROT_READ | PROT_WRITE);
    else
        registers[step.led_by] += static_cast<greg_t>(step.distance());
    step.blocked = exchange_blocked(context, all_but_ours);
    registers[REG_EFL] |= trap_flag;
}

void end(ucontext_t& context) {
    greg_t* const registers = context.uc_mcontext.gregs;
    if (step.led_by < 0)
        protect(step.address, PROT_NONE);
    else if (!step.keeps)
        registers[step.led_by] -= static_cast<greg_t>(step.distance());
    if (step.stores) store(step, step.bytes());
    if (!step.was_stepping) registers[REG_EFL] &= ~trap_flag;
    exchange_blocked(context, step.blocked);
    step.region.room = nullptr;
}

// The instruction comes to nothing: it meets a fault of the program's own memory, which is the program's to handle.
void give_up(ucontext_t& context) {
    greg_t* const registers = context.uc_mcontext.gregs;
    if (step.led_by < 0)
        protect(step.address, PROT_NONE);
    else
        registers[step.led_by] -= static_cast<greg_t>(step.distance());
    if (!step.was_stepping) registers[REG_EFL] &= ~trap_flag;
    exchange_blocked(context, step.blocked);
    step.region.room = nullptr;
}

}  // namespace

void on_fault(int signal, siginfo_t* info, void* context) {
    const u64 address = reinterpret_cast<u64>(info->si_addr);
    Region region;
    const bool is_register = info->si_code > 0 && !step.region.room && region_at(address, region);
    if (!is_register && info->si_code > 0 && waited_for_sharing(address)) return;
    if (!is_register && step.region.room) give_up(*static_cast<ucontext_t*>(context));
    if (!is_register) return pass_on(signal, info, context);
    const int kept = errno;
    begin(region, address, *static_cast<ucontext_t*>(context));
    errno = kept;
}

void on_step(int signal, siginfo_t* info, void* context) {
    if (!step.region.room) return pass_on(signal, info, context);
    const int kept = errno;
    end(*static_cast<ucontext_t*>(context));
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
