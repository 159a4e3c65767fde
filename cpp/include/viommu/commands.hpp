// Commands of any vendor's queue, described at run time and executed without anybody's help.
//
// A description says for each opcode which bits must be zero, and in which cases it means which neutral actions. What
// it does not cover is for somebody else: a run stops in front of it. Nothing here allocates while commands run.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "viommu/command_numbers.hpp"
#include "viommu/command_table.hpp"
#include "viommu/memory.hpp"
#include "viommu/translator.hpp"

namespace viommu::commands {

inline constexpr std::size_t no_table = ~std::size_t{0};

// A condition on one number of a command.
struct Test {
    enum class Kind : u8 { within, listed, unlisted };
    Kind kind = Kind::within;
    Number number;
    u64 low = 0, high = 0;         // within: of a closed range
    std::size_t table = no_table;  // listed, unlisted: whether it stands for anything there
};

// What a command does. `first` is a stage-2 tag or a requester; where `each` names a table it is a key, and the action
// is done for each value that the table has for it.
struct Action {
    enum class Verb : u8 {
        everything,
        stage2_tag,  // `flag`: stage 1 alone
        stage1_tag,  // `second` is the stage-1 tag
        range,       // `second` likewise; `flag`: of any stage-1 tag
        stage2_range,
        all_contexts,
        contexts,       // of requester `first`
        context,        // of requester `first`, PASID `second`
        context_group,  // of 2^`second` requesters around `first`; of all where they are more than `most_group`
        store,          // `second` at address `first`, `bytes` of it; the first action of its case, if it is one
    };
    static constexpr unsigned most_group_lg2 = 8;

    Verb verb = Verb::everything;
    bool flag = false;
    u8 bytes = 0;
    u8 group_lg2 = 0;  // a stage-2 tag means all tags that differ from it in so many low bits
    std::size_t each = no_table;
    Number first, second, leaf_only;
    Extent extent;
};

struct Case {
    std::vector<Test> tests;
    // Absent: these commands are for somebody else.
    std::optional<std::vector<Action>> actions;
    // What of `tests` says no more than that some bits have some values; the constructor of CommandSet finds it.
    Words mask{}, bits{};
};

struct Rule {
    u64 opcode = 0;
    Words zero{};             // bits that must be
    std::vector<Case> cases;  // the first one that holds; none: for somebody else
};

// The caches and the memory that commands act upon. The engine stays locked from one command to the next; `pause` lets
// others in.
class Engine {
public:
    explicit Engine(Translator& caches) : caches_(caches) {}

    void pause() { held_.reset(); }

    void everything() { held().all(); }
    void stage2_tag(u32 tag, bool stage1_only) { held().stage2_tag(tag, stage1_only); }
    void stage1_tag(u32 stage2_tag, u32 stage1_tag) { held().stage1_tag(stage2_tag, stage1_tag); }
    void range(u32 stage2_tag, std::optional<u32> stage1_tag, Range r, bool leaf_only) {
        held().range(stage2_tag, stage1_tag, r.start, r.last, leaf_only);
    }
    void stage2_range(u32 tag, Range r, bool leaf_only) { held().stage2_range(tag, r.start, r.last, leaf_only); }
    void all_contexts() { held().contexts(); }
    void contexts(u32 requester) { held().requester(requester); }
    void context(u32 requester, u32 pasid) { held().context({requester, pasid}); }
    // Memory may be a callback, and that may use the engine.
    bool store(u64 address, u64 value, std::size_t bytes) {
        pause();
        return caches_.memory().write(address, reinterpret_cast<const std::byte*>(&value), bytes);
    }

private:
    Translator::Invalidations& held() { return held_ ? *held_ : held_.emplace(caches_); }

    Translator& caches_;
    std::optional<Translator::Invalidations> held_;
};

class CommandSet {
public:
    static constexpr unsigned most_opcode_bits = 12;
    static constexpr std::size_t most_rules = 128;

    // Throws std::invalid_argument where the description cannot be one.
    CommandSet(std::size_t entry_bytes, Number opcode, std::vector<Rule> rules,
               std::vector<std::shared_ptr<Table>> tables)
        : bytes_(entry_bytes), opcode_(std::move(opcode)), rules_(std::move(rules)), tables_(std::move(tables)) {
        if (bytes_ % 8 || !bytes_ || bytes_ > most_bytes)
            throw std::invalid_argument("an entry has 8 to 64 bytes, a multiple of 8");
        if (rules_.size() > most_rules) throw std::invalid_argument("there are more than 128 rules");
        for (std::size_t i = 0; i < rules_.size(); ++i) place(i);
        in_order_ = tables_;
        std::ranges::sort(in_order_);
        in_order_.erase(std::ranges::unique(in_order_).begin(), in_order_.end());
    }

