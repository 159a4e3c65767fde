// Commands of any vendor's queue, described at run time and executed without anybody's help.
//
// A description says for each opcode which bits must be zero, and in which cases it means which neutral actions. What
// it does not cover is for somebody else: a run stops in front of it. Nothing here allocates while commands run.
#pragma once

#include "viommu/command_actions.hpp"
#include "viommu/command_engine.hpp"
#include "viommu/command_pattern.hpp"

namespace viommu::commands {

class CommandSet {
public:
    static constexpr unsigned most_opcode_bits = 12;
    static constexpr std::size_t most_rules = 128;

    // Throws std::invalid_argument where the description cannot be one.
    CommandSet(std::size_t entry_bytes, Number opcode, const std::vector<Rule>& rules,
               std::vector<std::shared_ptr<Table>> tables)
        : bytes_(entry_bytes), opcode_(std::move(opcode)), tables_(std::move(tables)) {
        if (bytes_ % 8 || !bytes_ || bytes_ > most_bytes)
            throw std::invalid_argument("an entry has 8 to 64 bytes, a multiple of 8");
        if (rules.size() > most_rules) throw std::invalid_argument("there are more than 128 rules");
        for (const Rule& rule : rules) place(rule);
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

    // A case, with what of its tests says no more than that some bits have some values.
    struct ReadyCase : Case {
        Words mask{}, bits{};
        Likeness likeness;
    };
    struct ReadyRule {
        Words zero{};
        std::vector<ReadyCase> cases;
    };

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
        if (bytes_ == 16) return run_words<2>(entries, all, target, counts);
        if (bytes_ == 32) return run_words<4>(entries, all, target, counts);
        return run_words<most_words>(entries, all, target, counts);
    }
    template <std::size_t words, typename Target>
    std::size_t run_words(const std::byte* entries, std::size_t all, Target& target, std::span<u64> counts) const {
        Patterns patterns;
        Words entry{};
        for (std::size_t done = 0; done < all;) {
            load<words>(entry, entries + done * bytes_);
            std::size_t ran = 0;
            if constexpr (requires { target.repeats(); })
                ran = run_alike<words>(entry, entries + done * bytes_, all - done, target, patterns, counts);
            else
                ran = run_one<words>(entry, target, counts);
            if (!ran) return done;
            done += ran;
        }
        return all;
    }
    // Copies of a known size are moves, others a call.
    template <std::size_t words> [[gnu::always_inline]] void load(Words& entry, const std::byte* from) const {
        std::memcpy(entry.data(), from, words == most_words ? bytes_ : words * 8);
    }

    // Executes one entry; gives how many were executed.
    template <std::size_t words, typename Target>
    std::size_t run_one(const Words& entry, Target& target, std::span<u64> counts) const {
        const u8 rule = rule_of(entry);
        const ReadyCase* const one = rule == no_rule ? nullptr : case_of<words>(rules_[rule], entry);
        if (!one || !perform(*one, entry, target)) return 0;
        ++counts[rule];
        return 1;
    }
    // The same, and the entries after it that are like it.
    template <std::size_t words, typename Target>
    [[gnu::always_inline]] std::size_t run_alike(const Words& entry, const std::byte* entries, std::size_t all,
                                                 Target& target, Patterns& patterns, std::span<u64> counts) const {
        Pattern* known = patterns.find<words>(entry);
        if (!known) {
            const u8 rule = rule_of(entry);
            const ReadyCase* const one = rule == no_rule ? nullptr : case_of<words>(rules_[rule], entry);
            if (!one) return 0;
            if (!one->likeness.repeats || !target.repeats()) {
                patterns.clear();  // a store lets others in
                if (!perform(*one, entry, target)) return 0;
                ++counts[rule];
                return 1;
            }
            known = &begin<words>(rule, *one, entry, target, patterns);
        }
        const std::size_t ran = repeat<words>(*known, entry, entries, all, target);
        counts[known->rule] += ran;
        return ran;
    }
    u8 rule_of(const Words& entry) const {
        const u64 opcode = opcode_.of(entry);
        return opcode < by_opcode_.size() ? by_opcode_[opcode] : no_rule;
    }

