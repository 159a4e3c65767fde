#include "signals.hpp"

#include <pthread.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "blocked.hpp"
#include "channel.hpp"
#include "kernel.hpp"
#include "mmio.hpp"
#include "real.hpp"

namespace viommu::shim {

DECLARE_REAL(sigaction)
DECLARE_REAL(signal)
DECLARE_REAL(sigprocmask)
DECLARE_REAL(pthread_sigmask)

namespace {

// What the program wants done with them.
struct sigaction wanted[2];
bool installed = false;
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

int place_of(int signal) { return signal == SIGSEGV ? 0 : signal == SIGTRAP ? 1 : -1; }

void install(int signal, void (*handler)(int, siginfo_t*, void*)) {
    struct sigaction action{};
    sigfillset(&action.sa_mask);
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    action.sa_sigaction = handler;
    REAL(sigaction)(signal, &action, &wanted[place_of(signal)]);
}

// A fault that is blocked ends the program, and registers fault by design.
sigset_t without_ours(const sigset_t& set) {
    sigset_t rest = set;
    sigdelset(&rest, SIGSEGV);
    sigdelset(&rest, SIGTRAP);
    return rest;
}

// The action for one signal; one that is for a single signal is forgotten.
struct sigaction taken(int signal) {
    const Locked locked(lock);
    struct sigaction& action = wanted[place_of(signal)];
    const struct sigaction current = action;
    if (current.sa_flags & SA_RESETHAND) action.sa_handler = SIG_DFL;
    return current;
}

// Ends the program as it would have ended: what happened comes again, or is sent again.
void end_by(int signal, bool comes_again) {
    struct sigaction action{};
    REAL(sigaction)(signal, &action, nullptr);
    if (!comes_again) kernel(SYS_tgkill, kernel(SYS_getpid), kernel(SYS_gettid), signal);
}

void call(const struct sigaction& action, int signal, siginfo_t* info, void* context) {
    const auto words = [](const sigset_t& set) { return *reinterpret_cast<const u64*>(&set); };  // as the kernel has it
    u64 mask = words(static_cast<ucontext_t*>(context)->uc_sigmask) | words(action.sa_mask);
    if (!(action.sa_flags & SA_NODEFER)) mask |= u64{1} << (signal - 1);
    kernel(SYS_rt_sigprocmask, SIG_SETMASK, &mask, nullptr, sizeof mask);
    if (action.sa_flags & SA_SIGINFO)
        action.sa_sigaction(signal, info, context);
    else
        action.sa_handler(signal);
}

}  // namespace

void listen_for_faults() {
    const Locked locked(lock);
    if (installed) return;
    installed = true;
    install(SIGSEGV, on_fault);
    install(SIGTRAP, on_step);
}

void pass_on(int signal, siginfo_t* info, void* context) {
    const struct sigaction action = taken(signal);
    const bool is_sent = info->si_code <= 0;
    if (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN) return call(action, signal, info, context);
    if (action.sa_handler == SIG_IGN && is_sent) return;
    end_by(signal, !is_sent && signal == SIGSEGV);
}

void lock_signals() { pthread_mutex_lock(&lock); }
void unlock_signals() { pthread_mutex_unlock(&lock); }
void signals_in_child() { lock = PTHREAD_MUTEX_INITIALIZER; }

}  // namespace viommu::shim

using namespace viommu::shim;

// A program may have handlers of its own for what we need: they get what is not ours.
EXPORT int sigaction(int number, const struct sigaction* action, struct sigaction* before) noexcept {
    if (!serviced()) return REAL(sigaction)(number, action, before);
    struct sigaction changed;
    if (action) {
        changed = *action;
        changed.sa_mask = without_ours(changed.sa_mask);
    }
    const Locked locked(lock);
    const int place = place_of(number);
    if (place < 0 || !installed) return REAL(sigaction)(number, action ? &changed : nullptr, before);
    const struct sigaction kept = wanted[place];
    if (action) wanted[place] = changed;
    if (before) *before = kept;
    return 0;
}

EXPORT sighandler_t signal(int number, sighandler_t handler) noexcept {
    if (place_of(number) < 0) return REAL(signal)(number, handler);
    struct sigaction action{}, before;
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    sigaddset(&action.sa_mask, number);
    return sigaction(number, &action, &before) ? SIG_ERR : before.sa_handler;
}

EXPORT int sigprocmask(int how, const sigset_t* set, sigset_t* before) noexcept {
    if (!set || how == SIG_UNBLOCK || !serviced()) return REAL(sigprocmask)(how, set, before);
    const sigset_t rest = without_ours(*set);
    return REAL(sigprocmask)(how, &rest, before);
}
EXPORT int pthread_sigmask(int how, const sigset_t* set, sigset_t* before) noexcept {
    if (!set || how == SIG_UNBLOCK || !serviced()) return REAL(pthread_sigmask)(how, set, before);
    const sigset_t rest = without_ours(*set);
    return REAL(pthread_sigmask)(how, &rest, before);
}
