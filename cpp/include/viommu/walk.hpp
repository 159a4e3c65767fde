// The walker: one for every format and both stages. Nested translation is this walker over `Behind`, a memory whose
// every load and store is translated by stage 2 first.
#pragma once

#include <optional>
#include <vector>

#include "viommu/format.hpp"
#include "viommu/memory.hpp"
#include "viommu/walk_cache.hpp"

namespace viommu {

// One entry that a walk read, for those who explain it.
struct StepRecord {
    const char* format;
    Stage stage;
    FaultClass fault_class;
    u8 level;
    u8 page_lg2;
    u8 rights;
    Step::Verdict verdict;
    FaultKind kind;
    u64 input;
    u64 address;
    u64 pa;
    u64 raw;
    u64 output;
    u64 updated;
    bool swapped;  // big-endian in memory

    // The word as memory holds it once the walk is done.
    u64 memory_value() const { return swapped ? __builtin_bswap64(updated) : updated; }
};

// Observers are compiled in: the fast path has none, and there is no second walk to disagree with the first.
struct Unobserved {
    static constexpr bool enabled = false;
    void loaded() { ++loads; }
    u64 loads = 0;
};
struct Recorder {
    static constexpr bool enabled = true;
    void loaded() { ++loads; }
    std::vector<StepRecord> steps;
    u64 loads = 0;
};

struct AddressRange {
    u64 start, last;

    bool operator==(const AddressRange&) const = default;
    bool contains(u64 address) const { return address - start <= last - start; }
    bool meets_page(u64 address, unsigned lg2) const {
        return (address & ~below(lg2)) <= last && (address | below(lg2)) >= start;
    }
};

// What a walk of one stage is for.
struct Purpose {
    Stage stage;
    FaultClass fault_class = FaultClass::input;
    u8 access = 0;
    const AddressRange* blocked = nullptr;  // final pages that no DMA may touch
    u8 page_lg2 = whole_lg2;                // of the other stage: the final page is the smaller one
    WalkCache::Scope cache;                 // where partial walks are kept, if anywhere
};

// What one stage made of its input.
struct StageOutput {
    u64 address = 0;
    u64 raw = 0;
    u64 entry_pa = 0;
    u8 lg2 = 0;
    u8 level = 0;
    u8 attrs = 0;
    Rights rights;
    bool clean = false;
    bool global = false;
};

// An entry as it was found: its value, and where it really lies.
struct Fetched {
    u64 raw = 0;
    u64 pa = 0;
};

// Entries at physical addresses.
class Direct {
public:
    explicit Direct(View& memory) : memory_(memory) {}

