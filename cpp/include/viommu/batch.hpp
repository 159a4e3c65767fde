// Many rows at once: in order, as if one by one. Configuration misses are gathered and resolved outside the engine
// lock.
#pragma once

#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "viommu/row_group.hpp"

namespace viommu {

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
    static constexpr std::size_t rows_per_lock = 4096, rows_ahead = 65536;

    // True where it stopped for want of a configuration.
    bool translate_run() {
        Translator::Session session(translator_);
        if (session.configuration_generation() != generation_) refusals_.clear();
        generation_ = session.configuration_generation();
        const std::size_t end = std::min(rows_.size, done_ + rows_per_lock);
        RowGroup group(session, rows_, out_);
        while (done_ < end) {
            done_ += group.translate(done_, end);
            if (done_ == end) break;
            const ContextKey key = rows_.key(done_);
            if (session.context(key)) continue;
            if (!refusals_.contains(key)) return true;
            session.count_refusal(key);
            out_.put(done_, refused(rows_.iova[done_], rows_.access[done_]));
            ++done_;
        }
        return false;
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
