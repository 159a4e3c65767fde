// What numbers in commands stand for: filled by a hardware model, read while commands run.
#pragma once

#include <algorithm>
#include <mutex>
#include <span>
#include <stdexcept>
#include <unordered_map>
#include <vector>

#include "viommu/types.hpp"

namespace viommu::commands {

class Table {
public:
    static constexpr std::size_t most_pairs = std::size_t{1} << 20;

    // A pair that is there stays once. Throws std::length_error where it would be one too many.
    void add(u64 key, u32 value) {
        std::scoped_lock lock(mutex_);
        if (pairs_ >= most_pairs) throw std::length_error("a command table holds no more than 1048576 pairs");
        std::vector<u32>& values = values_[key];
        if (std::ranges::find(values, value) != values.end()) return;
        values.push_back(value);
        ++pairs_;
    }
    void remove(u64 key, u32 value) {
        std::scoped_lock lock(mutex_);
        const auto at = values_.find(key);
        if (at == values_.end()) return;
        pairs_ -= std::erase(at->second, value);
        if (at->second.empty()) values_.erase(at);
    }
    void clear() {
        std::scoped_lock lock(mutex_);
        values_.clear();
        pairs_ = 0;
    }
    std::vector<u32> values(u64 key) {
        std::scoped_lock lock(mutex_);
        const std::span<const u32> found = of(key);
        return {found.begin(), found.end()};
    }

    // For who holds the lock.
    void lock() { mutex_.lock(); }
    void unlock() { mutex_.unlock(); }
    std::span<const u32> of(u64 key) const {
        const auto at = values_.find(key);
        return at == values_.end() ? std::span<const u32>() : std::span<const u32>(at->second);
    }

private:
    std::mutex mutex_;
    std::unordered_map<u64, std::vector<u32>> values_;
    std::size_t pairs_ = 0;
};

}  // namespace viommu::commands
