// A Context: all that the translation of one (requester, PASID) needs, and the walk compiled for its pair of formats.
#pragma once

#include <memory>
#include <optional>
#include <variant>

#include "viommu/flat_table.hpp"
#include "viommu/fmt/amd_v1.hpp"
#include "viommu/fmt/arm.hpp"
#include "viommu/fmt/described.hpp"
#include "viommu/fmt/riscv.hpp"
#include "viommu/fmt/vtd_ss.hpp"
#include "viommu/fmt/x86.hpp"
#include "viommu/plain_walk.hpp"
#include "viommu/walk_group.hpp"

namespace viommu {

using NoStage = std::monostate;
using Stage1 = std::variant<NoStage, fmt::ArmStage1, fmt::X86, fmt::Riscv, fmt::Described>;
using Stage2 = std::variant<NoStage, fmt::ArmStage2, fmt::VtdSecondStage, fmt::AmdV1, fmt::Riscv, fmt::Described>;

// Where partial walks of each stage are kept; empty: nowhere.
struct WalkScopes {
    WalkCache::Scope stage1, stage2;
};

struct ContextSettings {
    u32 stage1_tag = 0;
    u32 stage2_tag = 0;
    u8 rights = access::wants;  // granted before any table is read
    u8 input_bits = 64;         // without stage 1
    std::optional<AddressRange> blocked_output;
    std::vector<AddressRange> untranslated_input;  // passes as it is, with every right
    // What the configuration makes of an access before anything looks at it; nothing: as it came.
    std::optional<bool> privileged;
    std::optional<bool> instruction;
    bool privileged_refused = false;
    std::optional<FlatTable> flat;  // takes pages over from stage 2, where there is one
    u32 driver_bits = 0;            // the driver's own; comes back in each Result

    bool operator==(const ContextSettings&) const = default;
};

class Context {
    template <typename Stage> static PlainStage plain_stage_of(const Stage& stage) {
        return std::visit(
            []<typename F>(const F& format) {
                if constexpr (std::is_same_v<F, NoStage>)
                    return PlainStage();
                else
                    return PlainStage(format);
            },
            stage);
    }
    template <typename Stage> static auto asks(const Stage& stage) {
        return [&stage](u64 raw, u64 input, unsigned level, u8 access, LeafKind& kind) {
            return std::visit(
                [&]<typename F>(const F& format) {
                    if constexpr (std::is_same_v<F, NoStage>)
                        return false;
                    else
                        return ask_leaf(format, raw, input, level, access, kind);
                },
                stage);
        };
    }

public:
    Context(Stage1 stage1, Stage2 stage2, const ContextSettings& settings)
        : stage1_(std::move(stage1)), stage2_(std::move(stage2)), settings_(settings) {
        std::visit(
            [this]<typename S1, typename S2>(const S1&, const S2&) {
                walk_ = &walk_stages<S1, S2, Unobserved>;
                explain_ = &walk_stages<S1, S2, Recorder>;
                walk_group_ = &walk_group_stages<S1, S2>;
            },
            stage1_, stage2_);
        if (const auto* arm = std::get_if<fmt::ArmStage1>(&stage1_))
            for (int i = 0; i < 2; ++i) top_byte_ignored_[i] = arm->halves[arm->has_upper ? i : 0].top_byte_ignore;
        plain_ = !settings_.privileged && !settings_.instruction && !settings_.privileged_refused &&
                 settings_.untranslated_input.empty() && !top_byte_ignored_[0] && !top_byte_ignored_[1] &&
                 !untranslated();
        if (settings_.flat)
            walk_group_ = &walk_no_group;  // groups know of stages alone
        else
            first_ = plain_stage_of(stage1_), second_ = plain_stage_of(stage2_);
        allowed_ = accesses_of(Rights::both(settings_.rights), true);
        // Address spaces that differ only in this may share a tag (AMD: PASID 0, and requests without a PASID), and a
        // page may be wider than the input.
        uncached_bits_ =
            has_stage1() ? beyond_input_of(stage1_) : beyond_input_of(stage2_) | ~below(settings_.input_bits);
    }

    // Whether both translate every access alike and report it alike.
    bool operator==(const Context& other) const {
        return stage1_ == other.stage1_ && stage2_ == other.stage2_ && settings_ == other.settings_;
    }

    const Stage1& stage1() const { return stage1_; }
    const Stage2& stage2() const { return stage2_; }
    const ContextSettings& settings() const { return settings_; }
    bool has_stage1() const { return stage1_.index() != 0; }
    bool nested() const { return has_stage1() && stage2_.index() != 0; }
    bool untranslated() const { return !has_stage1() && stage2_.index() == 0; }

    // Accesses that are no business of the IOTLB's: they pass untranslated, or stage 1 does not take their address.
    bool cacheable(u64 iova, u8 access) const {
        return !(iova & uncached_bits_) && !untranslated() && !refuses(access) && !passes(iova);
    }