    std::size_t entry_bytes() const { return bytes_; }
    std::size_t rules() const { return rules_.size(); }

    // Executes entries that lie one after the other, up to the first that is for somebody else; gives how many, and
    // adds to `counts` how many there were of each rule.
    template <typename Target>
    std::size_t run(std::span<const std::byte> entries, Target&& target, std::span<u64> counts) const {
        const std::size_t all = entries.size() / bytes_;
        for (std::size_t done = 0; done < all;) {
            const std::size_t wanted = std::min(all - done, without_pause);
            const std::size_t ran = run_locked(entries.data() + done * bytes_, wanted, target, counts);
            target.pause();
            done += ran;
            if (ran < wanted) return done;
        }
        return all;
    }

    // The same for `count` entries of a ring in memory, of 2^`entries_lg2`, from index `head` on. An entry that cannot
    // be read is for somebody else.
    template <typename Target>
    std::size_t run_ring(const Memory& memory, u64 base, unsigned entries_lg2, u64 head, std::size_t count,
                         Target&& target, std::span<u64> counts) const {
        alignas(8) std::array<std::byte, chunk_bytes> chunk;
        const u64 entries = bit(entries_lg2);
        for (std::size_t done = 0; done < count;) {
            const u64 index = (head + done) & (entries - 1);
            const std::size_t wanted =
                std::min({count - done, static_cast<std::size_t>(entries - index), chunk_bytes / bytes_});
            const std::size_t have = readable(memory, base + index * bytes_, wanted, chunk.data());
            const std::size_t ran = run({chunk.data(), have * bytes_}, target, counts);
            done += ran;
            if (ran < wanted) return done;
        }
        return count;
    }

private:
    static constexpr std::size_t chunk_bytes = 4096;
    static constexpr std::size_t without_pause = 256;  // entries
    static constexpr u8 no_rule = 0xFF;
    static_assert(most_rules < no_rule);

    class Locks {
    public:
        explicit Locks(const std::vector<std::shared_ptr<Table>>& tables) : tables_(tables) {
            for (const auto& table : tables_) table->lock();
        }
        ~Locks() {
            for (const auto& table : tables_) table->unlock();
        }
        Locks(const Locks&) = delete;

    private:
        const std::vector<std::shared_ptr<Table>>& tables_;
    };

    template <typename Target>
    std::size_t run_locked(const std::byte* entries, std::size_t all, Target& target, std::span<u64> counts) const {
        const Locks locks(in_order_);
        Words words{};
        for (std::size_t done = 0; done < all; ++done) {
            copy_entry(words, entries + done * bytes_);
            const u64 opcode = opcode_.of(words);
            const u8 rule = opcode < by_opcode_.size() ? by_opcode_[opcode] : no_rule;
            if (rule == no_rule || !execute(rules_[rule], words, target)) return done;
            ++counts[rule];
        }
        return all;
    }
    // Copies of a known size are two moves, others a call.
    void copy_entry(Words& words, const std::byte* entry) const {
        if (bytes_ == 16) return void(std::memcpy(words.data(), entry, 16));
        if (bytes_ == 32) return void(std::memcpy(words.data(), entry, 32));
        std::memcpy(words.data(), entry, bytes_);
    }

    void place(std::size_t i) {
        Rule& rule = rules_[i];
        if (rule.opcode >= bit(most_opcode_bits)) throw std::invalid_argument("an opcode has more than 12 bits");
        if (rule.opcode >= by_opcode_.size()) by_opcode_.resize(rule.opcode + 1, no_rule);
        if (by_opcode_[rule.opcode] != no_rule) throw std::invalid_argument("two rules have one opcode");
        by_opcode_[rule.opcode] = static_cast<u8>(i);
        for (Case& one : rule.cases) {
            check(one);
            std::erase_if(one.tests, [&](const Test& test) {
                return test.kind == Test::Kind::within && test.low == test.high &&
                       test.number.add_equality(test.low, one.mask, one.bits);
            });
        }
    }
    void check(const Case& one) const {
        for (const Test& test : one.tests) {
            if (test.kind == Test::Kind::within && test.low > test.high)
                throw std::invalid_argument("the range of a condition is upside down");
            if (test.kind != Test::Kind::within && test.table >= tables_.size())
                throw std::invalid_argument("a condition names a table that is not there");
        }
        if (!one.actions) return;
        for (const Action& action : *one.actions) {
            if (action.each != no_table && action.each >= tables_.size())
                throw std::invalid_argument("an action names a table that is not there");
            if (action.group_lg2 > Action::most_group_lg2) throw std::invalid_argument("a group has at most 256 tags");
            if (action.verb != Action::Verb::store) continue;
            if (&action != one.actions->data() || action.each != no_table)
                throw std::invalid_argument("a store comes before other actions, since memory may refuse it");
            if (!action.bytes || action.bytes > 8) throw std::invalid_argument("a store has 1 to 8 bytes");
        }
    }

