// Context cache, IOTLB, walk caches and walker over one memory, under one lock.
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "viommu/context_cache.hpp"
#include "viommu/engine_mutex.hpp"
#include "viommu/iotlb.hpp"
#include "viommu/sanitizer.hpp"

namespace viommu {

struct Counters {
    StreamCounters streams;  // of all streams together
    u64 insertions = 0, evictions = 0, context_misses = 0, walk_cache_hits = 0, invalidations = 0;

    u64 context_hits() const { return streams.translations - std::min(streams.translations, context_misses); }
};

class Translator {
public:
    Translator(std::shared_ptr<Memory> memory, std::shared_ptr<Iotlb> iotlb, std::size_t context_entries,
               std::size_t walk_cache_entries, bool sanitize = false)
        : memory_(std::move(memory)),
          iotlb_(std::move(iotlb)),
          contexts_(context_entries),
          walk_cache_(walk_cache_entries),
          sanitizer_(sanitize ? std::make_unique<Sanitizer>() : nullptr) {
        if (iotlb_) iotlb_->claim();
    }
    ~Translator() {
        if (iotlb_) iotlb_->release();
    }
    Translator(const Translator&) = delete;

    // The engine lock, held over a run of rows. Whoever waits for it must not hold the GIL.
    class Session {
    public:
        explicit Session(Translator& t) : lock_(t.mutex_), t_(t) { memory_.emplace(t.memory_->view()); }

        // Null: the configuration must be resolved first, without this lock.
        const BoundContext* context(ContextKey key) const { return t_.contexts_.find(key); }
        u64 configuration_generation() const { return t_.contexts_.generation(); }
        void translate(ContextKey key, const BoundContext& bound, u64 iova, u8 access, Result& result) {
            if (t_.sanitizer_) [[unlikely]]
                t_.translate_checked(key, bound, *memory_, iova, access, result);
            else
                t_.translate(bound, *memory_, iova, access, result);
        }
        // What of a look-up depends on the context alone, prepared once for a run of rows under this lock. It finds
        // plain hits and nothing else: whatever is more is for `translate`.
        class Hits {
        public:
            Hits() = default;
            Hits(Translator& t, const BoundContext& bound) {
                const Context& context = *bound.context;
                if (!t.iotlb_ || t.sanitizer_ || !context.plain()) return;
                iotlb_ = t.iotlb_.get();
                tag_ = bound.tag;
                stale_ = t.tags_.stale(bound.tag);
                if (bound.global_tag != bound.tag) {
                    global_ = &t.tags_.space(bound.global_tag);
                    global_tag_ = bound.global_tag;
                    global_stale_ = t.tags_.stale(bound.global_tag);
                }
                uncached_bits_ = context.uncached_bits();
                granted_ = Rights::both(context.settings().rights);
                stream_ = bound.stream;
            }
            explicit operator bool() const { return iotlb_; }

            void prefetch(u64 iova) const { iotlb_->prefetch(tag_, iova); }
            const IotlbEntry* find(u64 iova, u8 access) {
                if (iova & uncached_bits_) return nullptr;
                const IotlbEntry* entry = iotlb_->find(tag_, stale_, iova);
                if (!entry && global_ && global_->used) entry = iotlb_->find(global_tag_, global_stale_, iova);
                if (!entry || (entry->rights & granted_).missing(access) || (entry->clean && (access & access::write)))
                    return nullptr;
                ++hits_;
                return entry;
            }
            u8 granted(const IotlbEntry& entry, u8 access) const { return (entry.rights & granted_).granted(access); }

            // Hits are counted when a run is over.
            void count() {
                if (!hits_) return;
                stream_->translations += hits_;
                stream_->lookups += hits_;
                stream_->hits += hits_;
                hits_ = 0;
            }

        private:
            Iotlb* iotlb_ = nullptr;
            TagId tag_ = 0, global_tag_ = 0;
            u64 stale_ = 0, global_stale_ = 0, uncached_bits_ = 0, hits_ = 0;
            const Tags::Space* global_ = nullptr;
            Rights granted_;
            StreamCounters* stream_ = nullptr;
        };
        Hits hits(const BoundContext& bound) { return Hits(t_, bound); }
        void count_refusal(ContextKey key) {
            ++t_.streams_.of(key.requester).faults[static_cast<u8>(FaultKind::configuration)];
        }

    private:
        // Taken after the lock and let go after it: with a last view ends a buffer, whose owner may want the GIL or the
        // engine.
        std::optional<View> memory_;
        std::unique_lock<EngineMutex> lock_;
        Translator& t_;
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
            contexts_.insert(key, {std::move(context), alone, alone, alone, &streams_.of(key.requester)});
            return true;
        }
        const TagId own = tags_.intern(s.stage2_tag, s.stage1_tag), global = tags_.intern(s.stage2_tag, Tags::global);
        contexts_.insert(key, {std::move(context), own, global, alone, &streams_.of(key.requester)});
        return true;
    }

