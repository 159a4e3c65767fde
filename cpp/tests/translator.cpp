// Caches in front of the walker: what they may answer, what an invalidation takes from them, and what is counted.
#include "check.hpp"
#include "engine.hpp"

namespace viommu::test {
namespace {

using access::execute, access::privileged, access::read, access::write;

constexpr u64 iova = 0x4000'1000;

// One page of each tag, two of them in one stage 2; `add` in the order o, t, g, a, s.
struct Scopes {
    Scopes() {
        arm = arm_at(first.root());
        ContextSettings s;
        s.stage2_tag = 1, s.stage1_tag = 5;
        first.map(iova, 0x10000);
        e.ram[first.entry(iova)] |= bit(11);  // nG
        first.map(iova + 0x1000, 0x20000);
        e.ram[first.entry(iova + 0x1000)] &= ~bit(11);  // global
        second.map(iova, 0x30000);
        own = e.add(arm, {}, s);
        s.stage1_tag = 6;
        other = e.add(arm, {}, s);
        alone = e.add({}, vtd_at(second.root()), s);
        s.stage2_tag = 2, s.stage1_tag = 5;
        stranger = e.add(arm, {}, s);
        fill();
    }
    void fill() {
        for (const u32 requester : {own, other, alone, stranger}) e(requester, iova);
        e(own, iova + 0x1000);
    }
    // Which entries still hit. Asking changes nothing that counts: what misses is forgotten again.
    std::string live() {
        std::string out;
        for (const auto& [letter, requester, input] : {std::tuple{'o', own, iova},
                                                       {'t', other, iova},
                                                       {'g', own, iova + 0x1000},
                                                       {'a', alone, iova},
                                                       {'s', stranger, iova}}) {
            const u64 before = e.hits();
            e(requester, input);
            if (e.hits() != before) out += letter;
        }
        return out;
    }
    Engine e;
    Tables first{e.ram, layout::arm}, second{e.ram, layout::vtd};
    fmt::ArmStage1 arm;
    u32 own, other, alone, stranger;
};

template <typename Invalidate> void leaves(const char* live, Invalidate&& invalidate, Where where = Where::current()) {
    Scopes s;
    equals(s.live(), std::string("otgas"), where);
    invalidate(s.e.translator);
    equals(s.live(), std::string(live), where);
    equals(s.live(), std::string("otgas"), where);
}

void scopes() {
    leaves("", [](Translator& t) { t.invalidate_all(); });
    leaves("s", [](Translator& t) { t.invalidate_stage2_tag(1, false); });
    leaves("as", [](Translator& t) { t.invalidate_stage2_tag(1, true); });
    leaves("tgas", [](Translator& t) { t.invalidate_stage1_tag(1, 5); });
    leaves("tgas", [](Translator& t) { t.invalidate_range(1, 5, iova, iova + 0xFFF, false); });
    leaves("tas", [](Translator& t) { t.invalidate_range(1, 5, iova, iova + 0x1FFF, true); });
    leaves("otas", [](Translator& t) { t.invalidate_range(1, 5, iova + 0x1000, iova + 0x1000, false); });
    leaves("gas", [](Translator& t) { t.invalidate_range(1, std::nullopt, iova, iova + 0xFFF, false); });
    leaves("as", [](Translator& t) { t.invalidate_range(1, std::nullopt, 0, ~u64{0}, false); });
    leaves("otgs", [](Translator& t) { t.invalidate_stage2_range(1, iova, iova, false); });
    leaves("otgas", [](Translator& t) { t.invalidate_stage2_range(1, iova + 0x1000, ~u64{0}, false); });
    leaves("otgas", [](Translator& t) { t.invalidate_stage1_tag(7, 5), t.invalidate_stage2_tag(9, false); });
    leaves("otgas", [](Translator& t) { t.invalidate_contexts(); });
}

void stale_entries_are_served() {
    Engine e;
    Tables tables(e.ram, layout::x86);
    const u32 rid = e.add(tables);
    tables.map(iova, 0x10000);
    equals(e(rid, iova).pa, 0x10000u);
    tables.map(iova, 0x20000);
    equals(e(rid, iova).pa, 0x10000u);
    e.ram[tables.entry(iova)] = 0;
    equals(e(rid, iova).pa, 0x10000u);
    e.translator.invalidate_range(0, 0, iova, iova, true);
    check(e(rid, iova).kind == FaultKind::translation, "until they are invalidated");
    e.ram[tables.entry(iova)] = 0x30007;
    equals(e(rid, iova).pa, 0x30000u);  // a fault was never cached
}

void rights_are_asked_again() {
    Engine e;
    Tables tables(e.ram, layout::x86);
    const u32 rid = e.add(tables);
    tables.map(iova, 0x10000);
    e.ram[tables.entry(iova)] &= ~u64{2};
    check(e(rid, iova).ok(), "a read");
    check(e(rid, iova, write).kind == FaultKind::permission, "a write finds the whole fault");
    e.ram[tables.entry(iova)] |= 2;
    check(e(rid, iova, write).ok(), "and the right that was given since");
}

void writes_set_dirty() {
    Engine e;
    Tables tables(e.ram, layout::x86);
    const u32 rid = e.add(tables);
    tables.map(iova, 0x10000);
    const u8 granted = e(rid, iova).rights.granted(0);
    equals(e.ram[tables.entry(iova)] & 0x60, 0x20u);
    const Result hit = e(rid, iova);
    equals(e.hits(), 1u);
    equals(hit.rights.granted(0), granted);  // a hit tells the same rights as the walk
    e(rid, iova, write);
    equals(e.hits(), 1u);
    equals(e.ram[tables.entry(iova)] & 0x60, 0x60u);
    e(rid, iova, write);
    equals(e.hits(), 2u);
}

// While tables stay as they are, nobody can tell a hit from a walk.
void hits_are_walks(Engine& e, u32 rid, std::initializer_list<u64> inputs, Where where = Where::current()) {
    for (int round = 0; round < 3; ++round)
        for (const u64 input : inputs)
            for (const u8 wanted : {read, write, execute, u8(read | privileged), u8(write | privileged)}) {
                const Result wants = walked(e.ram, *e.contexts[rid], input, wanted), saw = e(rid, input, wanted);
                equals(static_cast<unsigned>(saw.kind), static_cast<unsigned>(wants.kind), where);
                equals(saw.pa, wants.pa, where);
                equals(saw.ipa, wants.ipa, where);
                equals(saw.page_lg2, wants.page_lg2, where);
                equals(saw.level, wants.level, where);
                equals(saw.rights.granted(wanted), wants.rights.granted(wanted), where);
                equals(saw.attrs1 | saw.attrs2 << 8, wants.attrs1 | wants.attrs2 << 8, where);
            }
}

void transparent() {
    Engine e;
    Tables x86(e.ram, layout::x86), vtd(e.ram, layout::vtd), arm(e.ram, layout::arm);
    x86.map(iova, 0x10000);
    x86.map(0x20'0000, 0x40'0000, 1);
    vtd.map(iova, 0x20000);
    arm.map(iova, 0x30000);
    hits_are_walks(e, e.add(x86), {iova, iova + 0x123, 0x20'0000, 0x3F'FFFF, iova + 0x1000});

    ContextSettings settings;
    settings.stage2_tag = 1;
    vtd.map(0x8000'0000, 0xC000'0000, 2);
    hits_are_walks(e, e.add({}, vtd_at(vtd.root()), settings), {iova, 0x8000'0000, 0x9234'5678});
    settings.stage2_tag = 2;
    auto narrow = vtd_at(vtd.root());
    narrow.accessed_dirty = true;
    narrow.input_bits = 29;  // half of the page lies beyond
    vtd.map(0, 0xC000'0000, 2);
    hits_are_walks(e, e.add({}, narrow, settings), {0x1000, 0x1FFF'FFFF, 0x2000'0000, 0x3FFF'FFFF});
    settings.stage2_tag = 3;
    settings.rights = read;
    hits_are_walks(e, e.add({}, vtd_at(vtd.root()), settings), {iova});

    settings = {};
    settings.stage2_tag = 4;
    auto half = arm_at(arm.root());
    half.has_upper = half.halves[0].top_byte_ignore = true;
    hits_are_walks(e, e.add(half, {}, settings), {iova, iova | 0xAAull << 56, iova | 1ull << 55, iova | 0xFFull << 48});
    settings.stage2_tag = 5;
    half.halves[0].top_byte_ignore = false;
    half.halves[0].unprivileged_disabled = true;
    hits_are_walks(e, e.add(half, {}, settings), {iova});
}

void ignored_top_byte() {
    Engine e;
    Tables tables(e.ram, layout::arm);
    tables.map(iova, 0x10000);
    auto f = arm_at(tables.root());
    f.halves[0].top_byte_ignore = true;
    const u32 rid = e.add(f, {});
    e(rid, iova | 0xAAull << 56);
    const Result r = e(rid, iova | 0x55ull << 56);
    equals(e.hits(), 1u);
    equals(r.pa, 0x10000u);
    equals(r.iova, iova | 0x55ull << 56);
}

void global_entries() {
    Scopes s;
    const u64 before = s.e.hits();
    equals(s.e(s.other, iova + 0x1000).pa, 0x20000u);
    equals(s.e.hits(), before + 1);  // made by the other tag
    s.e(s.stranger, iova + 0x1000);
    equals(s.e.hits(), before + 1);  // but never across stage-2 tags
}

void walk_cache() {
    Engine e({}, 64);
    Tables tables(e.ram, layout::x86);
    const u32 rid = e.add(tables);
    tables.map(iova, 0x10000);
    tables.map(iova + 0x1000, 0x20000);
    e(rid, iova);
    e(rid, iova + 0x1000);
    equals(e.translator.counters().walk_cache_hits, 1u);
    equals(e.counted().entry_loads, 5u);  // the second walk read the leaf alone

    e.ram[tables.entry(iova, 2)] &= ~u64{2};
    e.translator.invalidate_all();
    e(rid, iova);
    const Result refused = e(rid, iova + 0x1000, write);
    check(refused.kind == FaultKind::permission && refused.level == 2,
          "a kept walk that lacks a right is made in full");
    e.ram[tables.entry(iova, 2)] |= 2;
    e.translator.invalidate_all();
    e(rid, iova);

    const u64 directory = tables.entry(iova, 1);
    e.ram[directory] = 0;
    e.translator.invalidate_range(0, 0, iova, iova, true);
    check(e(rid, iova).ok(), "an invalidation of leaves alone leaves the tables that were reached");
    e.translator.invalidate_range(0, 0, iova, iova, false);
    check(e(rid, iova).kind == FaultKind::translation, "a full one does not");
    for (const auto& invalidate :
         {+[](Translator& t) { t.invalidate_all(); }, +[](Translator& t) { t.invalidate_stage1_tag(0, 0); },
          +[](Translator& t) { t.invalidate_stage2_tag(0, true); }}) {
        tables.map(iova + 0x2000, 0x30000);
        e.ram[directory] = tables.entry(0x4000'0000) | 7;
        e(rid, iova);
        e.ram[directory] = 0;
        invalidate(e.translator);
        check(e(rid, iova).kind == FaultKind::translation, "nor does that of its tag");
    }
}

// Guests choose their tags; the engine forgets all rather than remember each.
void too_many_tags() {
    Engine e({}, 64, 4);
    Tables tables(e.ram, layout::x86);
    tables.map(iova, 0x10000);
    ContextSettings settings;
    for (u32 tag = 0; tag < 380'000; ++tag) {
        settings.stage1_tag = tag;
        settings.stage2_tag = tag;
        e.translator.keep_context({0, no_pasid},
                                  std::make_shared<const Context>(x86_at(tables.root()), NoStage{}, settings),
                                  e.translator.configuration_generation());
        if (tag % 50'000 == 0) check(e(0, iova).ok(), "translations go on");
        if (tag % 1000 == 0) e.translator.invalidate_range(tag + 1, std::nullopt, 0, ~u64{0}, false);
    }
    check(e(0, iova).ok(), "and so do invalidations");
}

void bounded_contexts() {
    ContextCache cache(2);
    const auto context = std::make_shared<const Context>(Stage1{}, Stage2{}, ContextSettings{});
    const auto has = [&](u32 requester, u32 pasid = no_pasid) { return cache.find({requester, pasid}) != nullptr; };
    for (u32 requester = 0; requester < 3; ++requester) cache.insert({requester, no_pasid}, {context});
    check(!has(0) && has(1) && has(2), "first in, first out");
    cache.insert({1, no_pasid}, {context});
    cache.insert({3, no_pasid}, {context});
    check(!has(1) && has(2) && has(3), "what came again keeps its place");
    cache.drop({2, no_pasid});
    cache.insert({2, 7}, {context});
    check(!has(2) && has(2, 7) && has(3), "one (requester, PASID) goes alone");
    cache.drop_requester(2);
    check(!has(2, 7) && has(3), "a requester goes with all of its PASIDs");
    cache.drop_all();
    check(!has(3), "all go");
    equals(cache.generation(), 3u);
}

void late_configuration() {
    Engine e;
    Tables tables(e.ram, layout::x86);
    const u32 rid = e.add(tables);
    const u64 generation = e.translator.configuration_generation();
    const auto context = e.resolve({rid, no_pasid});
    e.translator.invalidate_contexts();
    check(!e.translator.keep_context({rid, no_pasid}, context, generation),
          "what was read before an invalidation is not kept");
    check(!e.translator.has_context({rid, no_pasid}), "indeed");
}

// The same rows, one by one and as a batch, on twins.
void batch_is_scalar() {
    Engine one({.entries = 8, .ways = 2, .policy = Policy::lru, .seed = 0}),
        many({.entries = 8, .ways = 2, .policy = Policy::lru, .seed = 0});
    std::vector<u32> requesters;
    std::vector<u64> inputs;
    std::vector<u8> wanted;
    for (Engine* e : {&one, &many}) {
        Tables a(e->ram, layout::x86), b(e->ram, layout::x86);
        for (u64 page = 0; page < 16; ++page) {
            a.map(page << 12, (page + 100) << 12);
            if (page % 3) b.map(page << 12, (page + 200) << 12);
        }
        e->add(a, 1);
        e->add(b, 2);
    }
    for (u64 i = 0; i < 5000; ++i) {
        const u64 r = avalanche(i + 1);
        requesters.push_back(r & 1);
        inputs.push_back((r >> 8 & 15) << 12 | (r >> 16 & 0xFFF));
        wanted.push_back(r >> 32 & 1 ? write : read);
    }
    const Rows rows{requesters.data(), nullptr, inputs.data(), wanted.data(), inputs.size()};
    std::vector<u64> pa(rows.size);
    std::vector<u8> kind(rows.size), lg2(rows.size), rights(rows.size);
    Columns out{pa.data(), kind.data(), lg2.data(), rights.data(), {}};
    BatchTranslation(many.translator, rows, out).run([&](ContextKey key) { return many.resolve(key); });
    std::size_t faults = 0;
    for (std::size_t row = 0; row < rows.size; ++row) {
        const Result r = one(requesters[row], inputs[row], wanted[row]);
        equals(pa[row], r.ok() ? r.pa : 0);
        equals(kind[row], static_cast<u8>(r.kind));
        if (!r.ok()) equals(out.faults[faults++].row, row);
    }
    equals(out.faults.size(), faults);
    const StreamCounters a = one.counted(), b = many.counted();
    equals(a.translations, rows.size);
    equals(b.translations, rows.size);
    equals(a.hits, b.hits);
    equals(a.lookups, b.lookups);
    equals(a.walks, b.walks);
    equals(a.entry_loads, b.entry_loads);
    equals(a.all_faults(), b.all_faults());
    equals(a.all_faults(), faults);
    equals(a.walks, a.lookups - a.hits);
    equals(one.translator.counters().evictions, many.translator.counters().evictions);
    check(a.hits && a.walks && faults && one.translator.counters().evictions, "the trace does some of everything");
    equals(many.resolved, 2u);
}

// Pages of both sizes, many rows to each; once their flags are set, all that a group walks ahead is plain.
template <typename Map> void batches_walk(Stage1 first, Stage2 second, Engine& e, Map&& map, Where where) {
    for (u64 page = 0; page < 4; ++page) map(page << 12, (page + 0x100) << 12, 0u);
    map(0x20'0000, 0x4000'0000, 1u);
    map(0x40'0000, 0x8000'0000, 1u);
    const auto context = std::make_shared<const Context>(std::move(first), std::move(second), ContextSettings{});
    std::vector<u64> inputs;
    for (u64 i = 0; i < 96; ++i)  // some rows to each page, one after the other
        inputs.push_back(i / 5 % 3 ? 0x20'0000 * (i / 5 % 3) + i * 0x1238 : i << 10 & 0x3FFF);
    const std::vector<u32> requesters(inputs.size());
    const std::vector<u8> wanted(inputs.size(), read);
    std::vector<u64> pa(inputs.size());
    std::vector<u8> kind(inputs.size()), lg2(inputs.size()), rights(inputs.size());
    for (const bool cached : {true, false}) {
        Translator translator(e.ram.memory, cached ? std::make_shared<Iotlb>(IotlbGeometry{}) : nullptr, 4, 0);
        for (int round = 0; round < 3; ++round) {
            Columns out{pa.data(), kind.data(), lg2.data(), rights.data(), {}};
            translator.invalidate_all();
            BatchTranslation(translator, {requesters.data(), nullptr, inputs.data(), wanted.data(), inputs.size()}, out)
                .run([&](ContextKey) { return context; });
            for (std::size_t row = 0; row < inputs.size(); ++row) {
                const Result r = walked(e.ram, *context, inputs[row]);
                check(r.ok(), "the page is there", where);
                equals(pa[row], r.pa, where);
                equals(lg2[row], r.page_lg2, where);
                equals(rights[row], r.rights.granted(read), where);
            }
        }
    }
}
void one_stage_batch(const Layout& layout, std::pair<Stage1, Stage2> (*stages)(u64 root),
                     Where where = Where::current()) {
    Engine e;
    Tables tables(e.ram, layout);
    auto [first, second] = stages(tables.root());
    const auto map = [&](u64 input, u64 to, unsigned level) { tables.map(input, to, level); };
    batches_walk(std::move(first), std::move(second), e, map, where);
}
void batches_walk_every_format() {
    using Stages = std::pair<Stage1, Stage2>;
    one_stage_batch(layout::x86, [](u64 root) { return Stages{x86_at(root), NoStage{}}; });
    one_stage_batch(layout::arm, [](u64 root) { return Stages{arm_at(root), NoStage{}}; });
    one_stage_batch(layout::vtd, [](u64 root) { return Stages{NoStage{}, vtd_at(root)}; });
    one_stage_batch(layout::arm_stage2, [](u64 root) { return Stages{NoStage{}, arm_stage2_at(root)}; });
    Engine e;
    Tables second(e.ram, layout::vtd), first(e.ram, layout::x86);
    for (u64 at = 0x40'0000; at < 0xC000'0000; at += 0x20'0000) second.map(at, at, 1);
    for (u64 page = 0; page < 0x400; ++page) second.map(page << 12, page << 12);
    const auto map = [&](u64 input, u64 to, unsigned level) { first.map(input, to, level); };
    batches_walk(x86_at(first.root()), vtd_at(second.root()), e, map, Where::current());
}

void refusals() {
    Engine e;
    const std::vector<u32> requesters(3000, 9);
    const std::vector<u64> inputs(3000);
    const std::vector<u8> wanted(3000, read);
    std::vector<u64> pa(3000);
    std::vector<u8> column(3000);
    Columns out{pa.data(), column.data(), column.data(), column.data(), {}};
    for (unsigned batch = 1; batch <= 2; ++batch) {
        BatchTranslation(e.translator, {requesters.data(), nullptr, inputs.data(), wanted.data(), 3000}, out)
            .run([&](ContextKey key) { return e.resolve(key); });
        equals(e.resolved, batch);  // once for all rows, and again for the next batch
        equals(out.faults.size(), 3000 * batch);
    }
    equals(e.counted().all_faults(), 6000u);
}

// A refusal that is older than an invalidation says nothing.
void late_refusals() {
    Engine e;
    Tables tables(e.ram, layout::x86);
    tables.map(iova, 0x10000);
    const u32 configured = e.add(tables);
    bool open = false;
    const std::vector<u32> requesters{7, 8, 7};
    const std::vector<u64> inputs(3, iova);
    const std::vector<u8> wanted(3, read);
    std::vector<u64> pa(3);
    std::vector<u8> kind(3), other(3);
    Columns out{pa.data(), kind.data(), other.data(), other.data(), {}};
    BatchTranslation(e.translator, {requesters.data(), nullptr, inputs.data(), wanted.data(), 3}, out)
        .run([&](ContextKey key) -> ResolvedContext {
            if (key.requester == 8 && !std::exchange(open, true)) e.translator.invalidate_requester(7);
            return key.requester == 8 || open ? e.contexts[configured] : nullptr;
        });
    check(out.faults.empty(), "it was asked for again");
}

void walk_many_leaves_no_trace() {
    Engine e;
    Tables tables(e.ram, layout::x86);
    tables.map(iova, 0x10000);
    const u32 rid = e.add(tables);
    const std::vector<u32> requesters(2, rid);
    const std::vector<u64> inputs(2, iova);
    const std::vector<u8> wanted(2, write);
    std::vector<u64> pa(2);
    std::vector<u8> kind(2), other(2);
    Columns out{pa.data(), kind.data(), other.data(), other.data(), {}};
    const auto before = e.ram.words();
    walk_many(*e.ram.memory, {requesters.data(), nullptr, inputs.data(), wanted.data(), 2}, out,
              [&](ContextKey key) { return e.resolve(key); });
    equals(pa[1], 0x10000u);
    check(e.ram.words() == before, "memory is as it was");
    equals(e.translator.live_entries(), 0u);
    equals(e.resolved, 1u);
}

void invalidations_are_not_forgotten() {
    Engine e;
    const auto seen = [&] { return Translator::Session(e.translator).invalidations(); };
    e.translator.invalidate_all();
    const u64 before = seen();
    e.translator.reset_counters();
    e.translator.invalidate_all();
    check(seen() != before, "there was one more");
}

void one_cache_one_translator() {
    Ram ram;
    const auto iotlb = std::make_shared<Iotlb>(IotlbGeometry{});
    const Translator first(ram.memory, iotlb, 1, 0);
    throws<std::invalid_argument>([&] { Translator(ram.memory, iotlb, 1, 0); });
}

}  // namespace
}  // namespace viommu::test

int main() {
    using namespace viommu::test;
    return run({
        {"every invalidation takes its scope, and no more", scopes},
        {"stale entries are served until they are invalidated", stale_entries_are_served},
        {"a right that an entry lacks is asked for again", rights_are_asked_again},
        {"a write through a clean entry sets the dirty flag", writes_set_dirty},
        {"a hit answers what a walk would", transparent},
        {"an ignored top byte takes no part in the cache", ignored_top_byte},
        {"a global entry serves every stage-1 tag of its stage-2 tag", global_entries},
        {"partial walks are kept, and go with what they hang on", walk_cache},
        {"tags without number do not grow the engine", too_many_tags},
        {"the context cache is first in, first out", bounded_contexts},
        {"configuration that is older than an invalidation is not kept", late_configuration},
        {"a batch is its rows one by one", batch_is_scalar},
        {"a batch walks ahead to what each row finds alone", batches_walk_every_format},
        {"a refusal is asked for once in a batch, and kept no longer", refusals},
        {"a refusal that is older than an invalidation is asked for again", late_refusals},
        {"walks without caches leave no trace", walk_many_leaves_no_trace},
        {"whoever let go of the lock sees an invalidation, though counters were reset",
         invalidations_are_not_forgotten},
        {"an IOTLB serves one translator", one_cache_one_translator},
    });
}
