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

// What a hit says, for those who need no more. Its small parts are one word, put together in a register.
struct TranslatorHit {
    u64 pa = 0, ipa = 0;
    u32 rest = 0;

    static constexpr u32 packed(u8 page_lg2, u8 rights, u8 attrs1, u8 attrs2) {
        return page_lg2 | u32{rights} << 8 | u32{attrs1} << 16 | u32{attrs2} << 24;
    }
    u8 page_lg2() const { return static_cast<u8>(rest); }
    u8 rights() const { return static_cast<u8>(rest >> 8); }
    u8 attrs1() const { return static_cast<u8>(rest >> 16); }
    u8 attrs2() const { return static_cast<u8>(rest >> 24); }
    bool operator==(const TranslatorHit&) const = default;
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

    // One access, its configuration being cached; false, with nothing done, where it is not.
    bool translate(ContextKey key, u64 iova, u8 access, Result& result) {
        {
            std::scoped_lock lock(mutex_);
            if (hot_hit(key, iova, access, result)) [[likely]]
                return true;
        }
        return translate_at_length(key, iova, access, result);
    }
    // The same if it hits and nobody has the engine: it neither waits nor calls anybody. False, with nothing done,
    // where it is not so. Gives a Result or a TranslatorHit.
    template <typename Answer> bool try_hit(ContextKey key, u64 iova, u8 access, Answer& answer) {
        std::unique_lock lock(mutex_, std::try_to_lock);
        return lock && (hot_hit(key, iova, access, answer) || hit_at_length(key, iova, access, answer));
    }

    // The engine lock, held over a run of rows. Whoever waits for it must not hold the GIL.
    class Session {
    public:
        explicit Session(Translator& t) : lock_(t.mutex_), t_(t) {}

        // Null: the configuration must be resolved first, without this lock.
        BoundContext* context(ContextKey key) { return t_.contexts_.find(key); }
        u64 configuration_generation() const { return t_.contexts_.generation(); }
        // Grows whenever somebody invalidates: whoever lets go of the lock asks whether it has.
        u64 invalidations() const { return t_.times_invalidated_; }
        void translate(ContextKey key, BoundContext& bound, u64 iova, u8 access, Result& result) {
            if (t_.sanitizer_) [[unlikely]]
                t_.translate_checked(key, bound, memory(), iova, access, result);
            else
                t_.translate(bound, *this, iova, access, result);
        }
        void count_refusal(ContextKey key) {
            ++t_.streams_.of(key.requester).faults[static_cast<u8>(FaultKind::configuration)];
        }

        // The parts of a translation, for those who do many at once (batch.hpp). Accesses are already overridden, and
        // cacheable.

        // Whether a translation may be done in parts.
        bool in_parts() const { return !t_.sanitizer_ && !t_.walk_cache_.enabled(); }
        bool caches() const { return t_.iotlb_ != nullptr; }
        IotlbSets::Window window(BoundContext& bound) { return t_.iotlb_->window(t_.look_up(bound)); }
        void prefetch(BoundContext& bound, u64 input) { t_.iotlb_->prefetch(t_.look_up(bound), input); }
        bool holds(BoundContext& bound, u64 input) { return t_.iotlb_->holds(t_.look_up(bound), input); }
        [[gnu::always_inline]] bool find(BoundContext& bound, u64 input, u8 access, IotlbHit& hit) {
            return t_.find(bound, input, access, hit);
        }
        void keep(const BoundContext& bound, u64 input, const PlainWalk& walk) { t_.keep(bound, input, walk); }
        const Tags& tags() const { return t_.tags_; }
        // Whether rows may be walked ahead at all.
        bool in_groups() const { return !t_.sanitizer_; }
        void walk_plain(const BoundContext& bound, PlainRows& rows) {
            bound.context->walk_plain(memory(), t_.scopes(bound), rows);
        }
        void count_resumes(u64 resumes) { t_.walk_cache_.hits += resumes; }
        // An insertion by a window changes no number, lane or context.
        void count_insertions(u64 inserted, u64 evicted) {
            t_.counters_.insertions += inserted;
            t_.counters_.evictions += evicted;
        }
        // Made at the first need: a hit reads no memory.
        View& memory() {
            if (!memory_) memory_.emplace(t_.memory_->view());
            return *memory_;
        }

    private:
        // Let go after the lock is: with a last view ends a buffer, whose owner may want the GIL or the engine.
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
        cool();
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