    template <typename Target> bool execute(const Rule& rule, const Words& words, Target& target) const {
        u64 wrong = (words[0] & rule.zero[0]) | (words[1] & rule.zero[1]);
        for (std::size_t i = 2; i < bytes_ / 8; ++i) wrong |= words[i] & rule.zero[i];
        if (wrong) return false;
        for (const Case& one : rule.cases) {
            if (!holds(one, words)) continue;
            if (!one.actions) return false;
            for (const Action& action : *one.actions)
                if (!perform(action, words, target)) return false;
            return true;
        }
        return false;
    }
    bool holds(const Case& one, const Words& words) const {
        u64 other = ((words[0] ^ one.bits[0]) & one.mask[0]) | ((words[1] ^ one.bits[1]) & one.mask[1]);
        for (std::size_t i = 2; i < bytes_ / 8; ++i) other |= (words[i] ^ one.bits[i]) & one.mask[i];
        if (other) return false;
        for (const Test& test : one.tests) {
            const u64 value = test.number.of(words);
            const bool so = test.kind == Test::Kind::within
                                ? value - test.low <= test.high - test.low
                                : tables_[test.table]->of(value).empty() == (test.kind == Test::Kind::unlisted);
            if (!so) return false;
        }
        return true;
    }

    template <typename Target> bool perform(const Action& action, const Words& words, Target& target) const {
        const u64 first = action.first.of(words);
        if (action.verb == Action::Verb::store) return target.store(first, action.second.of(words), action.bytes);
        if (action.each == no_table)
            perform_for(static_cast<u32>(first), action, words, target);
        else
            for (const u32 value : tables_[action.each]->of(first)) perform_for(value, action, words, target);
        return true;
    }
    template <typename Target>
    static void perform_for(u32 first, const Action& action, const Words& words, Target& target) {
        using enum Action::Verb;
        switch (action.verb) {
        case everything: return target.everything();
        case all_contexts: return target.all_contexts();
        case contexts: return target.contexts(first);
        case context: return target.context(first, static_cast<u32>(action.second.of(words)));
        case context_group: return forget_group(first, action.second.of(words), target);
        case store: return;
        default: break;
        }
        const u32 start = first >> action.group_lg2 << action.group_lg2;
        for (u32 i = 0; i < u32{1} << action.group_lg2; ++i) perform_on_tag(start + i, action, words, target);
    }
    template <typename Target>
    static void perform_on_tag(u32 tag, const Action& action, const Words& words, Target& target) {
        using enum Action::Verb;
        const auto number = [&](const Number& n) { return static_cast<u32>(n.of(words)); };
        switch (action.verb) {
        case stage2_tag: return target.stage2_tag(tag, action.flag);
        case stage1_tag: return target.stage1_tag(tag, number(action.second));
        case range:
            return target.range(tag, action.flag ? std::nullopt : std::optional(number(action.second)),
                                action.extent.of(words), action.leaf_only.of(words) != 0);
        case stage2_range: return target.stage2_range(tag, action.extent.of(words), action.leaf_only.of(words) != 0);
        default: return;
        }
    }
    template <typename Target> static void forget_group(u32 requester, u64 lg2, Target& target) {
        if (lg2 > Action::most_group_lg2) return target.all_contexts();
        const u32 start = requester >> lg2 << lg2;
        for (u32 i = 0; i < u32{1} << lg2; ++i) target.contexts(start + i);
    }

    std::size_t readable(const Memory& memory, u64 pa, std::size_t wanted, std::byte* out) const {
        if (memory.read(pa, out, wanted * bytes_)) return wanted;
        for (std::size_t have = 0; have < wanted; ++have)
            if (!memory.read(pa + have * bytes_, out + have * bytes_, bytes_)) return have;
        return wanted;
    }

    std::size_t bytes_;
    Number opcode_;
    std::vector<Rule> rules_;
    std::vector<u8> by_opcode_;
    std::vector<std::shared_ptr<Table>> tables_;
    std::vector<std::shared_ptr<Table>> in_order_;  // for locking: each once, in one order for everybody
};

}  // namespace viommu::commands
