// A lock that a signal handler may take as well.
#pragma once

#include <pthread.h>
#include <signal.h>

#include "kernel.hpp"
#include "wire.hpp"

namespace viommu::shim {

// Blocks all signals of this thread: which were blocked before.
inline u64 blocked_signals() {
    const u64 all = ~u64{0};
    u64 before = 0;
    kernel(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof all);
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
