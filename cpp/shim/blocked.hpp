// A lock that a signal handler may take as well.
#pragma once

#include <pthread.h>
#include <signal.h>

#include "kernel.hpp"
#include "wire.hpp"

namespace viommu::shim {

// Blocks the signals of this thread that others send: which were blocked before. A fault of its own cannot wait, and a
// blocked one would end the program: a store to memory that is being shared is one.
inline u64 blocked_signals() {
    const auto bit = [](int number) { return u64{1} << (number - 1); };
    const u64 sent = ~(bit(SIGSEGV) | bit(SIGTRAP) | bit(SIGBUS));
    u64 before = 0;
    kernel(SYS_rt_sigprocmask, SIG_SETMASK, &sent, &before, sizeof sent);
    return before;
}
// `errno` stays.
inline void unblock_signals(u64 before) {
    const int kept = errno;
    kernel(SYS_rt_sigprocmask, SIG_SETMASK, &before, nullptr, sizeof before);
    errno = kept;
}

// This thread takes no signal meanwhile, so that no handler of the program meets us in the middle.
class SignalsBlocked {
public:
    SignalsBlocked() : before_(blocked_signals()) {}
    ~SignalsBlocked() { unblock_signals(before_); }
    SignalsBlocked(const SignalsBlocked&) = delete;

private:
    u64 before_;
};

class Locked {
public:
    explicit Locked(pthread_mutex_t& lock) : lock_(lock) { pthread_mutex_lock(&lock_); }
    ~Locked() { pthread_mutex_unlock(&lock_); }
    Locked(const Locked&) = delete;

private:
    SignalsBlocked blocked_;
    pthread_mutex_t& lock_;
};

}  // namespace viommu::shim