    void invalidate_all() {
        invalidation([this] {
            tags_.invalidate_all();
            if (iotlb_) iotlb_->forget_sizes();
        });
    }
    void invalidate_stage2_tag(u32 tag, bool stage1_only) {
        invalidation([&] { tags_.invalidate_stage2(tag, stage1_only); });
    }
    void invalidate_stage1_tag(u32 stage2_tag, u32 stage1_tag) {
        invalidation([&] {
            if (const auto id = tags_.find(stage2_tag, stage1_tag)) tags_.invalidate(*id);
        });
    }
    void invalidate_range(u32 stage2_tag, std::optional<u32> stage1_tag, u64 start, u64 last, bool leaf_only) {
        invalidation([&] { drop_range(stage2_tag, stage1_tag, start, last, leaf_only); });
    }
    void invalidate_stage2_range(u32 stage2_tag, u64 start, u64 last, bool leaf_only) {
        invalidation([&] {
            const auto alone = tags_.find(stage2_tag, Tags::none);
            if (!alone) return;
            if (!leaf_only) walk_cache_.drop_range(start, last, [&](TagId id) { return id == *alone; });
            if (iotlb_) iotlb_->drop_range(*alone, start, last);
        });
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

    bool sanitizes() const { return sanitizer_ != nullptr; }
    // The sanitizer's time: translations so far.
    u64 sanitizer_now() {
        std::scoped_lock lock(mutex_);
        return sanitizer_ ? sanitizer_->now() : 0;
    }
    SanitizerCounts sanitizer_counts() {
        std::scoped_lock lock(mutex_);
        return sanitizer_ ? sanitizer_->counts() : SanitizerCounts{};
    }
    std::vector<StaleUse> take_stale_uses() {
        std::scoped_lock lock(mutex_);
        return sanitizer_ ? sanitizer_->take_reports() : std::vector<StaleUse>{};
    }
    // The cached configuration, for those who check whether it is still right.
    std::shared_ptr<const Context> cached_context(ContextKey key) {
        std::scoped_lock lock(mutex_);
        const BoundContext* bound = contexts_.find(key);
        return bound ? bound->context : nullptr;
    }

    Counters counters() {
        std::scoped_lock lock(mutex_);
        Counters c = counters_;
        c.streams = streams_.total();
        c.walk_cache_hits = walk_cache_.hits;
        return c;
    }
    StreamCounters stream_counters(u32 requester) {
        std::scoped_lock lock(mutex_);
        return streams_.one(requester);
    }
    void reset_counters() {
        std::scoped_lock lock(mutex_);
        counters_ = {};
        streams_.reset();
        walk_cache_.hits = 0;
    }
    std::size_t live_entries() {
        std::scoped_lock lock(mutex_);
        return iotlb_ ? iotlb_->live(tags_).size() : 0;
    }

private:
    // Guests choose ASIDs: what they may make us remember has a bound.
    static constexpr std::size_t most_tags = std::size_t{1} << 20;

    void forget_tags() {
        if (sanitizer_) sanitizer_->forget();
        tags_.clear();
        contexts_.drop_all();
        if (iotlb_) iotlb_->clear();
        walk_cache_.clear();
    }

    void translate(const BoundContext& bound, View& memory, u64 iova, u8 access, Result& result) {
        const Context& context = *bound.context;
        access = context.overridden(access);
        const bool cached = begin(bound, iova, access);
        if (cached && hit(bound, iova, access, result)) return;
        Unobserved observer;
        context.walk(memory, scopes(bound), iova, access, result, observer);
        finish(bound, result, observer.loads);
        if (cached && result.ok()) keep(bound, result);
    }

    // The same, with every use of a cache held against a walk that uses none and leaves no trace.
    void translate_checked(ContextKey key, const BoundContext& bound, View& memory, u64 iova, u8 access,
                           Result& result) {
        const Context& context = *bound.context;
        access = context.overridden(access);
        sanitizer_->tick();
        const bool cached = begin(bound, iova, access);
        if (cached && hit(bound, iova, access, result)) {
            const IotlbEntry used = *recent_hit_;
            sanitizer_->used(
                used, memory,
                use_of(CacheKind::iotlb, key, used.tag, used.lg2, result, walk_afresh(context, iova, access)));
            return;
        }
        const Result fresh = walk_cache_.enabled() ? walk_afresh(context, iova, access) : Result{};
        Recorder recorder;
        context.walk(memory, scopes(bound), iova, access, result, recorder);
        finish(bound, result, recorder.loads);
        if (walk_cache_.enabled() && result.ok())
            sanitizer_->resumed(use_of(CacheKind::walk_cache, key, bound.tag, result.page_lg2, result, fresh));
        if (cached && result.ok()) sanitizer_->made(keep(bound, result), recorder);
    }
    Result walk_afresh(const Context& context, u64 iova, u8 access) {
        Overlay overlay;
        View view = memory_->view(&overlay);
        Unobserved observer;
        Result fresh;
        context.walk(view, {}, iova, access, fresh, observer);
        view.forget();
        return fresh;
    }

    // Whether the IOTLB has a say in this access.
    bool begin(const BoundContext& bound, u64 iova, u8 access) {
        ++bound.stream->translations;
        return iotlb_ && bound.context->cacheable(iova, access);
    }
    static void finish(const BoundContext& bound, const Result& result, u64 loads) {
        ++bound.stream->walks;
        bound.stream->entry_loads += loads;
        if (!result.ok()) ++bound.stream->faults[static_cast<u8>(result.kind)];
    }
    StaleUse use_of(CacheKind cache, ContextKey key, TagId tag, u8 page_lg2, const Result& cached,
                    const Result& fresh) const {
        StaleUse use;
        use.requester = key.requester;
        use.pasid = key.pasid;
        use.cache = cache;
        use.stage2_tag = tags_.space(tag).stage2_tag;
        use.stage1_tag = tags_.space(tag).stage1_tag;
        use.page_lg2 = page_lg2;
        use.cached = cached;
        use.fresh = fresh;
        return use;
    }

    // A hit that lacks a wanted right is walked again: the tables may have changed, and the fault must be told whole.
    bool hit(const BoundContext& bound, u64 iova, u8 access, Result& result) {
        ++bound.stream->lookups;
        const Context& context = *bound.context;
        const Rights granted = Rights::both(context.settings().rights);
        const u64 input = context.cache_input(iova);
        const IotlbEntry* entry = iotlb_->find(bound.tag, tags_.stale(bound.tag), input);
        if (!entry && bound.global_tag != bound.tag && tags_.space(bound.global_tag).used)
            entry = iotlb_->find(bound.global_tag, tags_.stale(bound.global_tag), input);
        if (!entry || (entry->rights & granted).missing(access)) return false;
        // Without the dirty bit set in memory a write must walk, to set it.
        if (entry->clean && (access & access::write)) return false;
        ++bound.stream->hits;
        recent_hit_ = entry;
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
    IotlbEntry keep(const BoundContext& bound, const Result& result) {
        IotlbEntry entry;
        entry.page = bound.context->cache_input(result.iova) >> result.page_lg2;
        entry.sequence = tags_.now();
        entry.frame = result.pa;
        entry.ipa_frame = result.ipa;
        entry.tag = result.global ? bound.global_tag : bound.tag;
        tags_.use(entry.tag);
        entry.lg2 = result.page_lg2;
        entry.level = result.level;
        entry.attrs1 = result.attrs1;
        entry.attrs2 = result.attrs2;
        entry.rights = result.rights;
        entry.clean = result.clean;
        ++counters_.insertions;
        counters_.evictions += iotlb_->insert(entry, tags_);
        return entry;
    }

    WalkScopes scopes(const BoundContext& bound) {
        if (!walk_cache_.enabled()) return {};
        return {{walk_cache_, bound.tag, tags_.stale(bound.tag), tags_.now()},
                {walk_cache_, bound.stage2_tag, tags_.stale(bound.stage2_tag), tags_.now()}};
    }

    // One invalidation of translations. Under the sanitizer, what it removed is counted: was it needed?
    template <typename Drop> void invalidation(Drop&& drop) {
        std::scoped_lock lock(mutex_);
        ++counters_.invalidations;
        if (!sanitizer_ || !iotlb_) return drop();
        const std::vector<const IotlbEntry*> live = iotlb_->live(tags_);
        std::vector<IotlbEntry> before;
        for (const IotlbEntry* entry : live) before.push_back(*entry);
        drop();
        View memory = memory_->view();
        u64 removed = 0, right = 0;
        for (std::size_t i = 0; i < live.size(); ++i) {
            if (Iotlb::alive(*live[i], tags_)) continue;
            ++removed;
            right += sanitizer_->still_right(before[i], memory);
        }
        sanitizer_->invalidated(removed, right);
    }

    void drop_range(u32 stage2_tag, std::optional<u32> stage1_tag, u64 start, u64 last, bool leaf_only) {
        const auto global = tags_.find(stage2_tag, Tags::global);
        const auto own = stage1_tag ? tags_.find(stage2_tag, *stage1_tag) : std::nullopt;
        const auto belongs = [&](TagId id) {
            const Tags::Space& space = tags_.space(id);
            if (space.stage2_tag != stage2_tag || space.stage1_tag == Tags::none) return false;
            return !stage1_tag || id == own || id == global;
        };
        if (!leaf_only) walk_cache_.drop_range(start, last, belongs);
        if (!iotlb_) return;
        if (!stage1_tag) return drop_overlapping(start, last, belongs);
        if (own) iotlb_->drop_range(*own, start, last);
        if (global) iotlb_->drop_range(*global, start, last);
    }
    template <typename Belongs> void drop_overlapping(u64 start, u64 last, Belongs&& belongs) {
        iotlb_->drop_if([&](const IotlbEntry& e) {
            const u64 first = e.page << e.lg2;
            return first <= last && (first | below(e.lg2)) >= start && belongs(e.tag);
        });
    }

    std::shared_ptr<Memory> memory_;
    std::shared_ptr<Iotlb> iotlb_;
    EngineMutex mutex_;
    Tags tags_;
    ContextCache contexts_;
    WalkCache walk_cache_;
    Counters counters_;
    Streams streams_;
    const IotlbEntry* recent_hit_ = nullptr;
    std::unique_ptr<Sanitizer> sanitizer_;
};

}  // namespace viommu
