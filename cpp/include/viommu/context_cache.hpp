// The configuration cache: (requester, PASID) -> Context, first in first out when full.
#pragma once

#include <algorithm>
#include <array>
#include <deque>
#include <memory>
#include <unordered_map>

#include "viommu/context.hpp"
#include "viommu/hash.hpp"
#include "viommu/iotlb_entry.hpp"
#include "viommu/streams.hpp"
#include "viommu/tags.hpp"

namespace viommu {

struct ContextKey {
    u32 requester;
    u32 pasid;  // no_pasid: none
    bool operator==(const ContextKey&) const = default;
};
struct ContextKeyHash {
    std::size_t operator()(const ContextKey& k) const { return avalanche(u64{k.requester} << 32 | k.pasid); }
};

// A Context, its tags as this translator numbers them, and where the IOTLB keeps their pages.
struct BoundContext {
    std::shared_ptr<const Context> context;
    TagId tag = 0;
    TagId global_tag = 0;
    TagId stage2_tag = 0;
    StreamCounters* stream = nullptr;
    LookUp look_up = {};
};

class ContextCache {
public:
    explicit ContextCache(std::size_t capacity) : capacity_(std::max<std::size_t>(capacity, 1)) {}

    std::size_t capacity() const { return capacity_; }
    // Advances with each invalidation: configuration that was read before one must not be kept after it.
    u64 generation() const { return generation_; }

    BoundContext* find(ContextKey key) {
        Recent& recent = recent_of(key);
        if (recent.bound && recent.key == key) [[likely]]
            return recent.bound;
        const auto at = contexts_.find(key);
        if (at == contexts_.end()) return nullptr;
        recent = {key, &at->second.context};
        return recent.bound;
    }
    void insert(ContextKey key, BoundContext context) {
        recent_of(key) = {};
        const auto [at, fresh] = contexts_.try_emplace(key);
        Kept& kept = at->second;
        kept.context = std::move(context);
        if (!fresh) return;
        kept.key = key;
        kept.came = ++came_;
        order_.push_back({key, came_});
        Kept*& first = of_requester_[key.requester];
        kept.next = first;
        if (first) first->previous = &kept;
        first = &kept;
        while (contexts_.size() > capacity_) drop_oldest();
        if (order_.size() > 2 * contexts_.size() + 64) std::erase_if(order_, [&](const Place& p) { return !holds(p); });
    }
    void drop(ContextKey key) {
        ++generation_;
        forget(key);
    }
    void drop_requester(u32 requester) {
        ++generation_;
        const auto at = of_requester_.find(requester);
        if (at == of_requester_.end()) return;
        for (const Kept* kept = at->second; kept;) {
            const ContextKey key = kept->key;
            kept = kept->next;
            recent_of(key) = {};
            contexts_.erase(key);
        }
        of_requester_.erase(at);
    }
    void drop_all() {
        ++generation_;
        recent_.fill({});
        contexts_.clear();
        of_requester_.clear();
        order_.clear();
    }

private:
    // Who was asked for lately, found without a walk through the map.
    struct Recent {
        ContextKey key;
        BoundContext* bound = nullptr;
    };
    Recent& recent_of(ContextKey key) {
        return recent_[(u64{key.requester} * 0x9E37'79B1 + key.pasid * u64{0x85EB'CA6B}) >> 24 & (recent_.size() - 1)];
    }

    struct Kept {
        BoundContext context;
        ContextKey key{};
        u64 came = 0;
        Kept *previous = nullptr, *next = nullptr;  // of the same requester
    };
    // Where a context stands in the order of coming. One that was dropped leaves its place behind, which is passed
    // over: to look for it would cost each drop a walk through all.
    struct Place {
        ContextKey key;
        u64 came;
    };
    bool holds(const Place& place) const {
        const auto at = contexts_.find(place.key);
        return at != contexts_.end() && at->second.came == place.came;
    }
    void drop_oldest() {
        const Place oldest = order_.front();
        order_.pop_front();
        if (holds(oldest)) forget(oldest.key);
    }
    void forget(ContextKey key) {
        recent_of(key) = {};
        const auto at = contexts_.find(key);
        if (at == contexts_.end()) return;
        const Kept& kept = at->second;
        if (kept.next) kept.next->previous = kept.previous;
        if (kept.previous)
            kept.previous->next = kept.next;
        else if (kept.next)
            of_requester_[key.requester] = kept.next;
        else
            of_requester_.erase(key.requester);
        contexts_.erase(at);
    }

    std::size_t capacity_;
    std::array<Recent, 64> recent_{};
    u64 generation_ = 0;
    u64 came_ = 0;
    std::unordered_map<ContextKey, Kept, ContextKeyHash> contexts_;
    std::unordered_map<u32, Kept*> of_requester_;  // the one that came last
    std::deque<Place> order_;
};

}  // namespace viommu
