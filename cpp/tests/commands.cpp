// Commands described at run time: what of an entry reaches which cache, and where a run stops.
#include "viommu/commands.hpp"

#include <tuple>

#include "check.hpp"

using namespace viommu;
using namespace viommu::commands;
using test::equals;
using Verb = Action::Verb;

namespace {

// Writes down what it is asked to do.
struct Recorder {
    std::vector<std::string> calls;
    bool memory_answers = true;

    template <typename... Numbers> void note(const char* what, Numbers... numbers) {
        std::string text = what;
        ((text += " " + std::to_string(numbers)), ...);
        calls.push_back(text);
    }
    void pause() {}
    void everything() { note("everything"); }
    void stage2_tag(u32 tag, bool stage1_only) { note("stage2_tag", tag, stage1_only); }
    void stage1_tag(u32 tag, u32 own) { note("stage1_tag", tag, own); }
    void range(u32 tag, std::optional<u32> own, Range r, bool leaf) {
        note(own ? "range" : "range of any", tag, own.value_or(0), r.start, r.last, leaf);
    }
    void stage2_range(u32 tag, Range r, bool leaf) { note("stage2_range", tag, r.start, r.last, leaf); }
    void all_contexts() { note("all_contexts"); }
    void contexts(u32 requester) { note("contexts", requester); }
    void context(u32 requester, u32 pasid) { note("context", requester, pasid); }
    bool store(u64 address, u64 value, std::size_t bytes) {
        if (memory_answers) note("store", address, value, bytes);
        return memory_answers;
    }
};

Number field(unsigned low, unsigned width, unsigned position = 0, Changes changes = {}, std::size_t bytes = 16) {
    return Number({{low, width, position}}, changes, bytes);
}

// Opcode in bits 7:0, a tag in 31:16, a second number in 63:32, an address in 127:76.
struct Entry {
    u64 low, high;
    Entry(u64 opcode, u64 tag = 0, u64 second = 0, u64 address = 0)
        : low(opcode | tag << 16 | second << 32), high(address) {}
};
const Number opcode = field(0, 8), tag = field(16, 16), second = field(32, 32), address = field(76, 52, 12);

Action action(Verb verb, Number first = {}, Number other = {}, Extent extent = {}) {
    Action made;
    made.verb = verb;
    made.first = first;
    made.second = other;
    made.extent = extent;
    return made;
}
Rule rule(u64 number, std::vector<Action> actions) { return {number, {}, {{{}, std::move(actions)}}}; }

struct Ran {
    std::size_t done;
    std::vector<std::string> calls;
    std::vector<u64> counts;
};
Ran run(const CommandSet& set, const std::vector<Entry>& entries, bool memory_answers = true) {
    Recorder recorder{{}, memory_answers};
    std::vector<u64> counts(set.rules());
    const std::size_t done = set.run(std::as_bytes(std::span(entries)), recorder, counts);
    return {done, recorder.calls, counts};
}
CommandSet one_rule(std::vector<Action> actions, std::vector<std::shared_ptr<Table>> tables = {}) {
    return CommandSet(16, opcode, {rule(1, std::move(actions))}, std::move(tables));
}
void does(const CommandSet& set, const Entry& entry, const std::vector<std::string>& wanted) {
    const Ran ran = run(set, {entry});
    equals(ran.done, 1u);
    equals(ran.calls == wanted, true);
    if (ran.calls != wanted)
        for (const std::string& call : ran.calls) std::fprintf(stderr, "  saw %s\n", call.c_str());
}

void numbers_are_cut_from_anywhere() {
    Words words{0x1122'3344'5566'7788, 0x99AA'BBCC'DDEE'FF00};
    equals(field(4, 8).of(words), 0x78u);
    equals(field(56, 16).of(words), 0x0011u);  // over the end of a word
    equals(field(60, 64).of(words), 0x9AAB'BCCD'DEEF'F001u);
    equals(Number({{0, 8, 8}, {8, 8, 0}}, {}, 16).of(words), 0x8877u);  // stored in two places
    equals(field(0, 8, 4).of(words), 0x880u);
    equals(Number(42).of(words), 42u);
}
void numbers_are_changed_in_order() {
    Words words{0x80FF};
    equals(field(8, 8, 0, {.sign_bit = 7}).of(words), 0xFFFF'FFFF'FFFF'FF80u);
    equals(field(0, 8, 0, {.sign_bit = 6, .keep = 0xFFFF}).of(words), 0xFFFFu);
    equals(field(8, 7, 0, {.sign_bit = 6}).of(words), 0u);
    equals(field(0, 8, 0, {.keep = 0x0F, .flip = 0xF0, .plus = 1}).of(words), 0x100u);
}
void numbers_outside_the_entry_are_refused() {
    test::throws<std::invalid_argument>([] { field(120, 16); });
    test::throws<std::invalid_argument>([] { field(0, 0); });
    test::throws<std::invalid_argument>([] { field(0, 65); });
    test::throws<std::invalid_argument>([] { field(0, 8, 64); });
    test::throws<std::invalid_argument>([] { field(0, 8, 0, {.sign_bit = 64}); });
}

void ranges_are_as_specifications_encode_them() {
    const auto span = [](Extent::Kind kind, u64 at, u64 size, u64 unit, u64 count) {
        return Extent{kind, Number(at), Number(size), Number(unit), Number(count)}.of({});
    };
    using enum Extent::Kind;
    const Range all{0, ~u64{0}};
    equals(span(block, 0x12345, 12, 0, 0) == Range{0x12000, 0x12FFF}, true);
    equals(span(block, 0x12345, 64, 0, 0) == all, true);
    equals(span(block, 0x12345, 75, 0, 0) == all, true);
    equals(span(sized, 0x5000, 0, 12, 0) == Range{0x5000, 0x5FFF}, true);
    equals(span(sized, 0x5000, 1, 12, 0) == Range{0x4000, 0x7FFF}, true);
    equals(span(sized, 0x4000, 1, 12, 0) == Range{0x4000, 0x5FFF}, true);
    equals(span(sized, ~bit(63) & ~below(12), 1, 12, 0) == all, true);
    equals(span(sized, ~below(12), 1, 12, 0) == all, true);  // no zero bit at all
    equals(span(counted, 0x1F000, 0, 14, 2) == Range{0x1C000, 0x27FFF}, true);
    equals(span(counted, 0x1000, 1, 12, 0) == Range{0x1000, 0x2FFF}, true);
    equals(span(counted, ~below(12), 0, 12, 1) == Range{~below(12), ~u64{0}}, true);
    equals(span(counted, 0, 31, 16, 31) == Range{0, below(52)}, true);
    equals(span(counted, 0x1000, 60, 12, 31) == Range{0x1000, ~u64{0}}, true);
    equals(span(counted, 0x1000, ~u64{0}, 12, 31) == Range{0x1000, ~u64{0}}, true);
    equals(span(counted, 0x1000, 0, 12, ~u64{0}) == Range{0x1000, ~u64{0}}, true);
    equals(span(counted, 0x1000, 0, ~u64{0}, 1) == all, true);
}

void each_verb_reaches_its_cache() {
    const Extent page{Extent::Kind::block, address, Number(12), {}, {}};
    does(one_rule({action(Verb::everything)}), {1}, {"everything"});
    does(one_rule({action(Verb::stage2_tag, tag)}), {1, 7}, {"stage2_tag 7 0"});
    does(one_rule({action(Verb::stage1_tag, tag, second)}), {1, 7, 9}, {"stage1_tag 7 9"});
    does(one_rule({action(Verb::range, tag, second, page)}), {1, 7, 9, 0x3000}, {"range 7 9 12288 16383 0"});
    does(one_rule({action(Verb::stage2_range, tag, {}, page)}), {1, 7, 0, 0x3000}, {"stage2_range 7 12288 16383 0"});
    does(one_rule({action(Verb::all_contexts)}), {1}, {"all_contexts"});
    does(one_rule({action(Verb::contexts, tag)}), {1, 7}, {"contexts 7"});
    does(one_rule({action(Verb::context, tag, second)}), {1, 7, 9}, {"context 7 9"});
    Action any = action(Verb::range, tag, {}, page), leaf = any, stage1 = action(Verb::stage2_tag, tag);
    any.flag = leaf.flag = stage1.flag = true;
    leaf.leaf_only = second;
    does(one_rule({any}), {1, 7, 9}, {"range of any 7 0 0 4095 0"});
    does(one_rule({leaf}), {1, 7, 9}, {"range of any 7 0 0 4095 1"});
    does(one_rule({stage1}), {1, 7}, {"stage2_tag 7 1"});
}
void groups_of_tags_and_requesters_are_aligned() {
    Action group = action(Verb::stage1_tag, tag, second);
    group.group_lg2 = 1;
    does(one_rule({group}), {1, 7, 9}, {"stage1_tag 6 9", "stage1_tag 7 9"});
    does(one_rule({action(Verb::context_group, tag, second)}), {1, 7, 1}, {"contexts 6", "contexts 7"});
    does(one_rule({action(Verb::context_group, tag, second)}), {1, 7, 9}, {"all_contexts"});
    does(one_rule({action(Verb::context_group, tag, second)}), {1, 7, 0xFFFF'FFFF}, {"all_contexts"});
    equals(run(one_rule({action(Verb::context_group, tag, second)}), {{1, 7, 8}}).calls.size(), 256u);
}
void a_table_stands_for_several_values() {
    const auto table = std::make_shared<Table>();
    table->add(7, 70);
    table->add(7, 71);
    table->add(7, 70);
    Action each = action(Verb::contexts, tag);
    each.each = 0;
    const CommandSet set = one_rule({each}, {table});
    does(set, {1, 7}, {"contexts 70", "contexts 71"});
    does(set, {1, 8}, {});
    table->remove(7, 70);
    does(set, {1, 7}, {"contexts 71"});
    table->clear();
    does(set, {1, 7}, {});
}
void a_table_that_is_named_twice_is_locked_once() {
    const auto table = std::make_shared<Table>();
    table->add(1, 5);
    Action each = action(Verb::contexts, tag), again = each;
    each.each = 0;
    again.each = 1;
    does(one_rule({each, again}, {table, table}), {1, 1}, {"contexts 5", "contexts 5"});
}
void a_table_has_a_bound() {
    Table table;
    for (u64 key = 0; key < Table::most_pairs; ++key) table.add(key, 0);
    test::throws<std::length_error>([&] { table.add(~u64{0}, 0); });
    table.remove(5, 0);
    table.add(~u64{0}, 0);
    equals(table.values(~u64{0}).size(), 1u);
}

void the_first_case_that_holds_counts() {
    const auto table = std::make_shared<Table>();
    table->add(5, 1);
    Rule cases{1, {}, {}};
    cases.cases.push_back({{{Test::Kind::within, second, 2, 4}, {Test::Kind::within, tag, 1, 1}}, {{}}});
    cases.cases.push_back({{{Test::Kind::listed, second, 0, 0, 0}}, {{action(Verb::everything)}}});
    cases.cases.push_back({{{Test::Kind::within, second, 6, 6}}, std::nullopt});
    cases.cases.push_back({{{Test::Kind::unlisted, tag, 0, 0, 0}}, {{action(Verb::all_contexts)}}});
    const CommandSet set(16, opcode, {cases}, {table});
    does(set, {1, 1, 2}, {});
    does(set, {1, 1, 4}, {});
    does(set, {1, 2, 4}, {"all_contexts"});
    does(set, {1, 1, 5}, {"everything"});
    equals(run(set, {{1, 1, 6}}).done, 0u);
    equals(run(set, {{1, 5, 7}}).done, 0u);  // no case holds
}

void conditions_on_the_same_bits_must_all_hold() {
    const auto is = [](Number number, u64 value) { return Test{Test::Kind::within, number, value, value}; };
    Rule cases{1, {}, {}};
    cases.cases.push_back({{is(tag, 2), is(field(16, 1), 1)}, {{action(Verb::everything)}}});
    cases.cases.push_back({{is(tag, 3), is(field(16, 1), 1)}, {{action(Verb::all_contexts)}}});
    cases.cases.push_back({{is(tag, 4), is(field(60, 8), 0x5A)}, {{action(Verb::contexts)}}});
    cases.cases.push_back({{is(tag, 5), is(address, 0x7000), is(second, 9)}, {{action(Verb::stage2_tag)}}});
    cases.cases.push_back({{is(tag, 6), is(field(32, 4), 0x10)}, {{action(Verb::stage2_tag)}}});
    const CommandSet set(16, opcode, {cases}, {});
    equals(run(set, {{1, 2}}).done, 0u);
    does(set, {1, 3}, {"all_contexts"});
    does(set, {1, 4, 0xA000'0000, 0x5}, {"contexts 0"});
    equals(run(set, {{1, 4, 0xB000'0000, 0x5}}).done, 0u);
    does(set, {1, 5, 9, 0x7000}, {"stage2_tag 0 0"});
    equals(run(set, {{1, 5, 9, 0x6000}, {1, 5, 8, 0x7000}}).done, 0u);
    equals(run(set, {{1, 5, 8, 0x7000}}).done, 0u);
    equals(run(set, {{1, 6, 0}}).done, 0u);  // a value that the number cannot have
}

void a_run_stops_at_what_is_not_described() {
    Rule strict = rule(3, {action(Verb::everything)});
    strict.zero[1] = below(12);
    const CommandSet set(16, opcode, {rule(1, {action(Verb::contexts, tag)}), strict}, {});
    const Ran unknown = run(set, {{1, 1}, {1, 2}, {3}, {2}, {1, 3}});
    equals(unknown.done, 3u);
    equals(unknown.calls == std::vector<std::string>{"contexts 1", "contexts 2", "everything"}, true);
    equals(unknown.counts == std::vector<u64>{2, 1}, true);
    equals(run(set, {{3, 0, 0, 0x1800}}).done, 0u);  // a bit that must be zero
    equals(run(set, {{200}}).done, 0u);
    equals(run(set, {}).done, 0u);
}
void a_store_that_memory_refuses_stops_the_run_with_nothing_done() {
    Action store = action(Verb::store, address, second);
    store.bytes = 4;
    const CommandSet set = one_rule({store, action(Verb::everything)});
    does(set, {1, 0, 9, 0x3000}, {"store 12288 9 4", "everything"});
    const Ran refused = run(set, {{1, 0, 9, 0x3000}}, false);
    equals(refused.done, 0u);
    equals(refused.calls.empty(), true);
}

void descriptions_that_cannot_be_are_refused() {
    const auto refuses = [](auto&& make) { test::throws<std::invalid_argument>(make); };
    Action store = action(Verb::store, address, second), group = action(Verb::stage2_tag), each = group;
    refuses([&] { one_rule({store}); });  // of no bytes
    store.bytes = 4;
    refuses([&] { one_rule({action(Verb::everything), store}); });
    group.group_lg2 = 9;
    refuses([&] { one_rule({group}); });
    each.each = 1;
    refuses([&] { one_rule({each}, {std::make_shared<Table>()}); });
    refuses([&] { CommandSet(12, opcode, {}, {}); });
    refuses([&] { CommandSet(72, opcode, {}, {}); });
    refuses([&] { CommandSet(16, opcode, {rule(1, {}), rule(1, {})}, {}); });
    refuses([&] { CommandSet(16, opcode, {rule(bit(12), {})}, {}); });
    refuses([&] { CommandSet(16, opcode, {{1, {}, {{{{Test::Kind::within, tag, 2, 1}}, {{}}}}}}, {}); });
    refuses([&] { CommandSet(16, opcode, {{1, {}, {{{{Test::Kind::listed, tag, 0, 0, 0}}, {{}}}}}}, {}); });
}

// A ring of 2^3 entries at 0x1000, of commands that drop contexts of 0, 1, ...
struct Ring {
    explicit Ring(std::size_t bytes) : words(bytes / 8) {
        for (std::size_t i = 0; i * 2 + 1 < words.size(); ++i) words[2 * i] = Entry(1, i).low;
        memory.add({.start = 0x1000,
                    .last = 0x1000 + bytes - 1,
                    .host = reinterpret_cast<std::byte*>(words.data()),
                    .writable = true,
                    .callbacks = {},
                    .owner = {}});
    }
    std::size_t run(u64 head, std::size_t count, Recorder& recorder) {
        u64 counts[1] = {};
        return set.run_ring(memory, 0x1000, 3, head, count, recorder, counts);
    }
    std::vector<u64> words;
    Memory memory;
    CommandSet set = one_rule({action(Verb::contexts, tag)});
};

void a_ring_wraps() {
    Ring ring(8 * 16);
    Recorder recorder;
    equals(ring.run(6, 4, recorder), 4u);
    equals(recorder.calls == std::vector<std::string>{"contexts 6", "contexts 7", "contexts 0", "contexts 1"}, true);
}
void a_hole_ends_a_run_at_the_entry_that_lies_in_it() {
    Ring ring(3 * 16);
    Recorder recorder;
    equals(ring.run(1, 5, recorder), 2u);
    equals(ring.run(4, 1, recorder), 0u);
    equals(ring.run(0, 0, recorder), 0u);
}
void a_ring_is_larger_than_what_is_read_at_once() {
    std::vector<u64> words(2 * 1024, 0);
    for (std::size_t i = 0; i < 1024; ++i) words[2 * i] = Entry(1, i).low;
    Memory memory;
    memory.add({.start = 0,
                .last = 1024 * 16 - 1,
                .host = reinterpret_cast<std::byte*>(words.data()),
                .writable = true,
                .callbacks = {},
                .owner = {}});
    Recorder recorder;
    u64 counts[1] = {};
    const CommandSet set = one_rule({action(Verb::contexts, tag)});
    equals(set.run_ring(memory, 0, 10, 1000, 1024, recorder, counts), 1024u);
    equals(recorder.calls.front(), std::string("contexts 1000"));
    equals(recorder.calls.back(), std::string("contexts 999"));
    equals(counts[0], 1024u);
}

}  // namespace

int main() {
    return test::run({
        {"numbers are cut from anywhere in an entry", numbers_are_cut_from_anywhere},
        {"numbers are changed in the order that is documented", numbers_are_changed_in_order},
        {"numbers that lie outside the entry are refused", numbers_outside_the_entry_are_refused},
        {"ranges are as specifications encode them", ranges_are_as_specifications_encode_them},
        {"each verb reaches its cache with its numbers", each_verb_reaches_its_cache},
        {"groups of tags and requesters are aligned, and bounded", groups_of_tags_and_requesters_are_aligned},
        {"an action is done for each value that a table has", a_table_stands_for_several_values},
        {"a table that is named twice is locked once", a_table_that_is_named_twice_is_locked_once},
        {"a table has a bound", a_table_has_a_bound},
        {"the first case that holds counts", the_first_case_that_holds_counts},
        {"conditions on the same bits must all hold", conditions_on_the_same_bits_must_all_hold},
        {"a run stops at the first entry that is not described", a_run_stops_at_what_is_not_described},
        {"a store that memory refuses stops the run", a_store_that_memory_refuses_stops_the_run_with_nothing_done},
        {"descriptions that cannot be are refused", descriptions_that_cannot_be_are_refused},
        {"a ring wraps", a_ring_wraps},
        {"a hole ends a run at the entry in it", a_hole_ends_a_run_at_the_entry_that_lies_in_it},
        {"a ring may be larger than what is read at once", a_ring_is_larger_than_what_is_read_at_once},
    });
}
