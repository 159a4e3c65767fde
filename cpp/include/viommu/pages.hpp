// Host memory for large tables: zeroed, aligned to cache lines, in huge pages where there are any.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

#include "viommu/types.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace viommu {

// Words that begin as zeros and at a cache line. Zeroed pages that nobody writes to take no memory.
class ZeroedWords {
public:
    ZeroedWords() = default;
    explicit ZeroedWords(std::size_t count) : count_(count) {
        if (!count) return;
        const std::size_t bytes = (count * sizeof(u64) + line - 1) / line * line;
        if (bytes < huge_page) {
            words_ = Words(static_cast<u64*>(std::aligned_alloc(line, bytes)), Free{0});
            if (!words_) throw std::bad_alloc();
            std::fill_n(words_.get(), count, 0);
            return;
        }
        words_ = mapped((bytes + huge_page - 1) / huge_page * huge_page);
    }

    u64* data() { return words_.get(); }
    const u64* data() const { return words_.get(); }
    std::size_t size() const { return count_; }

private:
    static constexpr std::size_t line = 64, huge_page = std::size_t{2} << 20;

    struct Free {
        std::size_t mapped;
        void operator()(u64* words) const {
#if defined(__linux__)
            if (mapped) {
                ::munmap(words, mapped);
                return;
            }
#endif
            std::free(words);
        }
    };
    using Words = std::unique_ptr<u64, Free>;

    static Words mapped(std::size_t bytes) {
#if defined(__linux__)
        // More than is wanted, so that what is kept can begin at a huge page.
        const std::size_t asked = bytes + huge_page;
        void* const at =
            ::mmap(nullptr, asked, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED) throw std::bad_alloc();
        const auto start = reinterpret_cast<std::uintptr_t>(at), first = (start + huge_page - 1) & ~(huge_page - 1);
        if (first != start) ::munmap(at, first - start);
        if (const auto left = start + asked - first - bytes) ::munmap(reinterpret_cast<void*>(first + bytes), left);
        ::madvise(reinterpret_cast<void*>(first), bytes, MADV_HUGEPAGE);
        return Words(reinterpret_cast<u64*>(first), Free{bytes});
#else
        u64* const words = static_cast<u64*>(std::aligned_alloc(line, bytes));
        if (!words) throw std::bad_alloc();
        std::fill_n(words, bytes / sizeof(u64), 0);
        return Words(words, Free{0});
#endif
    }

    Words words_;
    std::size_t count_ = 0;
};

}  // namespace viommu
