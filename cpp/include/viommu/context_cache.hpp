// The configuration cache: (requester, PASID) -> Context, first in first out when full.
#pragma once

#include <deque>
#include <memory>
#include <unordered_map>

#include "viommu/context.hpp"
#include "viommu/hash.hpp"
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

// A Context, and its tags as this translator numbers them.
struct BoundContext {
    std::shared_ptr<const Context> context;
    TagId tag = 0;
    TagId global_tag = 0;
    TagId stage2_tag = 0;
    StreamCounters* stream = nullptr;
};

class ContextCache {
public:
    explicit ContextCache(std::size_t capacity) : capacity_(std::max<std::size_t>(capacity, 1)) {}

    std::size_t capacity() const { return capacity_; }
    // Advances with each invalidation: configuration that was read before one must not be kept after it.
    u64 generation() const { return generation_; }

    const BoundContext* find(ContextKey key) const {
        const auto at = contexts_.find(key);
        return at == contexts_.end() ? nullptr : &at->second;
    }
    void insert(ContextKey key, BoundContext context) {
        const auto [at, fresh] = contexts_.insert_or_assign(key, std::move(context));
        if (!fresh) return;
        order_.push_back(key);
        while (contexts_.size() > capacity_) {
            contexts_.erase(order_.front());
            order_.pop_front();
        }
    }
    void drop(ContextKey key) {
        ++generation_;
        if (contexts_.erase(key)) std::erase(order_, key);
    }
    void drop_requester(u32 requester) {
        ++generation_;
        std::erase_if(contexts_, [&](const auto& item) { return item.first.requester == requester; });
        std::erase_if(order_, [&](const ContextKey& key) { return key.requester == requester; });
    }
    void drop_all() {
        ++generation_;
        contexts_.clear();
        order_.clear();
    }

private:
    std::size_t capacity_;
    u64 generation_ = 0;
    std::unordered_map<ContextKey, BoundContext, ContextKeyHash> contexts_;
    std::deque<ContextKey> order_;
};

}  // namespace viommu
