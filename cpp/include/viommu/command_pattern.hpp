// What a command did, kept for the commands after it that are like it: bursts of invalidations differ in an address.
//
// While nothing is put into the caches, an invalidation that is done again finds nothing. So of those that are alike in
// every bit one is executed, and the others are counted; where an address differs, nothing but that is looked at.
#pragma once

#include "viommu/command_rules.hpp"
#include "viommu/translator.hpp"

namespace viommu::commands {

// What of a case need not be looked at twice; found once, when the description is made.
struct Likeness {
    static constexpr std::size_t no_action = ~std::size_t{0};

    bool repeats = false;  // it leaves nothing behind but caches that hold less
    // Bits of an address that has no say in anything but which block is dropped; none where there is no such address.
    Words moving{};
    std::size_t block = no_action;  // the action that drops it
};

namespace likeness {

// The one action that drops a block of one address space.
inline std::size_t block_of(const std::vector<Action>& actions) {
    const auto drops = [](const Action& a) {
        return a.verb == Action::Verb::range || a.verb == Action::Verb::stage2_range;
    };
    if (std::ranges::count_if(actions, drops) != 1) return Likeness::no_action;
    const auto found = std::ranges::find_if(actions, drops);
    if (found->flag || found->group_lg2 || found->extent.kind == Extent::Kind::counted) return Likeness::no_action;
    return static_cast<std::size_t>(found - actions.begin());
}
// Adds the bits that have a say in anything but the address of `block`.
inline void add_others(const Case& one, const Action& block, Words& mask) {
    for (const Test& test : one.tests) test.number.add_bits(mask);
    for (const Action& action : *one.actions) {
        for (const Number* n : {&action.first, &action.second, &action.leaf_only, &action.extent.size,
                                &action.extent.unit, &action.extent.count})
            n->add_bits(mask);
        if (&action != &block) action.extent.address.add_bits(mask);
    }
}

}  // namespace likeness

// `always`: bits that tell whether it is this command at all.
inline Likeness likeness_of(const Case& one, Words always) {
    if (!one.actions) return {};
    const auto stores = [](const Action& action) { return action.verb == Action::Verb::store; };
    if (std::ranges::any_of(*one.actions, stores)) return {};
    Likeness same;
    same.repeats = true;
    const std::size_t block = likeness::block_of(*one.actions);
    if (block == Likeness::no_action) return same;
    const Action& action = (*one.actions)[block];
    Words moving{};
    action.extent.address.add_bits(moving);
    likeness::add_others(one, action, always);
    for (std::size_t i = 0; i < most_words; ++i)
        if (moving[i] & always[i]) return same;
    return {true, moving, block};
}

// Commands like one that was executed. Valid until others may use the caches.
struct Pattern {
    // Of an entry that is like it, these bits are those.
    Words fixed, bits;
    std::size_t rule;
    u64 invalidations;      // of each
    const Number* address;  // of the block that each drops; null: they are alike in every bit
    Translator::Invalidations::Blocks blocks;
};

// Whether entries of so many words are like one.
template <std::size_t words> class Likes {
public:
    [[gnu::always_inline]] explicit Likes(const Pattern& pattern) {
        std::copy_n(pattern.fixed.begin(), words, fixed_.begin());
        std::copy_n(pattern.bits.begin(), words, bits_.begin());
    }
    [[gnu::always_inline]] bool operator()(const Words& entry) const {
        u64 other = 0;
        for (std::size_t i = 0; i < words; ++i) other |= (entry[i] ^ bits_[i]) & fixed_[i];
        return !other;
    }

private:
    std::array<u64, words> fixed_, bits_;
};

// The last few.
class Patterns {
public:
    template <std::size_t words> [[gnu::always_inline]] Pattern* find(const Words& entry) {
        if (known_ && Likes<words>(patterns_[last_])(entry)) [[likely]]
            return &patterns_[last_];
        for (unsigned i = 0; i < known_; ++i)
            if (Likes<words>(patterns_[i])(entry)) return &patterns_[last_ = i];
        return nullptr;
    }
    // To be filled in: in place of the one that was made longest ago.
    Pattern& add() {
        last_ = made_++ % patterns_.size();
        known_ = std::max(known_, last_ + 1);
        return patterns_[last_];
    }
    void clear() { known_ = made_ = 0; }

private:
    std::array<Pattern, 4> patterns_;
    unsigned known_ = 0, last_ = 0, made_ = 0;
};

}  // namespace viommu::commands
