// Context cache, IOTLB, walk caches and walker over one memory, under one lock.
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "viommu/context_cache.hpp"
#include "viommu/iotlb.hpp"

namespace viommu {

struct Counters {
    u64 lookups = 0, hits = 0, misses = 0, insertions = 0, evictions = 0, walks = 0, entry_loads = 0, faults = 0,
        context_hits = 0, context_misses = 0, walk_cache_hits = 0, invalidations = 0;
};

class Translator {
public:
    Translator(std::shared_ptr<Memory> memory, std::shared_ptr<Iotlb> iotlb, std::size_t context_entries,
               std::size_t walk_cache_entries)
        : memory_(std::move(memory)), iotlb_(std::move(iotlb)), contexts_(context_entries), walk_cache_(walk_cache_entries) {
        if (iotlb_) iotlb_->clear();
    }

    // The engine lock, held over a run of rows. Whoever waits for it must not hold the GIL.
    class Session {
    public:
        explicit Session(Translator& t) : lock_(t.mutex_), t_(t), memory_(t.memory_->view()) {}

        // Null: the configuration must be resolved first, without this lock.
        const BoundContext* context(ContextKey key) const { return t_.contexts_.find(key); }
        u64 configuration_generation() const { return t_.contexts_.generation(); }
        void translate(const BoundContext& bound, u64 iova, u8 access, Result& result) {
            t_.translate(bound, memory_, iova, access, result);
        }
        void count_refusal() { ++t_.counters_.faults; }

    private:
        std::unique_lock<std::mutex> lock_;
        Translator& t_;
        View memory_;
    };

    Memory& memory() { return *memory_; }
    std::shared_ptr<Iotlb> iotlb() const { return iotlb_; }
    std::size_t context_capacity() const { return contexts_.capacity(); }

    u64 configuration_generation() {
        std::scoped_lock lock(mutex_);
        return contexts_.generation();
    }
    bool has_context(ContextKey key) {
        std::scoped_lock lock(mutex_);
        return contexts_.find(key);
    }
    // False where configuration was invalidated since `generation`: what was resolved must be resolved again.
    bool keep_context(ContextKey key, std::shared_ptr<const Context> context, u64 generation) {
        std::scoped_lock lock(mutex_);
        if (contexts_.generation() != generation) return false;
        if (tags_.size() > most_tags) forget_tags();
        ++counters_.context_misses;
        const ContextSettings& s = context->settings();
        const TagId alone = tags_.intern(s.stage2_tag, Tags::none);
        if (!context->has_stage1()) {
            contexts_.insert(key, {std::move(context), alone, alone, alone});
            return true;
        }
        const TagId own = tags_.intern(s.stage2_tag, s.stage1_tag), global = tags_.intern(s.stage2_tag, Tags::global);
        contexts_.insert(key, {std::move(context), own, global, alone});
        return true;
    }

    void invalidate_all() {
        std::scoped_lock lock(mutex_);
        ++counters_.invalidations;
        tags_.invalidate_all();
        if (iotlb_) iotlb_->forget_sizes();
    }
    void invalidate_stage2_tag(u32 tag, bool stage1_only) {
        std::scoped_lock lock(mutex_);
        ++counters_.invalidations;
        tags_.invalidate_stage2(tag, stage1_only);
    }
    void invalidate_stage1_tag(u32 stage2_tag, u32 stage1_tag) {
        std::scoped_lock lock(mutex_);
        ++counters_.invalidations;
        if (const auto id = tags_.find(stage2_tag, stage1_tag)) tags_.invalidate(*id);
    }
    void invalidate_range(u32 stage2_tag, std::optional<u32> stage1_tag, u64 start, u64 last, bool leaf_only) {
        std::scoped_lock lock(mutex_);
        ++counters_.invalidations;
        const auto global = tags_.find(stage2_tag, Tags::global);
        const auto own = stage1_tag ? tags_.find(stage2_tag, *stage1_tag) : std::nullopt;
        const auto belongs = [&](TagId id) {
            const Tags::Space& space = tags_.space(id);
            if (space.stage2_tag != stage2_tag || space.stage1_tag == Tags::none) return false;
            return !stage1_tag || id == own || id == global;
        };
        if (!leaf_only) walk_cache_.drop_range(start, last, belongs);
        if (!iotlb_) return;
        if (!stage1_tag) {
            drop_overlapping(start, last, belongs);
            return;
        }
        if (own) iotlb_->drop_range(*own, start, last);
        if (global) iotlb_->drop_range(*global, start, last);
    }
    void invalidate_stage2_range(u32 stage2_tag, u64 start, u64 last, bool leaf_only) {
        std::scoped_lock lock(mutex_);
        ++counters_.invalidations;
        const auto alone = tags_.find(stage2_tag, Tags::none);
        if (!alone) return;
        if (!leaf_only) walk_cache_.drop_range(start, last, [&](TagId id) { return id == *alone; });
        if (iotlb_) iotlb_->drop_range(*alone, start, last);
    }
    void invalidate_context(ContextKey key) {
        std::scoped_lock lock(mutex_);
        ++counters_.invalidations;
        contexts_.drop(key);
    }
    void invalidate_requester(u32 requester) {
        std::scoped_lock lock(mutex_);
        ++counters_.invalidations;
        contexts_.drop_requester(requester);
    }
    void invalidate_contexts() {
        std::scoped_lock lock(mutex_);
        ++counters_.invalidations;
        contexts_.drop_all();
    }

