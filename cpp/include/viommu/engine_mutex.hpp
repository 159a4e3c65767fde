// The engine lock.
#pragma once

#include <atomic>
#include <mutex>
#include <stdexcept>
#include <thread>

namespace viommu {

// Memory callbacks run under this lock. One that comes back for it is told so, where a plain mutex would wait for ever.
class EngineMutex {
public:
    void lock() {
        const std::thread::id self = std::this_thread::get_id();
        if (holder_.load(std::memory_order_relaxed) == self)
            throw std::logic_error("a memory callback uses the Translator whose walk called it: it may not");
        mutex_.lock();
        holder_.store(self, std::memory_order_relaxed);
    }
    void unlock() {
        holder_.store({}, std::memory_order_relaxed);
        mutex_.unlock();
    }

private:
    std::mutex mutex_;
    std::atomic<std::thread::id> holder_;
};

}  // namespace viommu
