// What commands mean, as it is described at run time.
#pragma once

#include <memory>
#include <optional>
#include <span>

#include "viommu/command_numbers.hpp"
#include "viommu/command_table.hpp"

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
};

struct Rule {
    u64 opcode = 0;
    Words zero{};             // bits that must be
    std::vector<Case> cases;  // the first one that holds; none: for somebody else
};

// Throws std::invalid_argument where a case cannot be one. There are so many tables.
inline void check(const Case& one, std::size_t tables) {
    for (const Test& test : one.tests) {
        if (test.kind == Test::Kind::within && test.low > test.high)
            throw std::invalid_argument("the range of a condition is upside down");
        if (test.kind != Test::Kind::within && test.table >= tables)
            throw std::invalid_argument("a condition names a table that is not there");
    }
    if (!one.actions) return;
    for (const Action& action : *one.actions) {
        if (action.each != no_table && action.each >= tables)
            throw std::invalid_argument("an action names a table that is not there");
        if (action.group_lg2 > Action::most_group_lg2) throw std::invalid_argument("a group has at most 256 tags");
        if (action.verb != Action::Verb::store) continue;
        if (&action != one.actions->data() || action.each != no_table)
            throw std::invalid_argument("a store comes before other actions, since memory may refuse it");
        if (!action.bytes || action.bytes > 8) throw std::invalid_argument("a store has 1 to 8 bytes");
    }
}

}  // namespace viommu::commands