    // What the configuration itself permits.
    Accesses allowed() const { return allowed_; }
    u64 uncached_bits() const { return uncached_bits_; }
    // Whether an access reaches the IOTLB as it came: nothing overrides it, lets it pass, or leaves bits of it out.
    bool plain() const { return plain_; }

    // The input as caches know it: an ignored top byte takes no part.
    u64 cache_input(u64 iova) const {
        if (!top_byte_ignored_[iova >> 55 & 1]) return iova;
        return static_cast<u64>(static_cast<std::int64_t>(iova << 8) >> 8);
    }

    // The access as PRIVCFG, INSTCFG and their like leave it. Writes are data whatever they say.
    u8 overridden(u8 access) const {
        using namespace viommu::access;
        if (settings_.privileged) access = *settings_.privileged ? access | privileged : access & ~privileged;
        if (!settings_.instruction || (access & write)) return access;
        if (*settings_.instruction) return access & read ? (access & ~read) | execute : access;
        return access & execute ? (access & ~execute) | read : access;
    }

    // `access` is already overridden.
    void walk(View& memory, const WalkScopes& scopes, u64 iova, u8 access, Result& result, Unobserved& observer) const {
        start(iova, access, result);
        walk_(*this, memory, scopes, result, observer);
    }
    void walk(View& memory, const WalkScopes& scopes, u64 iova, u8 access, Result& result, Recorder& observer) const {
        start(iova, access, result);
        explain_(*this, memory, scopes, result, observer);
    }

    // Walks what is plain of some rows, without walk caches. Accesses are already overridden, and cacheable.
    void walk_group(View& memory, WalkGroup& group, const GroupRows& rows) const {
        walk_group_(*this, memory, group, rows);
    }

    // Walks the first of some rows, as far as they are ordinary. The same holds. Walk caches are looked at, and nothing
    // is kept.
    void walk_plain(View& memory, const WalkScopes& scopes, PlainRows& rows) const {
        rows.walked = 0;
        if (Rights::both(settings_.rights).missing(rows.access)) return;
        if (rows.context != this) {
            rows.first_kinds.clear(), rows.second_kinds.clear(), rows.table_kinds.clear();
            rows.context = this;
        }
        if (nested())
            walk_plain_nested(memory, scopes, rows);
        else if (has_stage1())
            walk_plain_stage(first_, scopes.stage1, asks(stage1_), memory, rows, true);
        else
            walk_plain_stage(second_, scopes.stage2, asks(stage2_), memory, rows, false);
    }

private:
    const AddressRange* blocked() const { return settings_.blocked_output ? &*settings_.blocked_output : nullptr; }

    template <typename Ask>
    void walk_plain_stage(const PlainStage& stage, const WalkCache::Scope& cache, Ask&& ask, View& memory,
                          PlainRows& rows, bool is_first) const {
        if (!stage.usable) return;
        LeafKinds& kinds = rows.first_kinds;
        PlainStageWalk& walk = rows.first;
        kinds.settle();
        const unsigned count =
            walk.walk(stage, cache, kinds, memory, rows.input, rows.count, rows.differ, rows.access, ask, AtOnce{});
        rows.walked = walk.allowed(blocked(), count, whole_lg2);
        rows.loads = walk.loads;
        rows.resumes = walk.resumes;
        rows.pa = rows.ipa = walk.address;
        const Rights granted = Rights::both(settings_.rights);
        rows.set_leaves(
            walk.one_kind, [&](unsigned k) { return walk.kind(k); },
            [&](unsigned k) -> PlainLeafOf {
                const LeafKind& kind = kinds[walk.kind(k)];
                const u8 attrs = kind.facts.attrs1(), none = 0;
                return {{granted & kind.facts.rights(), kind.level, is_first ? attrs : none, is_first ? none : attrs,
                         kind.facts.clean()},
                        kind.lg2,
                        is_first && kind.global};
            });
    }
    void walk_plain_nested(View& memory, const WalkScopes& scopes, PlainRows& rows) const {
        if (!first_.usable || !second_.usable) return;
        rows.first_kinds.settle(), rows.second_kinds.settle(), rows.table_kinds.settle();
        const auto ask = asks(stage2_);
        BehindStage behind(second_, scopes.stage2, rows.table_kinds, memory, ask);
        PlainStageWalk &first = rows.first, &second = rows.second;
        unsigned count = first.walk(first_, scopes.stage1, rows.first_kinds, memory, rows.input, rows.count,
                                    rows.differ, rows.access, asks(stage1_), behind);
        count = second.walk(second_, scopes.stage2, rows.second_kinds, memory, first.address, count,
                            differing(first.address, count), rows.access, ask, AtOnce{});
        rows.walked = second.allowed(blocked(), count, first.lg2);
        rows.loads = first.loads + second.loads;
        rows.resumes = first.resumes + second.resumes;
        rows.pa = second.address;
        rows.ipa = first.address;
        const Rights granted = Rights::both(settings_.rights);
        rows.set_leaves(
            first.one_kind && second.one_kind,
            [&](unsigned k) { return first.kind(k) * LeafKinds::most + second.kind(k); },
            [&](unsigned k) -> PlainLeafOf {
                const LeafKind &one = rows.first_kinds[first.kind(k)], &two = rows.second_kinds[second.kind(k)];
                return {{granted & one.facts.rights() & two.facts.rights(), one.level, one.facts.attrs1(),
                         two.facts.attrs1(), one.facts.clean() || two.facts.clean()},
                        std::min(one.lg2, two.lg2),
                        one.global};
            });
    }

