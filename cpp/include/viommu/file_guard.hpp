// Mappings of files that others may cut short meanwhile. Touching what is gone raises SIGBUS, which would end us: a
// page of nobody's takes its place, as memory that is pinned outlives its file.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <map>
#include <thread>
#include <utility>

#include "viommu/types.hpp"

namespace viommu {

class FileGuard {
public:
    static FileGuard& only() {
        static FileGuard* const guard = new FileGuard;  // never gone: a signal may come as the process ends
        return *guard;
    }

    // [start, start + length) is a mapping from now on.
    void add(u64 start, u64 length) {
        const Held held(lock_);
        ranges_[start] = {(start + length + least_page - 1) & -least_page, true};
        listen();
    }
    // No more: before it is unmapped.
    void remove(u64 start) {
        const Held held(lock_);
        ranges_.erase(start);
    }
    // Whether all that was touched of a mapping was there.
    bool is_whole(u64 start) {
        const Held held(lock_);
        const auto found = ranges_.find(start);
        return found != ranges_.end() && found->second.whole;
    }

private:
    static constexpr u64 least_page = 4096;

    struct Range {
        u64 end;
        bool whole;
    };

    // Whoever holds it touches no mapping, and so takes no fault: a handler may wait for it.
    class Held {
    public:
        explicit Held(std::atomic_flag& lock) : lock_(lock) {
            sigset_t all;
            sigfillset(&all);
            pthread_sigmask(SIG_SETMASK, &all, &before_);
            while (lock_.test_and_set(std::memory_order_acquire)) std::this_thread::yield();
        }
        ~Held() {
            lock_.clear(std::memory_order_release);
            pthread_sigmask(SIG_SETMASK, &before_, nullptr);
        }
        Held(const Held&) = delete;

    private:
        std::atomic_flag& lock_;
        sigset_t before_;
    };

    // Whoever has asked for the signal after us gets what we pass on. They may let go of it, and put back whom they
    // found, which is us: it must not come to them again, so that we are two.
    void listen() {
        struct sigaction now{};
        if (sigaction(SIGBUS, nullptr, &now) || is_ours(now)) return;
        const bool again = std::exchange(listened_, true);
        before_[again] = now;
        struct sigaction ours{};
        sigfillset(&ours.sa_mask);
        ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
        ours.sa_sigaction = again ? on_fault<true> : on_fault<false>;
        sigaction(SIGBUS, &ours, nullptr);
    }
    static bool is_ours(const struct sigaction& action) {
        return action.sa_flags & SA_SIGINFO &&
               (action.sa_sigaction == on_fault<false> || action.sa_sigaction == on_fault<true>);
    }

    template <bool again> static void on_fault(int signal, siginfo_t* info, void* context) {
        const int kept = errno;
        FileGuard& guard = only();
        if (info->si_code <= 0 || !guard.put_page(reinterpret_cast<u64>(info->si_addr)))
            pass_on(guard.before_[again], signal, info, context);
        errno = kept;
    }

    bool put_page(u64 address) {
        const Held held(lock_);
        auto after = ranges_.upper_bound(address);
        if (after == ranges_.begin()) return false;
        auto& [start, range] = *--after;
        if (address >= range.end || !put_page_within(start, range.end, address)) return false;
        range.whole = false;
        return true;
    }

    // Of whatever size the pages of the file are.
    static bool put_page_within(u64 first, u64 end, u64 address) {
        for (const u64 size : {least_page, u64{1} << 16, u64{1} << 21, u64{1} << 30}) {
            const u64 start = address & -size;
            if (start < first || start + size > end) return false;
            const void* const made = mmap(reinterpret_cast<void*>(start), size, PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
            if (made != MAP_FAILED) return true;
        }
        return false;
    }

    static void pass_on(const struct sigaction& before, int signal, siginfo_t* info, void* context) {
        if (before.sa_flags & SA_SIGINFO) return before.sa_sigaction(signal, info, context);
        if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) return before.sa_handler(signal);
        if (before.sa_handler == SIG_IGN && info->si_code <= 0) return;
        std::signal(signal, SIG_DFL);
        if (info->si_code <= 0) raise(signal);
    }

    std::map<u64, Range> ranges_;   // by their starts
    struct sigaction before_[2]{};  // of the first of us, and of the other
    bool listened_ = false;
    std::atomic_flag lock_;
};

}  // namespace viommu