    // Does what an entry asks for besides its block, which is `repeat`'s; it counts all.
    template <std::size_t words, typename Target>
    Pattern& begin(std::size_t rule, const ReadyCase& one, const Words& entry, Target& target,
                   Patterns& patterns) const {
        const Number* const address = block_address<words>(rules_[rule], one, entry);
        const std::vector<Action>& actions = *one.actions;
        const u64 before = target.invalidations();
        for (std::size_t i = 0; i < actions.size(); ++i)
            if (!address || i != one.likeness.block) perform(actions[i], entry, target);
        const u64 counted = target.invalidations() - before;
        target.repeated(0 - counted);
        Pattern& made = patterns.add();
        made.rule = rule;
        made.invalidations = counted + (address != nullptr);
        made.address = address;
        for (std::size_t i = 0; i < words; ++i) {
            made.fixed[i] = address ? ~one.likeness.moving[i] : ~u64{0};
            made.bits[i] = entry[i] & made.fixed[i];
        }
        if (address) made.blocks = blocks_of(actions[one.likeness.block], entry, target);
        return made;
    }
    // Executes the entries that are like one, which the first of them is known to be; gives how many there are.
    template <std::size_t words, typename Target>
    std::size_t repeat(Pattern& known, const Words& first, const std::byte* entries, std::size_t all,
                       Target& target) const {
        const Likes<words> like(known);  // at hand, since what is dropped might be anywhere
        const std::size_t step = words == most_words ? bytes_ : words * 8;
        const std::byte *at = entries, *const end = entries + all * step;
        Words entry{};
        const auto next = [&](Words& into) {
            if ((at += step) == end) return false;
            load<words>(into, at);
            return like(into);
        };
        if (known.address && !known.blocks.nothing) {
            std::copy_n(first.begin(), words, entry.begin());
            target.drop(known.blocks, [&](auto&& drop) {
                do drop(known.address->of(entry));
                while (next(entry));
            });
        } else {
            Words other{};
            while (next(other)) {
            }
        }
        const auto ran = static_cast<std::size_t>(at - entries) / step;
        target.repeated(ran * known.invalidations);
        return ran;
    }
    // The address that moves, unless an earlier case might hold for another one, or the block is one of several spaces.
    template <std::size_t words>
    const Number* block_address(const ReadyRule& rule, const ReadyCase& one, const Words& entry) const {
        if (one.likeness.block == Likeness::no_action) return nullptr;
        const Action& action = (*one.actions)[one.likeness.block];
        const Extent& extent = action.extent;
        if (extent.kind == Extent::Kind::sized && extent.size.of(entry)) return nullptr;
        if (action.each != no_table && tables_[action.each]->of(action.first.of(entry)).size() != 1) return nullptr;
        for (const ReadyCase* earlier = rule.cases.data(); earlier != &one; ++earlier) {
            u64 other = 0;
            for (std::size_t i = 0; i < words; ++i)
                other |= (entry[i] ^ earlier->bits[i]) & earlier->mask[i] & ~one.likeness.moving[i];
            if (!other && !fails_anyway(*earlier, one.likeness.moving, entry)) return nullptr;
        }
        return &extent.address;
    }
    // Whether a test fails that has nothing to do with the bits that move.
    bool fails_anyway(const ReadyCase& one, const Words& moving, const Words& entry) const {
        return std::ranges::any_of(one.tests, [&](const Test& test) {
            Words said{};
            test.number.add_bits(said);
            u64 common = 0;
            for (std::size_t i = 0; i < most_words; ++i) common |= said[i] & moving[i];
            return !common && !holds(test, entry);
        });
    }
    template <typename Target> auto blocks_of(const Action& action, const Words& entry, Target& target) const {
        const bool second_stage = action.verb == Action::Verb::stage2_range;
        const Extent& extent = action.extent;
        const u64 lg2 = (extent.kind == Extent::Kind::block ? extent.size : extent.unit).of(entry);
        const u64 first = action.first.of(entry);
        const u32 tag = action.each == no_table ? static_cast<u32>(first) : tables_[action.each]->of(first).front();
        return target.blocks(tag, second_stage ? Tags::none : static_cast<u32>(action.second.of(entry)),
                             static_cast<unsigned>(std::min<u64>(lg2, 64)), action.leaf_only.of(entry) != 0);
    }