    // Address bits that no input of a stage has, though a page might cover them.
    static u64 beyond_input(const fmt::X86& f) { return f.sign_extended ? 0 : ~below(12 + 9 * f.levels - 1); }
    static u64 beyond_input(const fmt::VtdSecondStage& f) {
        return ~below(std::min<unsigned>(f.input_bits, 12 + 9 * f.levels));
    }
    static u64 beyond_input(const fmt::Described& f) {
        if (!f.sign_extended) return ~below(f.input_bits);
        return f.span[f.level_count - 1] < f.input_bits ? 0 : ~u64{0};
    }
    static u64 beyond_input(const auto&) { return 0; }
    template <typename Stage> static u64 beyond_input_of(const Stage& stage) {
        return std::visit([](const auto& format) { return beyond_input(format); }, stage);
    }

    template <typename Observer>
    using Walk = void (*)(const Context&, View&, const WalkScopes&, Result&, Observer&);

    void start(u64 iova, u8 access, Result& result) const {
        result = {};
        result.iova = result.ipa = iova;
        result.access = access;
        result.driver_bits = settings_.driver_bits;
    }
    bool passes(u64 iova) const {
        return std::any_of(settings_.untranslated_input.begin(), settings_.untranslated_input.end(),
                           [iova](const AddressRange& r) { return r.contains(iova); });
    }
    bool refuses(u8 access) const { return settings_.privileged_refused && (access & access::privileged); }
    static void pass(Result& result) {
        result.rights = Rights::all();
        result.pa = result.iova;
        result.page_lg2 = whole_lg2;
    }
    static void refuse(Result& result, FaultKind kind, u8 missing) {
        result.kind = kind;
        result.missing = missing;
    }

    template <typename S1, typename S2, typename Observer>
    static void walk_stages(const Context& context, View& memory, const WalkScopes& scopes, Result& result,
                            Observer& observer) {
        constexpr bool has_stage1 = !std::is_same_v<S1, NoStage>, has_stage2 = !std::is_same_v<S2, NoStage>;
        const ContextSettings& settings = context.settings_;
        if (context.passes(result.iova)) return pass(result);
        result.rights = Rights::both(settings.rights);
        if (!has_stage1 && (result.iova & ~below(settings.input_bits))) return refuse(result, FaultKind::input_size, 0);
        if (context.refuses(result.access)) return refuse(result, FaultKind::permission, access::privileged);
        if (const u8 missing = result.rights.missing(result.access))
            return refuse(result, FaultKind::permission, missing);

        const AddressRange* const blocked = context.blocked();
        if (!has_stage1 && !has_stage2 && blocked && blocked->contains(result.iova))
            return refuse(result, FaultKind::blocked_output, 0);
        Direct direct(memory);
        StageOutput out{.address = result.iova, .lg2 = whole_lg2, .rights = result.rights};
        if constexpr (has_stage1) {
            const S1& stage1 = std::get<S1>(context.stage1_);
            const Purpose purpose{.stage = Stage::stage1,
                                  .access = result.access,
                                  .blocked = has_stage2 ? nullptr : blocked,
                                  .cache = scopes.stage1};
            if constexpr (has_stage2) {
                Behind behind(std::get<S2>(context.stage2_), memory, scopes.stage2, observer);
                if (!walk_stage(stage1, behind, context.cache_input(result.iova), purpose, observer, out, result))
                    return;
            } else if (!walk_stage(stage1, direct, context.cache_input(result.iova), purpose, observer, out, result)) {
                return;
            }
            accept(out, result);
            result.attrs1 = out.attrs;
            result.ipa = out.address;
            result.global = out.global;
        }
        if constexpr (has_stage2) {
            const Purpose purpose{.stage = Stage::stage2,
                                  .access = result.access,
                                  .blocked = blocked,
                                  .page_lg2 = out.lg2,
                                  .cache = scopes.stage2};
            StageOutput final_out;
            const u64 input = out.address;
            if (settings.flat && settings.flat->takes(input)) {
                if (!walk_flat(*settings.flat, memory, input, result.access, blocked, out.lg2, observer, final_out,
                               result.elsewhere, result))
                    return;
            } else if (!walk_stage(std::get<S2>(context.stage2_), direct, input, purpose, observer, final_out,
                                   result)) {
                return;
            }
            final_out.lg2 = std::min(final_out.lg2, out.lg2);
            final_out.clean |= out.clean;
            const u8 level = has_stage1 ? result.level : final_out.level;
            accept(final_out, result);
            result.level = level;
            result.attrs2 = final_out.attrs;
            out = final_out;
        }
        result.pa = out.address;
        result.page_lg2 = out.lg2;
        if constexpr (!has_stage1) result.ipa = result.iova;
    }