    Counters counters() {
        std::scoped_lock lock(mutex_);
        Counters c = counters_;
        c.walk_cache_hits = walk_cache_.hits;
        c.context_hits -= std::min(c.context_hits, c.context_misses);  // a resolved miss is looked up once more
        return c;
    }
    void reset_counters() {
        std::scoped_lock lock(mutex_);
        counters_ = {};
        walk_cache_.hits = 0;
    }
    std::size_t live_entries() {
        std::scoped_lock lock(mutex_);
        return iotlb_ ? iotlb_->live(tags_) : 0;
    }

private:
    // Guests choose ASIDs: what they may make us remember has a bound.
    static constexpr std::size_t most_tags = std::size_t{1} << 20;

    void forget_tags() {
        tags_.clear();
        contexts_.drop_all();
        if (iotlb_) iotlb_->clear();
    }

    void translate(const BoundContext& bound, View& memory, u64 iova, u8 access, Result& result) {
        ++counters_.context_hits;
        const Context& context = *bound.context;
        access = context.overridden(access);
        const bool cached = iotlb_ && context.cacheable(iova, access);
        if (cached && hit(bound, iova, access, result)) return;
        Unobserved observer;
        context.walk(memory, scopes(bound), iova, access, result, observer);
        ++counters_.walks;
        counters_.entry_loads += observer.loads;
        counters_.faults += !result.ok();
        if (cached && result.ok()) keep(bound, result);
    }

    // A hit that lacks a wanted right is walked again: the tables may have changed, and the fault must be told whole.
    bool hit(const BoundContext& bound, u64 iova, u8 access, Result& result) {
        ++counters_.lookups;
        const Context& context = *bound.context;
        const Rights granted = Rights::both(context.settings().rights);
        const u64 input = context.cache_input(iova);
        const IotlbEntry* entry = iotlb_->find(bound.tag, tags_.stale(bound.tag), input);
        if (!entry && bound.global_tag != bound.tag)
            entry = iotlb_->find(bound.global_tag, tags_.stale(bound.global_tag), input);
        if (!entry || (entry->rights & granted).missing(access)) {
            ++counters_.misses;
            return false;
        }
        ++counters_.hits;
        result = {};
        result.iova = iova;
        result.access = access;
        result.pa = splice(entry->frame, iova, entry->lg2);
        result.ipa = context.has_stage1() ? splice(entry->ipa_frame, iova, entry->lg2) : iova;
        result.page_lg2 = entry->lg2;
        result.level = entry->level;
        result.attrs1 = entry->attrs1;
        result.attrs2 = entry->attrs2;
        result.rights = entry->rights & granted;
        result.driver_bits = context.settings().driver_bits;
        return true;
    }
    void keep(const BoundContext& bound, const Result& result) {
        IotlbEntry entry;
        entry.page = bound.context->cache_input(result.iova) >> result.page_lg2;
        entry.sequence = tags_.now();
        entry.frame = result.pa;
        entry.ipa_frame = result.ipa;
        entry.tag = result.global ? bound.global_tag : bound.tag;
        entry.lg2 = result.page_lg2;
        entry.level = result.level;
        entry.attrs1 = result.attrs1;
        entry.attrs2 = result.attrs2;
        // Without the dirty bit set in memory a later write must walk, to set it.
        entry.rights = result.clean ? result.rights.without(Rights::both(access::write)) : result.rights;
        ++counters_.insertions;
        counters_.evictions += iotlb_->insert(entry, tags_);
    }

    WalkScopes scopes(const BoundContext& bound) {
        if (!walk_cache_.enabled()) return {};
        return {{walk_cache_, bound.tag, tags_.stale(bound.tag), tags_.now()},
                {walk_cache_, bound.stage2_tag, tags_.stale(bound.stage2_tag), tags_.now()}};
    }

    template <typename Belongs> void drop_overlapping(u64 start, u64 last, Belongs&& belongs) {
        iotlb_->drop_if([&](const IotlbEntry& e) {
            const u64 first = e.page << e.lg2;
            return first <= last && (first | below(e.lg2)) >= start && belongs(e.tag);
        });
    }

    std::shared_ptr<Memory> memory_;
    std::shared_ptr<Iotlb> iotlb_;
    std::mutex mutex_;
    Tags tags_;
    ContextCache contexts_;
    WalkCache walk_cache_;
    Counters counters_;
};

}  // namespace viommu