    void place(const Rule& rule) {
        if (rule.opcode >= bit(most_opcode_bits)) throw std::invalid_argument("an opcode has more than 12 bits");
        if (rule.opcode >= by_opcode_.size()) by_opcode_.resize(rule.opcode + 1, no_rule);
        if (by_opcode_[rule.opcode] != no_rule) throw std::invalid_argument("two rules have one opcode");
        by_opcode_[rule.opcode] = static_cast<u8>(rules_.size());
        ReadyRule& made = rules_.emplace_back(rule.zero);
        for (const Case& one : rule.cases) {
            check(one, tables_.size());
            made.cases.push_back(ReadyCase{one, {}, {}, {}});
        }
        for (ReadyCase& one : made.cases) make_ready(one, rule.zero);
    }
    void make_ready(ReadyCase& one, const Words& zero) const {
        std::erase_if(one.tests, [&](const Test& test) {
            return test.kind == Test::Kind::within && test.low == test.high &&
                   test.number.add_equality(test.low, one.mask, one.bits);
        });
        Words always = zero;
        for (std::size_t i = 0; i < most_words; ++i) always[i] |= one.mask[i];
        opcode_.add_bits(always);
        one.likeness = likeness_of(one, always);
    }

    // Null: it is for somebody else.
    template <std::size_t words> const ReadyCase* case_of(const ReadyRule& rule, const Words& entry) const {
        u64 wrong = 0;
        for (std::size_t i = 0; i < words; ++i) wrong |= entry[i] & rule.zero[i];
        if (wrong) return nullptr;
        for (const ReadyCase& one : rule.cases)
            if (holds<words>(one, entry)) return one.actions ? &one : nullptr;
        return nullptr;
    }
    template <std::size_t words> bool holds(const ReadyCase& one, const Words& entry) const {
        u64 other = 0;
        for (std::size_t i = 0; i < words; ++i) other |= (entry[i] ^ one.bits[i]) & one.mask[i];
        return !other && std::ranges::all_of(one.tests, [&](const Test& test) { return holds(test, entry); });
    }
    bool holds(const Test& test, const Words& entry) const {
        const u64 value = test.number.of(entry);
        if (test.kind == Test::Kind::within) return value - test.low <= test.high - test.low;
        return tables_[test.table]->of(value).empty() == (test.kind == Test::Kind::unlisted);
    }

    template <typename Target> bool perform(const ReadyCase& one, const Words& entry, Target& target) const {
        for (const Action& action : *one.actions)
            if (!perform(action, entry, target)) return false;
        return true;
    }
    template <typename Target> bool perform(const Action& action, const Words& entry, Target& target) const {
        const u64 first = action.first.of(entry);
        if (action.verb == Action::Verb::store) return target.store(first, action.second.of(entry), action.bytes);
        if (action.each == no_table)
            perform_for(static_cast<u32>(first), action, entry, target);
        else
            for (const u32 value : tables_[action.each]->of(first)) perform_for(value, action, entry, target);
        return true;
    }
    std::size_t readable(const Memory& memory, u64 pa, std::size_t wanted, std::byte* out) const {
        if (memory.read(pa, out, wanted * bytes_)) return wanted;
        for (std::size_t have = 0; have < wanted; ++have)
            if (!memory.read(pa + have * bytes_, out + have * bytes_, bytes_)) return have;
        return wanted;
    }

    std::size_t bytes_;
    Number opcode_;
    std::vector<ReadyRule> rules_;
    std::vector<u8> by_opcode_;
    std::vector<std::shared_ptr<Table>> tables_;
    std::vector<std::shared_ptr<Table>> in_order_;  // for locking: each once, in one order for everybody
};

}  // namespace viommu::commands