    // The engine lock, held over a run of invalidations.
    class Invalidations {
    public:
        explicit Invalidations(Translator& t) : lock_(t.mutex_), t_(t) {
            t.cool();
            ++t.times_invalidated_;
        }

        void all() {
            t_.invalidation([this] {
                t_.tags_.invalidate_all();
                if (t_.iotlb_) t_.iotlb_->forget_sizes();
            });
        }
        void stage2_tag(u32 tag, bool stage1_only) {
            t_.invalidation([&] { t_.tags_.invalidate_stage2(tag, stage1_only); });
        }
        void stage1_tag(u32 stage2_tag, u32 stage1_tag) {
            t_.invalidation([&] {
                const TagId id = t_.tags_.find(stage2_tag, stage1_tag);
                if (id != no_tag) t_.tags_.invalidate(id);
            });
        }
        void range(u32 stage2_tag, std::optional<u32> stage1_tag, u64 start, u64 last, bool leaf_only) {
            t_.invalidation([&] { t_.drop_range(stage2_tag, stage1_tag, start, last, leaf_only); });
        }
        void stage2_range(u32 stage2_tag, u64 start, u64 last, bool leaf_only) {
            t_.invalidation([&] { t_.drop_stage2_range(stage2_tag, start, last, leaf_only); });
        }
        void context(ContextKey key) {
            ++t_.counters_.invalidations;
            t_.contexts_.drop(key);
        }
        void requester(u32 requester) {
            ++t_.counters_.invalidations;
            t_.contexts_.drop_requester(requester);
        }
        void contexts() {
            ++t_.counters_.invalidations;
            t_.contexts_.drop_all();
        }

        // What was done once under this lock finds nothing when it is done again, since nothing comes in meanwhile: it
        // need only be counted. False: each invalidation is looked at (the sanitizer does).
        bool repeats() const { return !t_.sanitizer_; }
        u64 count() const { return t_.counters_.invalidations; }
        void repeated(u64 invalidations) { t_.counters_.invalidations += invalidations; }

        // Ranges of one address space that are all 2^`lg2` bytes, aligned: of a stage-1 tag, or (Tags::none) of stage 2
        // alone. Valid under this lock.
        struct Blocks {
            u32 stage2_tag;
            u64 stage1_tag;
            unsigned lg2;
            bool leaf_only;
            TagId own, global;     // the same, if there is no other
            bool nothing = false;  // is cached of them
        };
        Blocks blocks(u32 stage2_tag, u64 stage1_tag, unsigned lg2, bool leaf_only) const {
            const TagId own = t_.tags_.find(stage2_tag, stage1_tag);
            const TagId global = stage1_tag == Tags::none ? own : t_.tags_.find(stage2_tag, Tags::global);
            return {stage2_tag, stage1_tag, lg2, leaf_only, own, global};
        }
        // Calls `each` with a function, and drops the block around every address that this is called with. Counts none.
        // Under this lock, where there is nothing nothing will be.
        template <typename Each> void drop(Blocks& blocks, Each&& each) { t_.drop_blocks(blocks, each); }

    private:
        std::unique_lock<EngineMutex> lock_;
        Translator& t_;
    };

