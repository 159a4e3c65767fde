// The engine lock.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "viommu/thread_sanitizer.hpp"
#include "viommu/types.hpp"

// ThreadSanitizer knows no such barrier.
#if defined(__linux__) && !VIOMMU_THREAD_SANITIZER
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>
#define VIOMMU_BIASED_LOCK 1
#else
#define VIOMMU_BIASED_LOCK 0
#endif

namespace viommu {

// A barrier in every running thread of the process: what lets one side of a handshake do without.
class ProcessBarrier {
public:
    static bool available() {
#if VIOMMU_BIASED_LOCK
        static const bool registered = call(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
        return registered;
#else
        return false;
#endif
    }
    // Only where it is available. A process that was forked from one that had registered may have to do so again.
    static void run() {
#if VIOMMU_BIASED_LOCK
        if (call(MEMBARRIER_CMD_PRIVATE_EXPEDITED)) return;
        if (call(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) && call(MEMBARRIER_CMD_PRIVATE_EXPEDITED)) return;
        if (!call(MEMBARRIER_CMD_GLOBAL)) throw std::runtime_error("the kernel has taken membarrier away");
#endif
    }

private:
#if VIOMMU_BIASED_LOCK
    static bool call(int command) { return ::syscall(SYS_membarrier, command, 0, 0) == 0; }
#endif
};

// A mutex that costs a scalar hit little. A thread that was alone in using it for a while gets it by plain stores, with
// no atomic exchange (half of what a hit takes), until another thread wants it: that one ends this for good, by a
// barrier in all threads, and everyone takes it by an exchange. Who has to wait sleeps.
//
// Memory callbacks run under this lock. One that comes back for it is told so, where a plain mutex would wait for ever.
class EngineMutex {
public:
    void lock() {
        if (favoured_.load(std::memory_order_relaxed) == self()) [[likely]] {
            if (inside_.load(std::memory_order_relaxed)) [[unlikely]]
                refuse_reentry();
            if (enter_as_favoured()) [[likely]]
                return;
        }
        lock_by_exchange();
    }
    bool try_lock() {
        if (favoured_.load(std::memory_order_relaxed) == self()) [[likely]] {
            if (inside_.load(std::memory_order_relaxed)) [[unlikely]]
                return false;
            if (enter_as_favoured()) [[likely]]
                return true;
        }
        return try_lock_by_exchange();
    }
    void unlock() {
        if (favoured_.load(std::memory_order_relaxed) == self() && inside_.load(std::memory_order_relaxed)) [[likely]]
            inside_.store(false, std::memory_order_release);
        else
            unlock_by_exchange();
    }

private:
    static constexpr u32 free = 0, held = 1, awaited = 2;
    static constexpr u32 alone_for = 64;  // times in a row

    // What no other running thread has.
    static const void* self() {
#if defined(__x86_64__) || defined(__aarch64__)
        return __builtin_thread_pointer();
#else
        static thread_local const char here = 0;
        return &here;
#endif
    }
    [[noreturn]] static void refuse_reentry() {
        throw std::logic_error("a memory callback uses the Translator whose walk called it: it may not");
    }

    // False where that is over.
    bool enter_as_favoured() {
        inside_.store(true, std::memory_order_relaxed);
        std::atomic_signal_fence(std::memory_order_seq_cst);  // the processor's fence is in `end_favour`
        if (!favour_ended_.load(std::memory_order_relaxed)) [[likely]]
            return true;
        inside_.store(false, std::memory_order_release);
        return false;
    }
    [[gnu::noinline]] void lock_by_exchange() {
        u32 seen = free;
        if (!state_.compare_exchange_strong(seen, held, std::memory_order_acquire)) wait(seen);
        holder_.store(self(), std::memory_order_relaxed);
        if (!may_favour_) return;
        try {
            settle_favour();
        } catch (...) {
            unlock_by_exchange();
            throw;
        }
    }
    [[gnu::noinline]] bool try_lock_by_exchange() {
        u32 seen = free;
        if (somebody_is_favoured() || !state_.compare_exchange_strong(seen, held, std::memory_order_acquire))
            return false;
        holder_.store(self(), std::memory_order_relaxed);
        if (somebody_is_favoured()) {  // just now; to end that is to wait
            unlock_by_exchange();
            return false;
        }
        if (may_favour_) settle_favour();
        return true;
    }
    [[gnu::noinline]] void unlock_by_exchange() {
        if (favour_next_) {  // not before: while it is held by exchange, `inside_` would not tell who comes back
            favour_next_ = false;
            favoured_.store(self(), std::memory_order_relaxed);
        }
        holder_.store(nullptr, std::memory_order_relaxed);
        if (state_.exchange(free, std::memory_order_release) == awaited) state_.notify_one();
    }
    // Somebody else, where one's own favour, if any, is over.
    bool somebody_is_favoured() const {
        return favoured_.load(std::memory_order_relaxed) && !favour_ended_.load(std::memory_order_relaxed);
    }
    void wait(u32 seen) {
        if (holder_.load(std::memory_order_relaxed) == self()) refuse_reentry();
        if (seen != awaited) seen = state_.exchange(awaited, std::memory_order_acquire);
        while (seen != free) {
            state_.wait(awaited, std::memory_order_relaxed);
            seen = state_.exchange(awaited, std::memory_order_acquire);
        }
    }

    // Under the lock, got by exchange: favours a thread that has been alone, from when it lets go on, or ends that.
    void settle_favour() {
        if (somebody_is_favoured()) return end_favour();
        times_ = last_ == self() ? times_ + 1 : 1;
        last_ = self();
        if (times_ < alone_for) return;
        if (ProcessBarrier::available())
            favour_next_ = true;
        else
            may_favour_ = false;
    }
    // From the barrier on, whoever is favoured sees that it is over, and `inside_` tells whether it came before.
    void end_favour() {
        favour_ended_.store(true, std::memory_order_relaxed);
        ProcessBarrier::run();
        for (auto pause = std::chrono::microseconds(1); inside_.load(std::memory_order_acquire);
             pause = std::min(pause * 2, std::chrono::microseconds(500)))
            std::this_thread::sleep_for(pause);
        favoured_.store(nullptr, std::memory_order_relaxed);
        may_favour_ = false;
    }

    std::atomic<const void*> favoured_ = nullptr;  // a thread, once one was alone; never another
    std::atomic<bool> inside_ = false;             // whether it holds the lock by plain stores
    std::atomic<bool> favour_ended_ = false;
    std::atomic<u32> state_ = free;
    std::atomic<const void*> holder_ = nullptr;  // by exchange
    // Guarded by the lock.
    bool may_favour_ = true;
    bool favour_next_ = false;
    const void* last_ = nullptr;
    u32 times_ = 0;
};

}  // namespace viommu
