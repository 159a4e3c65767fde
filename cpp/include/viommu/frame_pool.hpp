// Frames of physical memory for page tables: zeroed, naturally aligned, kept by size so that a batch costs no search.
#pragma once

#include <array>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <vector>

#include "viommu/memory.hpp"

namespace viommu {

struct Frame {
    u64 pa = 0;
    u64* words = nullptr;
};

// Never shrinks: frames of one size are not cut or joined to those of another. Every frame in it is all zeros.
class FramePool {
public:
    explicit FramePool(std::shared_ptr<const Memory> memory) : memory_(std::move(memory)) {}

    // Cuts a run into frames of 2^lg2 bytes. The run must lie in one writable region of this process's memory.
    void add(u64 pa, u64 length, unsigned lg2) {
        const auto picture = memory_->picture();
        const Region* region = picture->find(pa);
        if (!region || !region->host || !region->writable || region->last - pa < length - 1)
            throw std::invalid_argument("frames must lie in one writable region of this process's memory");
        std::scoped_lock lock(mutex_);
        owners_.push_back(region->owner);
        auto& free = free_[lg2];
        free.reserve(free.size() + (length >> lg2));
        for (u64 at = length >> lg2 << lg2; at;) {  // the lowest address is given first
            at -= bit(lg2);
            free.push_back({pa + at, reinterpret_cast<u64*>(region->host + (pa + at - region->start))});
        }
    }

    std::size_t available(unsigned lg2) const {
        std::scoped_lock lock(mutex_);
        return free_[lg2].size();
    }

    // Moves `count` frames to the end of `out`; false, and none is taken, where there are fewer.
    bool take(unsigned lg2, std::size_t count, std::vector<Frame>& out) {
        std::scoped_lock lock(mutex_);
        auto& free = free_[lg2];
        if (free.size() < count) return false;
        out.insert(out.end(), free.rbegin(), free.rbegin() + static_cast<std::ptrdiff_t>(count));
        free.resize(free.size() - count);
        return true;
    }

    // Takes frames back whatever is in them. Nobody may look at them any more.
    void give(unsigned lg2, const std::vector<Frame>& frames) {
        for (const Frame& frame : frames) std::memset(frame.words, 0, bit(lg2));
        std::scoped_lock lock(mutex_);
        free_[lg2].insert(free_[lg2].end(), frames.rbegin(), frames.rend());
    }

    // The same of one frame that was taken here, by its address.
    void give_back(u64 pa, unsigned lg2) {
        const auto picture = memory_->picture();
        const Region* region = picture->find(pa);
        if (!region || !region->host || region->last - pa < bit(lg2) - 1)
            throw std::invalid_argument("no frame of this pool lies there");
        give(lg2, {{pa, reinterpret_cast<u64*>(region->host + (pa - region->start))}});
    }

private:
    std::shared_ptr<const Memory> memory_;
    mutable std::mutex mutex_;
    std::vector<std::shared_ptr<void>> owners_;  // of the memory behind `words`
    std::array<std::vector<Frame>, 64> free_;
};

}  // namespace viommu
