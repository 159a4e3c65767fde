// Commands that are like ones before them, executed by what was kept of those, beside each command executed anew.
#include <random>

#include "check.hpp"
#include "engine.hpp"
#include "viommu/commands.hpp"

using namespace viommu;
using namespace viommu::commands;
using test::equals;
using Verb = Action::Verb;

namespace {

// Hides from commands that anything can be repeated.
class Anew {
public:
    explicit Anew(Translator& caches) : engine_(caches) {}

    void pause() { engine_.pause(); }
    void everything() { engine_.everything(); }
    void stage2_tag(u32 tag, bool stage1_only) { engine_.stage2_tag(tag, stage1_only); }
    void stage1_tag(u32 stage2_tag, u32 stage1_tag) { engine_.stage1_tag(stage2_tag, stage1_tag); }
    void range(u32 tag, std::optional<u32> own, Range r, bool leaf_only) { engine_.range(tag, own, r, leaf_only); }
    void stage2_range(u32 tag, Range r, bool leaf_only) { engine_.stage2_range(tag, r, leaf_only); }
    void all_contexts() { engine_.all_contexts(); }
    void contexts(u32 requester) { engine_.contexts(requester); }
    void context(u32 requester, u32 pasid) { engine_.context(requester, pasid); }
    bool store(u64 address, u64 value, std::size_t bytes) { return engine_.store(address, value, bytes); }

private:
    commands::Engine engine_;
};

// Bits 3:0 say what it does, 4 is the leaf bit, 5 and 6 choose among cases, 11:8 a tag, 19:16 a second number, 27:24
// the size of a block; 127:76 is an address.
Number field(unsigned low, unsigned width, Changes changes = {}, unsigned position = 0) {
    return Number({{low, width, position}}, changes, 16);
}
const Number tag = field(8, 4), second = field(16, 4), leaf = field(4, 1), first_choice = field(5, 1),
             second_choice = field(6, 1), address = field(76, 52, {.sign_bit = 55}, 12),
             lg2 = field(24, 4, {.plus = 12});

Action action(Verb verb, Extent extent = {}) {
    Action made;
    made.verb = verb;
    made.first = tag;
    made.second = second;
    made.leaf_only = leaf;
    made.extent = std::move(extent);
    return made;
}
Test is(const Number& number, u64 value) { return {Test::Kind::within, number, value, value}; }

constexpr u64 opcodes = 16, memory_at = 0x7000'0000'0000;

// `tags`: what a tag stands for, which may be several.
CommandSet everything_there_is(const std::shared_ptr<Table>& table, const std::shared_ptr<Table>& tags) {
    using enum Extent::Kind;
    const Extent page{block, address, Number(12), {}, {}}, sized_block{block, address, lg2, {}, {}},
        sized_one{sized, address, first_choice, Number(12), {}}, counted_one{counted, address, second, lg2, tag};
    Action any = action(Verb::range, page), group = action(Verb::range, page), each = action(Verb::contexts),
           stage1 = action(Verb::stage2_tag), told = action(Verb::store), odd = action(Verb::range, page),
           mapped = action(Verb::range, page);
    any.flag = stage1.flag = true;
    group.group_lg2 = 1;
    each.each = 0;
    mapped.each = 1;
    told.first = Number(memory_at);
    told.bytes = 4;
    odd.second = field(76, 3);  // an address that says something else, too
    const auto always = [](std::vector<Action> actions) { return std::vector<Case>{{{}, std::move(actions)}}; };
    std::vector<Rule> rules{
        {0, {}, always({action(Verb::range, page)})},
        {1, {}, always({action(Verb::range, sized_block)})},
        {2, {}, always({action(Verb::range, sized_one), each})},
        {3, {}, always({action(Verb::range, counted_one)})},
        {4, {}, always({action(Verb::stage2_range, page), stage1})},
        {5, {}, always({any})},
        {6, {}, always({group})},
        {7, {}, always({odd})},
        {8, {}, always({action(Verb::stage1_tag)})},
        {9, {}, always({action(Verb::stage2_tag)})},
        {10, {}, always({action(Verb::contexts), action(Verb::context)})},
        {11, {}, always({told, action(Verb::stage1_tag)})},
        {12, {}, always({action(Verb::range, page), action(Verb::range, sized_block)})},
    };
    Rule cases{13, {}, {}};
    cases.cases.push_back({{is(first_choice, 1), is(field(76, 4), 3)}, {{action(Verb::all_contexts)}}});
    cases.cases.push_back({{is(second_choice, 1)}, {{action(Verb::stage2_range, page)}}});
    cases.cases.push_back({{{Test::Kind::listed, tag, 0, 0, 0}}, {{action(Verb::range, page)}}});
    cases.cases.push_back({{{Test::Kind::within, field(76, 4), 9, 15}}, std::nullopt});
    cases.cases.push_back({{}, {{action(Verb::range, page)}}});
    rules.push_back(std::move(cases));
    Rule strict{14, {}, always({action(Verb::range, page)})};
    strict.zero[1] = bit(15);  // of an address that is not there
    rules.push_back(std::move(strict));
    rules.push_back({15, {}, always({mapped})});
    return CommandSet(16, field(0, 4), rules, {table, tags});
}

// An engine whose requesters 0 to 3 have stage 1, and 4 and 5 stage 2 alone, with pages of 4 KiB and 2 MiB, some of
// them global; stage-2 tags are 1 and 2, stage-1 tags 1 to 4.
class Side {
public:
    Side(std::size_t entries, std::size_t walk_caches)
        : engine_({.entries = entries}, walk_caches),
          first_(engine_.ram, test::layout::arm),
          second_(engine_.ram, test::layout::vtd),
          set_(everything_there_is(table_, tags_)) {
        for (const u64 page : pages()) {
            const unsigned level = page < large ? 0 : 1;
            first_.map(page, page, level);
            second_.map(page, page, level);
            if (page >> 12 & 1) engine_.ram[first_.entry(page, level)] &= ~not_global;
        }
        for (u32 requester = 0; requester < requesters; ++requester) {
            ContextSettings settings;
            settings.stage2_tag = 1 + requester % 2;
            settings.stage1_tag = 1 + requester;
            if (requester < 4)
                engine_.add(test::arm_at(first_.root()), {}, settings);
            else
                engine_.add({}, test::vtd_at(second_.root()), settings);
        }
        engine_.ram.memory->add({memory_at, memory_at + 7, nullptr, true, memory_that_translates(), {}});
        table_->add(1, 0);
        table_->add(1, 2);
        tags_->add(1, 2);
        tags_->add(2, 1);
        tags_->add(2, 2);
    }