    // The same for a group, as far as nothing is out of the ordinary.
    template <typename S1, typename S2>
    static void walk_group_stages(const Context& context, View& memory, WalkGroup& group, const GroupRows& asked) {
        constexpr bool has_stage1 = !std::is_same_v<S1, NoStage>, has_stage2 = !std::is_same_v<S2, NoStage>;
        const ContextSettings& settings = context.settings_;
        const Rights granted = Rights::both(settings.rights);
        const AddressRange* const blocked = context.blocked();
        GroupRows rows;
        for (unsigned k = 0; k < asked.count; ++k) {
            const unsigned row = asked.row[k];
            group.plain[row] = false;
            if (!granted.missing(group.access[row])) rows.add(row);
        }
        const auto access_of = [&](unsigned row) { return group.access[row]; };
        const auto whole = [](unsigned) { return whole_lg2; };
        if constexpr (has_stage1 && has_stage2) {
            u32 behind[GroupRows::most] = {};
            LocateBehind<S2> locate(std::get<S2>(context.stage2_), memory, behind);
            StageGroup<S1> first(std::get<S1>(context.stage1_), memory, nullptr);
            first.walk(group.input, rows, access_of, whole, locate);
            StageGroup<S2> second(std::get<S2>(context.stage2_), memory, blocked);
            const auto first_lg2 = [&](unsigned row) { return first.lg2[row]; };
            second.walk(first.address, rows, access_of, first_lg2, LocateDirectly{});
            for (unsigned k = 0; k < rows.count; ++k) {
                const unsigned row = rows.row[k];
                const PackedFacts one = first.facts[row], two = second.facts[row];
                group.walk[row] = {second.address[row],
                                   first.address[row],
                                   {granted & one.rights() & two.rights(), one.level(), one.attrs1(), two.attrs1(),
                                    one.clean() || two.clean()},
                                   first.loads[row] + behind[row] + second.loads[row],
                                   std::min(first.lg2[row], second.lg2[row]),
                                   first.global[row]};
                group.plain[row] = true;
            }
        } else if constexpr (has_stage1 || has_stage2) {
            const auto& format = [&]() -> const auto& {
                if constexpr (has_stage1)
                    return std::get<S1>(context.stage1_);
                else
                    return std::get<S2>(context.stage2_);
            }();
            StageGroup<std::remove_cvref_t<decltype(format)>> only(format, memory, blocked);
            only.walk(group.input, rows, access_of, whole, LocateDirectly{});
            for (unsigned k = 0; k < rows.count; ++k) {
                const unsigned row = rows.row[k];
                const PackedFacts facts = only.facts[row];
                const u8 attrs1 = has_stage1 ? facts.attrs1() : 0, attrs2 = has_stage1 ? 0 : facts.attrs1();
                group.walk[row] = {only.address[row],
                                   has_stage1 ? only.address[row] : group.input[row],
                                   {granted & facts.rights(), facts.level(), attrs1, attrs2, facts.clean()},
                                   only.loads[row],
                                   only.lg2[row],
                                   has_stage1 && only.global[row]};
                group.plain[row] = true;
            }
        }
    }

    static void walk_no_group(const Context&, View&, WalkGroup& group, const GroupRows& asked) {
        for (unsigned k = 0; k < asked.count; ++k) group.plain[asked.row[k]] = false;
    }

    static void accept(const StageOutput& out, Result& result) {
        result.rights = result.rights & out.rights;
        result.level = out.level;
        result.clean = out.clean;
    }

    Stage1 stage1_;
    Stage2 stage2_;
    ContextSettings settings_;
    Walk<Unobserved> walk_ = nullptr;
    Walk<Recorder> explain_ = nullptr;
    void (*walk_group_)(const Context&, View&, WalkGroup&, const GroupRows&) = nullptr;
    PlainStage first_, second_;
    bool top_byte_ignored_[2] = {false, false};
    u64 uncached_bits_ = 0;
    Accesses allowed_ = 0;
    bool plain_ = false;
};

}  // namespace viommu
