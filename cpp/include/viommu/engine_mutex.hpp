// The engine lock.
#pragma once

#include <atomic>
#include <stdexcept>
#include <thread>

#include "viommu/types.hpp"

namespace viommu {

// A mutex that costs a scalar hit little: one exchange to take, one to let go, both in line. Who has to wait sleeps.
//
// Memory callbacks run under this lock. One that comes back for it is told so, where a plain mutex would wait for ever.
class EngineMutex {
public:
    void lock() {
        u32 seen = free;
        if (!state_.compare_exchange_strong(seen, held, std::memory_order_acquire)) [[unlikely]]
            wait(seen);
        holder_.store(self(), std::memory_order_relaxed);
    }
    bool try_lock() {
        u32 seen = free;
        if (!state_.compare_exchange_strong(seen, held, std::memory_order_acquire)) return false;
        holder_.store(self(), std::memory_order_relaxed);
        return true;
    }
    void unlock() {
        holder_.store(nullptr, std::memory_order_relaxed);
        if (state_.exchange(free, std::memory_order_release) == awaited) [[unlikely]]
            state_.notify_one();
    }

private:
    static constexpr u32 free = 0, held = 1, awaited = 2;

    // What no other running thread has.
    static const void* self() {
#if defined(__x86_64__) || defined(__aarch64__)
        return __builtin_thread_pointer();
#else
        static thread_local const char here = 0;
        return &here;
#endif
    }
    [[gnu::noinline]] void wait(u32 seen) {
        if (holder_.load(std::memory_order_relaxed) == self())
            throw std::logic_error("a memory callback uses the Translator whose walk called it: it may not");
        if (seen != awaited) seen = state_.exchange(awaited, std::memory_order_acquire);
        while (seen != free) {
            state_.wait(awaited, std::memory_order_relaxed);
            seen = state_.exchange(awaited, std::memory_order_acquire);
        }
    }

    std::atomic<u32> state_ = free;
    std::atomic<const void*> holder_ = nullptr;
};

}  // namespace viommu