    void warm(u32 requester, u64 page) { engine_(requester, page); }
    template <typename Target> std::vector<u64> run(std::span<const std::byte> entries) {
        std::vector<u64> saw(set_.rules());
        const std::size_t done = set_.run(entries, Target(engine_.translator), saw);
        saw.push_back(done);
        saw.push_back(told_);
        saw.push_back(engine_.translator.counters().invalidations);
        saw.push_back(engine_.translator.live_entries());
        for (u32 requester = 0; requester < requesters; ++requester)
            saw.push_back(engine_.translator.has_context({requester, no_pasid}));
        return saw;
    }
    // Whether each page hits; after that it does.
    std::vector<u64> hits() {
        std::vector<u64> saw;
        for (u32 requester = 0; requester < requesters; ++requester)
            for (const u64 page : pages()) {
                engine_(requester, page);
                saw.push_back(engine_.hits());
                saw.push_back(engine_.counted().entry_loads);
            }
        return saw;
    }

    static constexpr u32 requesters = 6;
    static constexpr u64 large = 0x4000'0000;
    static std::vector<u64> pages() {
        std::vector<u64> all;
        for (u64 page = 0; page < 20; ++page) all.push_back(page << 12);
        for (u64 page = 0; page < 3; ++page) all.push_back(large + (page << 21));
        return all;
    }

private:
    static constexpr u64 not_global = bit(11);

