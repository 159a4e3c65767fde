// The configuration cache: (requester, PASID) -> Context, first in first out when full.
#pragma once

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
        recent = {key, &at->second};
        return recent.bound;
    }
    void insert(ContextKey key, BoundContext context) {
        recent_of(key) = {};
        const auto [at, fresh] = contexts_.insert_or_assign(key, std::move(context));
        if (!fresh) return;
        order_.push_back(key);
        while (contexts_.size() > capacity_) {
            recent_of(order_.front()) = {};
            contexts_.erase(order_.front());
            order_.pop_front();
        }
    }
    void drop(ContextKey key) {
        ++generation_;
        recent_of(key) = {};
        if (contexts_.erase(key)) std::erase(order_, key);
    }
    void drop_requester(u32 requester) {
        ++generation_;
        recent_.fill({});
        std::erase_if(contexts_, [&](const auto& item) { return item.first.requester == requester; });
        std::erase_if(order_, [&](const ContextKey& key) { return key.requester == requester; });
    }
    void drop_all() {
        ++generation_;
        recent_.fill({});
        contexts_.clear();
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

    std::size_t capacity_;
    std::array<Recent, 64> recent_{};
    u64 generation_ = 0;
    std::unordered_map<ContextKey, BoundContext, ContextKeyHash> contexts_;
    std::deque<ContextKey> order_;
};

}  // namespace viommu