    void invalidate_all() { Invalidations(*this).all(); }
    void invalidate_stage2_tag(u32 tag, bool stage1_only) { Invalidations(*this).stage2_tag(tag, stage1_only); }
    void invalidate_stage1_tag(u32 stage2_tag, u32 stage1_tag) {
        Invalidations(*this).stage1_tag(stage2_tag, stage1_tag);
    }
    void invalidate_range(u32 stage2_tag, std::optional<u32> stage1_tag, u64 start, u64 last, bool leaf_only) {
        Invalidations(*this).range(stage2_tag, stage1_tag, start, last, leaf_only);
    }
    void invalidate_stage2_range(u32 stage2_tag, u64 start, u64 last, bool leaf_only) {
        Invalidations(*this).stage2_range(stage2_tag, start, last, leaf_only);
    }
    void invalidate_context(ContextKey key) { Invalidations(*this).context(key); }
    void invalidate_requester(u32 requester) { Invalidations(*this).requester(requester); }
    void invalidate_contexts() { Invalidations(*this).contexts(); }

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
        cool();
        Counters c = counters_;
        c.streams = streams_.total();
        c.walk_cache_hits = walk_cache_.hits;
        return c;
    }
    StreamCounters stream_counters(u32 requester) {
        std::scoped_lock lock(mutex_);
        cool();
        return streams_.one(requester);
    }
    void reset_counters() {
        std::scoped_lock lock(mutex_);
        cool();
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

    void translate(BoundContext& bound, Session& session, u64 iova, u8 access, Result& result) {
        const Context& context = *bound.context;
        access = context.overridden(access);
        const bool cached = begin(bound, iova, access);
        if (cached && hit(bound, iova, access, result)) return;
        Unobserved observer;
        context.walk(session.memory(), scopes(bound), iova, access, result, observer);
        finish(bound, result, observer.loads);
        if (cached && result.leads_to_memory()) keep(bound, context.cache_input(iova), plain(result));
    }

    // The same, with every use of a cache held against a walk that uses none and leaves no trace.
    void translate_checked(ContextKey key, BoundContext& bound, View& memory, u64 iova, u8 access, Result& result) {
        const Context& context = *bound.context;
        access = context.overridden(access);
        sanitizer_->tick();
        const bool cached = begin(bound, iova, access);
        if (cached && hit(bound, iova, access, result)) {
            const IotlbEntry used = iotlb_->entry_of(look_up(bound), context.cache_input(iova));
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
        if (cached && result.leads_to_memory())
            sanitizer_->made(keep(bound, context.cache_input(iova), plain(result)), recorder);
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

    const LookUp& look_up(BoundContext& bound) {
        iotlb_->prepare(bound.look_up, bound.tag, bound.global_tag, tags_);
        return bound.look_up;
    }
    // A hit that lacks a wanted right is walked again: the tables may have changed, and the fault must be told whole.
    // Nor does one serve a write before the dirty bit is set in memory: a walk sets it.
    [[gnu::always_inline]] bool find(BoundContext& bound, u64 input, u8 access, IotlbHit& hit) {
        if (!iotlb_->find(look_up(bound), input, hit)) return false;
        return hit.facts->serves & bound.context->allowed() & 1u << (access & 15);
    }
    bool hit(BoundContext& bound, u64 iova, u8 access, Result& result) {
        ++bound.stream->lookups;
        IotlbHit hit;
        if (!find(bound, bound.context->cache_input(iova), access, hit)) return false;
        ++bound.stream->hits;
        tell(*bound.context, hit, iova, access, result);
        return true;
    }
    // A hit of any context that is cached; false, with nothing done, where it is none.
    template <typename Answer> [[gnu::noinline]] bool hit_at_length(ContextKey key, u64 iova, u8 access,
                                                                    Answer& answer) {
        BoundContext* const bound = sanitizer_ || !iotlb_ ? nullptr : contexts_.find(key);
        if (!bound) return false;
        const Context& context = *bound->context;
        access = context.overridden(access);
        IotlbHit hit;
        if (!context.cacheable(iova, access) || !find(*bound, context.cache_input(iova), access, hit)) return false;
        bound->stream->count_hits(1);
        tell(context, hit, iova, access, answer);
        keep_hot(key, *bound);
        return true;
    }
    template <typename Answer>
    [[gnu::always_inline]] bool hot_hit(ContextKey key, u64 iova, u8 access, Answer& answer) {
        if (!(key == hot_.key) || (iova & hot_.fixed_bits) != hot_.fixed || access > 15) [[unlikely]]
            return false;
        u64* const set = hot_.hash.set_of(iova);
        const unsigned ways = hot_.probe.ways(iova, set);
        if (!ways) return !hot_.window.only_first() && hit_at_length(key, iova, access, answer);
        const u64 value = hot_.window.use(set, ways);
        if (!hot_.common.covers(value)) [[unlikely]]
            remember(value);
        if (!(hot_.serves >> access & 1)) return false;
        ++hot_.hits;
        hot_.tell(iova, access, hot_.common.frame(value, hot_.probe.lg2) | (iova & hot_.offset), answer);
        return true;
    }
    // What the next hits may have in common with this one.
    [[gnu::noinline]] void remember(u64 value) {
        const LeafFacts& facts = hot_.window.facts_of_slot(value);
        const Context& context = *hot_.bound->context;
        hot_.common = hot_.window.common_of(value);
        hot_.serves = facts.serves & context.allowed();
        tell(context, facts, 0, 0, 0, 0, static_cast<u8>(hot_.probe.lg2), hot_.told);
        for (const u8 privilege : {u8{0}, access::privileged})
            hot_.rest[privilege >> 3] = TranslatorHit::packed(hot_.told.page_lg2, hot_.told.rights.granted(privilege),
                                                              facts.attrs1, facts.attrs2);
    }
    template <typename Answer>
    static void tell(const Context& context, const IotlbHit& hit, u64 iova, u8 access, Answer& answer) {
        const u64 pa = splice(hit.frame, iova, hit.lg2);
        const u64 ipa = hit.ipa_frame ? splice(*hit.ipa_frame, iova, hit.lg2) : pa;
        tell(context, *hit.facts, iova, access, pa, context.has_stage1() ? ipa : iova, hit.lg2, answer);
    }
    static void tell(const Context& context, const LeafFacts& facts, u64, u8 access, u64 pa, u64 ipa, u8 lg2,
                     TranslatorHit& hit) {
        const Rights rights = facts.rights & Rights::both(context.settings().rights);
        hit.pa = pa;
        hit.ipa = ipa;
        hit.rest = TranslatorHit::packed(lg2, rights.granted(access), facts.attrs1, facts.attrs2);
    }
    static void tell(const Context& context, const LeafFacts& facts, u64 iova, u8 access, u64 pa, u64 ipa, u8 lg2,
                     Result& result) {
        result = {};
        result.pa = pa;
        result.iova = iova;
        result.ipa = ipa;
        result.level = facts.level;
        result.page_lg2 = lg2;
        result.attrs1 = facts.attrs1;
        result.attrs2 = facts.attrs2;
        result.access = access;
        result.rights = facts.rights & Rights::both(context.settings().rights);
        result.driver_bits = context.settings().driver_bits;
    }
    [[gnu::noinline]] bool translate_at_length(ContextKey key, u64 iova, u8 access, Result& result) {
        Session session(*this);
        BoundContext* const bound = session.context(key);
        if (!bound) return false;
        session.translate(key, *bound, iova, access, result);
        keep_hot(key, *bound);
        return true;
    }
    void keep_hot(ContextKey key, BoundContext& bound) {
        const Context& context = *bound.context;
        if (sanitizer_ || !iotlb_ || !context.plain() || context.nested()) return;
        const IotlbSets::Window window = iotlb_->window(look_up(bound));
        if (!window || window.fixed() & context.uncached_bits()) return;
        cool();
        hot_.key = key;
        hot_.bound = &bound;
        hot_.window = window;
        hot_.fixed_bits = context.uncached_bits() | window.beyond_bits();
        hot_.fixed = window.fixed();
        hot_.hash = window.hash();
        hot_.probe = window.first_probe();
        hot_.offset = below(hot_.probe.lg2);
        hot_.common = {};
        hot_.has_stage1 = context.has_stage1();
    }
    // A change comes, or somebody counts.
    void cool() {
        if (!hot_.bound) return;
        hot_.bound->stream->count_hits(hot_.hits);
        hot_.hits = 0;
        hot_.bound = nullptr;
        hot_.fixed = ~u64{0};
        hot_.fixed_bits = 0;
    }
    static PlainWalk plain(const Result& r) {
        return {.pa = r.pa,
                .ipa = r.ipa,
                .facts = {r.rights, r.level, r.attrs1, r.attrs2, r.clean},
                .loads = 0,
                .page_lg2 = r.page_lg2,
                .global = r.global};
    }
    IotlbEntry keep(const BoundContext& bound, u64 input, const PlainWalk& walk) {
        IotlbEntry entry;
        entry.page = input >> walk.page_lg2;
        entry.frame = walk.pa;
        entry.ipa_frame = bound.context->nested() ? walk.ipa : walk.pa;
        entry.tag = walk.global ? bound.global_tag : bound.tag;
        entry.lg2 = walk.page_lg2;
        entry.facts = walk.facts;
        cool();
        ++counters_.insertions;
        counters_.evictions += iotlb_->insert(entry, bound.look_up, tags_);
        return entry;
    }

    WalkScopes scopes(const BoundContext& bound) {
        if (!walk_cache_.enabled()) return {};
        return {{walk_cache_, bound.tag, tags_.stale(bound.tag), tags_.now()},
                {walk_cache_, bound.stage2_tag, tags_.stale(bound.stage2_tag), tags_.now()}};
    }

    // One invalidation of translations. Under the sanitizer, what it removed is counted: was it needed?
    template <typename Drop> void invalidation(Drop&& drop) {
        ++counters_.invalidations;
        if (!sanitizer_ || !iotlb_) return drop();
        const std::vector<IotlbEntry> before = iotlb_->live(tags_);
        drop();
        View memory = memory_->view();
        u64 removed = 0, right = 0;
        for (const IotlbEntry& entry : before) {
            if (iotlb_->has(entry, tags_)) continue;
            ++removed;
            right += sanitizer_->still_right(entry, memory);
        }
        sanitizer_->invalidated(removed, right);
    }

    void drop_range(u32 stage2_tag, std::optional<u32> stage1_tag, u64 start, u64 last, bool leaf_only) {
        const TagId global = tags_.find(stage2_tag, Tags::global);
        const TagId own = stage1_tag ? tags_.find(stage2_tag, *stage1_tag) : no_tag;
        const auto belongs = [&](TagId id) {
            const Tags::Space& space = tags_.space(id);
            if (space.stage2_tag != stage2_tag || space.stage1_tag == Tags::none) return false;
            return !stage1_tag || id == own || id == global;
        };
        if (!leaf_only && walk_cache_.enabled()) walk_cache_.drop_range(start, last, belongs);
        if (!iotlb_) return;
        if (!stage1_tag) return drop_overlapping(start, last, belongs);
        if (own != no_tag) iotlb_->drop_range(own, start, last, tags_);
        if (global != no_tag) iotlb_->drop_range(global, start, last, tags_);
    }
    void drop_stage2_range(u32 stage2_tag, u64 start, u64 last, bool leaf_only) {
        const TagId alone = tags_.find(stage2_tag, Tags::none);
        if (alone == no_tag) return;
        if (!leaf_only) walk_cache_.drop_range(start, last, [&](TagId id) { return id == alone; });
        if (iotlb_) iotlb_->drop_range(alone, start, last, tags_);
    }
    template <typename Each> void drop_blocks(Invalidations::Blocks& b, Each&& each) {
        const bool walks = walk_cache_.enabled() && !b.leaf_only;
        if (!walks && iotlb_ && !iotlb_->unbounded()) {
            IotlbSets::Dropping drop = iotlb_->dropping(b.own, b.global, b.lg2, tags_);
            b.nothing = !drop.lanes();
            if (drop.lanes() && drop.possible()) return each(drop);
        }
        if (b.nothing) return each([](u64) {});
        each([&](u64 at) {
            const u64 inside = below(b.lg2), start = at & ~inside, last = at | inside;
            if (b.stage1_tag == Tags::none) return drop_stage2_range(b.stage2_tag, start, last, b.leaf_only);
            drop_range(b.stage2_tag, static_cast<u32>(b.stage1_tag), start, last, b.leaf_only);
        });
    }
    template <typename Belongs> void drop_overlapping(u64 start, u64 last, Belongs&& belongs) {
        iotlb_->drop_if([&](const IotlbEntry& e) { return e.start() <= last && e.last() >= start && belongs(e.tag); });
    }

    std::shared_ptr<Memory> memory_;
    std::shared_ptr<Iotlb> iotlb_;
    EngineMutex mutex_;
    Tags tags_;
    ContextCache contexts_;
    WalkCache walk_cache_;
    Counters counters_;
    u64 times_invalidated_ = 0;  // unlike a counter, never reset
    Streams streams_;
    std::unique_ptr<Sanitizer> sanitizer_;

    // What the next scalar hit needs, if it is of the same context as the last. No `bound`: a change came between.
    struct Hot {
        ContextKey key{};
        u64 fixed_bits = 0, fixed = ~u64{0};  // bits of an address that must be so; without a context none is
        IotlbSets::Window::Hash hash{};
        IotlbSets::Window::FirstProbe probe{};
        u64 offset = 0;
        bool has_stage1 = false;
        // Of the leaf that was hit last, which many pages share.
        unsigned serves = 0;
        IotlbSets::Window::Common common;
        Result told;
        u32 rest[2] = {};  // of a TranslatorHit, by privilege
        u64 hits = 0;      // not yet counted
        BoundContext* bound = nullptr;
        IotlbSets::Window window;

        void tell(u64 iova, u8 access, u64 pa, Result& result) const {
            result = told;
            result.pa = pa;
            result.iova = iova;
            result.ipa = has_stage1 ? pa : iova;
            result.access = access;
        }
        void tell(u64 iova, u8 access, u64 pa, TranslatorHit& hit) const {
            hit.pa = pa;
            hit.ipa = has_stage1 ? pa : iova;
            hit.rest = rest[access >> 3];
        }
    };
    Hot hot_;
};

}  // namespace viommu