    // A store lets others use the engine: here, whoever is told has a page translated.
    std::shared_ptr<const Callbacks> memory_that_translates() {
        const auto load = [this](u64) { return std::optional(told_); };
        const auto exchange = [this](u64, u64, u64 desired) {
            told_ = desired;
            engine_(static_cast<u32>(told_ % requesters), pages()[told_ % pages().size()]);
            return std::optional(true);
        };
        return std::make_shared<const Callbacks>(Callbacks{load, exchange});
    }

    u64 told_ = 0;
    test::Engine engine_;
    test::Tables first_, second_;
    std::shared_ptr<Table> table_ = std::make_shared<Table>(), tags_ = std::make_shared<Table>();
    CommandSet set_;
};

struct Entry {
    u64 low, high;
};
// Bursts: entries that differ in an address alone, or in nothing, with others in between; few are refused.
std::vector<Entry> burst(std::mt19937_64& random) {
    const auto below = [&](u64 bound) { return random() % bound; };
    const auto pages = Side::pages();
    const auto page = [&] { return pages[below(pages.size())] | (below(9) ? 0 : bit(54 + below(6))); };
    std::vector<Entry> entries;
    while (entries.size() < 300) {
        std::vector<Entry> kinds;
        for (u64 i = 1 + below(5); i; --i)
            kinds.push_back({below(opcodes) | below(6) / 5 << 4 | below(4) / 3 << 5 | below(4) / 3 << 6 |
                                 (1 + below(2)) << 8 | (1 + below(4)) << 16 | below(12) / 11 * below(12) << 24,
                             0});
        for (u64 i = below(40); i; --i) {
            Entry one = kinds[below(3) ? 0 : below(kinds.size())];
            one.high = page() | (below(200) ? 0 : bit(15));
            for (u64 copies = below(4) ? 1 : 3; copies; --copies) entries.push_back(one);
        }
    }
    return entries;
}

void histories_agree(std::size_t iotlb_entries, std::size_t walk_caches) {
    std::mt19937_64 random(iotlb_entries + walk_caches);
    Side repeated(iotlb_entries, walk_caches), anew(iotlb_entries, walk_caches);
    for (unsigned round = 0; round < 500; ++round) {
        for (u64 warmed = random() % 100; warmed; --warmed) {
            const u32 requester = static_cast<u32>(random() % Side::requesters);
            const u64 page = Side::pages()[random() % Side::pages().size()];
            repeated.warm(requester, page), anew.warm(requester, page);
        }
        const std::vector<Entry> entries = burst(random);
        for (std::size_t at = 0; at < entries.size();) {
            const auto rest = std::as_bytes(std::span(entries).subspan(at));
            const std::vector<u64> saw = repeated.run<commands::Engine>(rest), wanted = anew.run<Anew>(rest);
            equals(saw == wanted, true);
            at += saw[opcodes] + 1;  // past the one that was refused
        }
        equals(repeated.hits() == anew.hits(), true);
    }
}
void with_sets() { histories_agree(64, 0); }
void with_many_sets() { histories_agree(4096, 0); }
void without_bound() { histories_agree(0, 0); }
void with_walk_caches() { histories_agree(256, 64); }

}  // namespace

int main() {
    return test::run({
        {"commands that are repeated do what they do anew, in a small IOTLB", with_sets},
        {"commands that are repeated do what they do anew, in a large IOTLB", with_many_sets},
        {"commands that are repeated do what they do anew, without a bound", without_bound},
        {"commands that are repeated do what they do anew, with walk caches", with_walk_caches},
    });
}
