// Many rows at once: in order, as if one by one. Configuration misses are gathered and resolved outside the engine
// lock.
#pragma once

#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "viommu/translator.hpp"

namespace viommu {

struct Rows {
    const u32* requester;
    const u32* pasid;  // null: no row has one
    const u64* iova;
    const u8* access;
    std::size_t size;

    ContextKey key(std::size_t row) const { return {requester[row], pasid ? pasid[row] : no_pasid}; }
};

// One refused row. It crosses to Python as bytes: no padding.
struct FaultRow {
    u64 row, iova, ipa, entry_address, entry_value;
    u8 kind, stage, level, fault_class, missing, rights, access, top, for_top, for_update;
    u8 unused[2];
    u32 driver_bits;

    static FaultRow of(u64 row, const Result& r) {
        return {row,
                r.iova,
                r.ipa,
                r.entry_address,
                r.entry_value,
                static_cast<u8>(r.kind),
                static_cast<u8>(r.stage),
                r.level,
                static_cast<u8>(r.fault_class),
                r.missing,
                r.rights.granted(r.access),
                r.access,
                r.top,
                r.for_top,
                r.for_update,
                {},
                r.driver_bits};
    }
};
static_assert(std::has_unique_object_representations_v<FaultRow>);

struct Columns {
    u64* pa;
    u8* kind;
    u8* page_lg2;
    u8* rights;
    std::vector<FaultRow> faults;

    // A hit.
    void put(std::size_t row, const IotlbEntry& entry, u64 iova, u8 granted) {
        pa[row] = splice(entry.frame, iova, entry.lg2);
        kind[row] = 0;
        page_lg2[row] = entry.lg2;
        rights[row] = granted;
    }
    void put(std::size_t row, const Result& r) {
        pa[row] = r.ok() ? r.pa : 0;
        kind[row] = static_cast<u8>(r.kind);
        page_lg2[row] = r.ok() ? r.page_lg2 : 0;
        rights[row] = r.ok() ? r.rights.granted(r.access) : 0;
        if (!r.ok()) faults.push_back(FaultRow::of(row, r));
    }
};

inline Result refused(u64 iova, u8 access) {
    Result r;
    r.iova = r.ipa = iova;
    r.access = access;
    r.kind = FaultKind::configuration;
    r.fault_class = FaultClass::configuration;
    return r;
}

// Whoever invalidates configuration each time that it is read keeps it from ever being used: that is told, not waited
// for.
inline constexpr unsigned most_resolutions = 1000;
inline constexpr const char* invalidated_in_vain =
    "configuration was invalidated 1000 times while it was being resolved: let resolve, and what runs beside it, "
    "invalidate less";

// A resolver answers for one key, with no lock held; null: the configuration is refused.
using ResolvedContext = std::shared_ptr<const Context>;

class BatchTranslation {
public:
    BatchTranslation(Translator& translator, const Rows& rows, Columns& out)
        : translator_(translator), rows_(rows), out_(out) {}

    template <typename Resolve> void run(Resolve&& resolve) {
        unsigned in_vain = 0;
        while (done_ < rows_.size) {
            const std::size_t before = done_;
            if (!translate_run()) continue;
            in_vain = done_ == before ? in_vain + 1 : 0;
            if (in_vain > most_resolutions) throw std::runtime_error(invalidated_in_vain);
            resolve_ahead(resolve);
        }
    }

private:
    // So many rows share one holding of the lock: invalidations get their turn in between.
    static constexpr std::size_t rows_per_lock = 1024, rows_ahead = 65536;
    // So many look-ups are under way in the host's memory system at once.
    static constexpr std::size_t rows_in_flight = 32;

    // True where it stopped for want of a configuration.
    bool translate_run() {
        Translator::Session session(translator_);
        if (session.configuration_generation() != generation_) refusals_.clear();
        generation_ = session.configuration_generation();
        const std::size_t end = std::min(rows_.size, done_ + rows_per_lock);
        ContextKey recent{};
        const BoundContext* bound = nullptr;
        Translator::Session::Hits hits;
        std::size_t ahead = done_;
        for (; done_ < end; ++done_) {
            const ContextKey key = rows_.key(done_);
            if (!bound || !(key == recent)) {
                hits.count();
                bound = session.context(recent = key);
                hits = bound ? session.hits(*bound) : Translator::Session::Hits();
                ahead = done_;
            }
            const u64 iova = rows_.iova[done_];
            const u8 access = rows_.access[done_];
            if (hits) {
                if (done_ == ahead) ahead = prefetch(hits, ahead, end);
                if (const IotlbEntry* entry = hits.find(iova, access)) {
                    out_.put(done_, *entry, iova, hits.granted(*entry, access));
                    continue;
                }
            }
            Result result;
            if (bound) {
                session.translate(key, *bound, iova, access, result);
            } else {
                if (!refusals_.contains(key)) {
                    hits.count();
                    return true;
                }
                session.count_refusal(key);
                result = refused(iova, access);
            }
            out_.put(done_, result);
        }
        hits.count();
        return false;
    }

    // Asks for the next rows' places in the IOTLB, as if all were the same context's; gives where to go on.
    std::size_t prefetch(const Translator::Session::Hits& hits, std::size_t from, std::size_t end) const {
        const std::size_t to = std::min(end, from + rows_in_flight);
        for (std::size_t row = from; row < to; ++row) hits.prefetch(rows_.iova[row]);
        return to;
    }

    template <typename Resolve> void resolve_ahead(Resolve&& resolve) {
        const u64 generation = translator_.configuration_generation();
        if (generation != generation_) return;
        // The row at hand comes first, and no more keys than the cache holds: it will still be there.
        const std::size_t most = std::min<std::size_t>(translator_.context_capacity(), 4096);
        std::unordered_set<ContextKey, ContextKeyHash> asked;
        const std::size_t end = std::min(rows_.size, done_ + rows_ahead);
        for (std::size_t row = done_; row < end && asked.size() < most; ++row) {
            const ContextKey key = rows_.key(row);
            if (refusals_.contains(key) || asked.contains(key) || translator_.has_context(key)) continue;
            asked.insert(key);
            if (ResolvedContext context = resolve(key); !context)
                refusals_.insert(key);
            else if (!translator_.keep_context(key, std::move(context), generation))
                return;
        }
    }

    Translator& translator_;
    const Rows& rows_;
    Columns& out_;
    std::size_t done_ = 0;
    u64 generation_ = 0;
    std::unordered_set<ContextKey, ContextKeyHash> refusals_;
};

// Each row on its own: no cache, and its stores are taken back before the next.
template <typename Resolve>
void walk_many(const Memory& memory, const Rows& rows, Columns& out, Resolve&& resolve) {
    Overlay overlay;
    View view = memory.view(&overlay);
    Unobserved observer;
    std::unordered_map<ContextKey, ResolvedContext, ContextKeyHash> contexts;
    for (std::size_t row = 0; row < rows.size; ++row) {
        const ContextKey key = rows.key(row);
        const auto [at, fresh] = contexts.try_emplace(key);
        if (fresh) at->second = resolve(key);
        Result result = refused(rows.iova[row], rows.access[row]);
        if (const Context* context = at->second.get())
            context->walk(view, {}, rows.iova[row], context->overridden(rows.access[row]), result, observer);
        view.forget();
        out.put(row, result);
    }
}

}  // namespace viommu
