// Actions, done to whoever takes them.
#pragma once

#include "viommu/command_rules.hpp"

namespace viommu::commands {

template <typename Target> void forget_group(u32 requester, u64 lg2, Target& target) {
    if (lg2 > Action::most_group_lg2) return target.all_contexts();
    const u32 start = requester >> lg2 << lg2;
    for (u32 i = 0; i < u32{1} << lg2; ++i) target.contexts(start + i);
}
template <typename Target>
void perform_on_tag(u32 tag, const Action& action, const Words& entry, Target& target) {
    using enum Action::Verb;
    const auto number = [&](const Number& n) { return static_cast<u32>(n.of(entry)); };
    switch (action.verb) {
    case stage2_tag: return target.stage2_tag(tag, action.flag);
    case stage1_tag: return target.stage1_tag(tag, number(action.second));
    case range:
        return target.range(tag, action.flag ? std::nullopt : std::optional(number(action.second)),
                            action.extent.of(entry), action.leaf_only.of(entry) != 0);
    case stage2_range: return target.stage2_range(tag, action.extent.of(entry), action.leaf_only.of(entry) != 0);
    default: return;
    }
}
// All but a store. `first` is what the action is about, or one of the values that a table has for that.
template <typename Target>
void perform_for(u32 first, const Action& action, const Words& entry, Target& target) {
    using enum Action::Verb;
    switch (action.verb) {
    case everything: return target.everything();
    case all_contexts: return target.all_contexts();
    case contexts: return target.contexts(first);
    case context: return target.context(first, static_cast<u32>(action.second.of(entry)));
    case context_group: return forget_group(first, action.second.of(entry), target);
    case store: return;
    default: break;
    }
    const u32 start = first >> action.group_lg2 << action.group_lg2;
    for (u32 i = 0; i < u32{1} << action.group_lg2; ++i) perform_on_tag(start + i, action, entry, target);
}

}  // namespace viommu::commands
