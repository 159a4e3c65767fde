// Waits for stores to shared registers, which nobody tells of.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__linux__)
#include <sys/prctl.h>
#endif

#include "register_page.hpp"

namespace viommu {

// Looks at all pages of a machine. It looks without a pause for a moment after each store, then ever more rarely: an
// eighth of the time since then is slept at once, at most a millisecond; four when nobody has stored for a second,
// since waking costs up to 20 us of a CPU (in a virtual machine). Without a page it sleeps until there is one.
class RegisterWatch {
public:
    using Page = std::shared_ptr<RegisterPage>;

    void add(Page page) {
        const std::lock_guard locked(lock_);
        pages_.push_back(std::move(page));
        changed_.notify_all();
    }
    // Once it returns, the page is not looked at any more.
    void remove(const Page& page) {
        const std::lock_guard locked(lock_);
        std::erase(pages_, page);
    }
    // Lets `wait` return: hardware may have other values than are shown.
    void touch() { touched_.store(true, std::memory_order_release); }
    void end() {
        const std::lock_guard locked(lock_);
        ended_ = true;
        changed_.notify_all();
    }

    // Waits for a store, or a touch; false once it has ended. One thread waits.
    bool wait() {
        sleep_precisely();
        last_ = Clock::now();  // who carried out what was found has taken its time
        for (;;) {
            {
                std::unique_lock locked(lock_);
                changed_.wait(locked, [&] { return ended_ || !pages_.empty(); });
                if (ended_) return false;
                if (touched_.exchange(false, std::memory_order_acquire) | is_stored_to()) return true;
            }
            pause(Clock::now() - last_);
        }
    }

private:
    using Clock = std::chrono::steady_clock;
    static constexpr Clock::duration busy = std::chrono::microseconds(50), longest = std::chrono::milliseconds(1);
    static constexpr Clock::duration long_ago = std::chrono::seconds(1), longest_then = 4 * longest;
    static constexpr int rarely = 8;

    bool is_stored_to() const {
        return std::any_of(pages_.begin(), pages_.end(), [](const Page& page) { return page->is_stored_to(); });
    }
    static void pause(Clock::duration since) {
        if (since > long_ago) return std::this_thread::sleep_for(longest_then);
        if (since > busy) return std::this_thread::sleep_for(std::min(since / rarely, longest));
#if defined(__x86_64__)
        _mm_pause();
#else
        std::this_thread::yield();
#endif
    }
    // A thread's sleep is 50 us longer else.
    static void sleep_precisely() {
#if defined(__linux__)
        static thread_local const int done = prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0);
        static_cast<void>(done);
#endif
    }

    std::mutex lock_;
    std::condition_variable changed_;
    std::vector<Page> pages_;
    bool ended_ = false;
    std::atomic<bool> touched_ = false;
    Clock::time_point last_;
};

}  // namespace viommu