    bool load(u64 address, bool, Fetched& entry, Result& result) {
        entry.pa = address;
        if (memory_.load(address, entry.raw)) return true;
        result.kind = FaultKind::external_abort;
        result.entry_address = address;
        return false;
    }
    std::optional<Exchange> update(u64, bool, const Fetched& entry, u64 expected, u64 desired, Result&) {
        return memory_.compare_exchange(entry.pa, expected, desired);
    }

private:
    View& memory_;
};

template <Format F, typename Entries, typename Observer>
bool walk_stage(const F& format, Entries& entries, u64 input, const Purpose& purpose, Observer& observer,
                StageOutput& out, Result& result);

// Stage-1 entries at addresses that stage 2 translates: reads for fetches, writes for accessed/dirty stores.
template <Format S2, typename Observer> class Behind {
public:
    Behind(const S2& stage2, View& memory, WalkCache::Scope cache, Observer& observer)
        : stage2_(stage2), memory_(memory), direct_(memory), cache_(cache), observer_(observer) {}

    bool load(u64 ipa, bool top, Fetched& entry, Result& result) {
        if (!translate(ipa, access::read, top, entry.pa, result)) return false;
        if (direct_.load(entry.pa, top, entry, result)) return true;
        result.stage = Stage::stage1;
        return false;
    }
    // Nothing where stage 2 refuses the store (the result then says so).
    std::optional<Exchange> update(u64 ipa, bool top, const Fetched& entry, u64 expected, u64 desired, Result& result) {
        u64 pa;
        if (!translate(ipa, access::write, top, pa, result)) {
            result.for_update = true;
            return std::nullopt;
        }
        if (pa != entry.pa) return Exchange::changed;  // stage 2 leads elsewhere by now: look again
        return memory_.compare_exchange(pa, expected, desired);
    }

private:
    bool translate(u64 ipa, u8 want, bool top, u64& pa, Result& result) {
        const Purpose purpose{.stage = Stage::stage2,
                              .fault_class = FaultClass::table,
                              .access = static_cast<u8>(want | access::table_fetch),
                              .cache = cache_};
        StageOutput out;
        if (walk_stage(stage2_, direct_, ipa, purpose, observer_, out, result)) {
            pa = out.address;
            return true;
        }
        result.ipa = ipa;
        result.for_top = top;
        return false;
    }

    const S2& stage2_;
    View& memory_;
    Direct direct_;
    WalkCache::Scope cache_;
    Observer& observer_;
};

constexpr u64 splice(u64 frame, u64 input, unsigned lg2) { return (frame & ~below(lg2)) | (input & below(lg2)); }

// Walks one stage; on a fault fills `result` and returns false. Ends whatever the tables hold: levels must fall.
template <Format F, typename Entries, typename Observer>
bool walk_stage(const F& format, Entries& entries, u64 input, const Purpose& purpose, Observer& observer,
                StageOutput& out, Result& result) {
    // A store that keeps losing against other writers must end too.
    constexpr int most_retries = 64;

    WalkState state;
    const Begin begin = format.begin(input, state, purpose.access);
    const auto fault = [&](FaultKind kind, unsigned level, u64 entry_address, u64 entry_value, u8 missing) {
        result.kind = kind;
        result.stage = purpose.stage;
        result.fault_class = purpose.fault_class;
        result.level = static_cast<u8>(level);
        result.entry_address = entry_address;
        result.entry_value = entry_value;
        result.missing = missing;
        result.rights = state.rights;
        result.top = level == begin.level;
        return false;
    };
    if (begin.fault != FaultKind::none) return fault(begin.fault, begin.level, 0, 0, 0);

    u64 table = begin.table;
    unsigned level = begin.level;
    if (purpose.cache) purpose.cache.resume(format, input, purpose.access, table, level, state);

    for (int retries = 0;;) {
        const u64 address = format.entry_address(table, input, level, state);
        const bool top = level == begin.level;
        Fetched entry;
        observer.loaded();
        if (!entries.load(address, top, entry, result)) {
            if (result.kind != FaultKind::external_abort || result.stage == Stage::stage2) return false;
            if constexpr (Observer::enabled)
                observer.steps.push_back({F::name, purpose.stage, purpose.fault_class, static_cast<u8>(level), 0, 0,
                                          Step::Verdict::fault, FaultKind::external_abort, input, address, entry.pa, 0,
                                          0, 0, false});
            return fault(FaultKind::external_abort, level, entry.pa, 0, 0);
        }
        const u64 raw = format.big_endian() ? __builtin_bswap64(entry.raw) : entry.raw;
        const WalkState before = state;
        Step step = format.step(raw, input, level, state, purpose.access);
        if (step.verdict == Step::Verdict::table && step.level >= level) step = Step::refuse(FaultKind::malformed);

        u64 output = step.address;
        if (step.verdict == Step::Verdict::leaf) {
            output = splice(step.address, input, step.lg2);
            if (purpose.blocked && purpose.blocked->meets_page(output, std::min(step.lg2, purpose.page_lg2)))
                step = Step::refuse(FaultKind::blocked_output);
        }
        const bool store = step.verdict != Step::Verdict::fault && step.updated != raw;
        if (store && !format.updates_allowed()) step = Step::refuse(FaultKind::update_forbidden);

        if constexpr (Observer::enabled)
            observer.steps.push_back({F::name, purpose.stage, purpose.fault_class, static_cast<u8>(level), step.lg2,
                                      state.rights.granted(purpose.access), step.verdict, step.fault, input, address,
                                      entry.pa, raw, output, step.verdict == Step::Verdict::fault ? raw : step.updated,
                                      format.big_endian()});
        if (step.verdict == Step::Verdict::fault) {
            result.for_update = step.fault == FaultKind::update_forbidden;
            return fault(step.fault, level, entry.pa, raw, step.missing);
        }
        if (store) {
            const u64 desired = format.big_endian() ? __builtin_bswap64(step.updated) : step.updated;
            const std::optional<Exchange> exchange = entries.update(address, top, entry, entry.raw, desired, result);
            if (!exchange) return false;
            if (*exchange == Exchange::changed && ++retries <= most_retries) {
                state = before;
                continue;  // somebody else wrote the entry: what it means now must be asked again
            }
            if (*exchange != Exchange::stored) {
                result.for_update = true;
                return fault(FaultKind::update_failed, level, entry.pa, raw, 0);
            }
        }
        if (step.verdict == Step::Verdict::leaf) {
            out = {.address = output,
                   .raw = raw,
                   .entry_pa = entry.pa,
                   .lg2 = step.lg2,
                   .level = static_cast<u8>(level),
                   .attrs = format.attrs(raw, level, state),
                   .rights = state.rights,
                   .clean = step.clean,
                   .global = format.global(raw)};
            return true;
        }
        table = step.address;
        level = step.level;
        if (purpose.cache) purpose.cache.keep(format, input, table, level, state);
    }
}

}  // namespace viommu
