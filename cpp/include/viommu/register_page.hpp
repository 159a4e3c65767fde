// Registers that are shared memory: software stores to them without a call, and who watches finds out by comparing.
#pragma once

#include <atomic>
#include <cstddef>
#include <mutex>
#include <vector>

#include "types.hpp"

namespace viommu {

// One page, or some. What a word shows is what hardware put there last: any other value is a store of software's.
// The same value stored again cannot be told from none.
class RegisterPage {
public:
    struct Word {
        u32 offset;
        u32 size;  // bytes: 4 or 8, and the offset a multiple of it
    };
    struct Stored {
        std::size_t index;
        u64 value;
    };

    // `memory` outlives the page, and shows zeros.
    RegisterPage(std::byte* memory, const std::vector<Word>& words) : memory_(memory) {
        for (const Word& word : words) words_.push_back({word, 0});
    }

    std::size_t size() const { return words_.size(); }

    bool is_stored_to() const {
        const std::lock_guard locked(lock_);
        for (const Shown& word : words_)
            if (load(word.word) != word.value) return true;
        return false;
    }

    // Takes note of what software has stored; the words show it from now on.
    std::vector<Stored> take() {
        const std::lock_guard locked(lock_);
        std::vector<Stored> stored;
        for (std::size_t index = 0; index < words_.size(); ++index) {
            Shown& word = words_[index];
            const u64 value = load(word.word);
            if (value == word.value) continue;
            word.value = value;
            stored.push_back({index, value});
        }
        return stored;
    }

    u64 shown(std::size_t index) const {
        const std::lock_guard locked(lock_);
        return words_[index].value;
    }

    // Shows what hardware has now, unless software has stored to the word meanwhile. False where the word shows another
    // value than `before`, which was looked at before hardware was: somebody may know a later one.
    bool show(std::size_t index, u64 before, u64 value) {
        const std::lock_guard locked(lock_);
        Shown& word = words_[index];
        if (word.value != before) return false;
        if (exchange(word.word, before, value)) word.value = value;
        return true;
    }

private:
    struct Shown {
        Word word;
        u64 value;
    };

    template <typename Number> std::atomic_ref<Number> at(const Word& word) const {
        return std::atomic_ref<Number>(*reinterpret_cast<Number*>(memory_ + word.offset));
    }
    // What software stored before this value, it sees as stored (a ring's entries before its doorbell).
    u64 load(const Word& word) const {
        return word.size == 4 ? at<u32>(word).load(std::memory_order_acquire)
                              : at<u64>(word).load(std::memory_order_acquire);
    }
    bool exchange(const Word& word, u64 before, u64 value) {
        if (word.size == 8) return at<u64>(word).compare_exchange_strong(before, value, std::memory_order_acq_rel);
        u32 narrow = static_cast<u32>(before);
        return at<u32>(word).compare_exchange_strong(narrow, static_cast<u32>(value), std::memory_order_acq_rel);
    }

    std::byte* memory_;
    std::vector<Shown> words_;
    mutable std::mutex lock_;
};

}  // namespace viommu
