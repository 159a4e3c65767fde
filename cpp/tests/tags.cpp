// Tags: what each invalidation makes stale, and what it spares.
#include "viommu/tags.hpp"

#include "check.hpp"

namespace viommu::test {
namespace {

// An entry of each kind, made now.
struct Kinds {
    Tags tags;
    TagId own = tags.intern(1, 5), other = tags.intern(1, 6), global = tags.intern(1, Tags::global),
          alone = tags.intern(1, Tags::none), stranger = tags.intern(2, 5);
    u64 made = tags.now();

    // Which of them still count, as a string of initials.
    std::string live() const {
        std::string out;
        for (const auto& [letter, id] :
             {std::pair{'o', own}, {'t', other}, {'g', global}, {'a', alone}, {'s', stranger}})
            if (made > tags.stale(id)) out += letter;
        return out;
    }
};

void scopes() {
    Kinds all, one, stage2, stage1;
    equals(all.live(), std::string("otgas"));
    all.tags.invalidate_all();
    equals(all.live(), std::string());
    one.tags.invalidate(one.own);
    equals(one.live(), std::string("tgas"));
    stage2.tags.invalidate_stage2(1, false);
    equals(stage2.live(), std::string("s"));
    stage1.tags.invalidate_stage2(1, true);
    equals(stage1.live(), std::string("as"));
}

void younger_entries_count() {
    Kinds k;
    k.tags.invalidate_all();
    check(k.tags.now() > k.tags.stale(k.own), "what is made after an invalidation counts");
    k.tags.invalidate(k.own);
    check(k.tags.now() > k.tags.stale(k.own), "each time");
    check(k.made <= k.tags.stale(k.own), "what was made before never does again");
}

void unknown_tags() {
    Tags tags;
    tags.invalidate_stage2(77, false);
    check(tags.find(77, 1) == no_tag, "an invalidation makes no tag");
    equals(tags.size(), 0u);
    equals(tags.intern(77, 1), tags.intern(77, 1));
    equals(tags.size(), 1u);
}

void guests_cannot_name_ours() {
    Tags tags;
    const TagId global = tags.intern(1, Tags::global), none = tags.intern(1, Tags::none);
    for (const u64 chosen : {u64{0}, u64{0xFFFF'FFFF}}) {
        check(tags.intern(1, chosen) != global && tags.intern(1, chosen) != none, "a 32-bit tag is neither");
    }
}

void forgetting() {
    Kinds k;
    k.tags.clear();
    equals(k.tags.size(), 0u);
    const TagId again = k.tags.intern(9, 9);  // the number of an older tag
    check(k.made <= k.tags.stale(again), "no old entry revives under a number that is used again");
}

}  // namespace
}  // namespace viommu::test

int main() {
    using namespace viommu::test;
    return run({
        {"each invalidation has its scope, and no more", scopes},
        {"only what is younger than its scopes counts", younger_entries_count},
        {"invalidating what was never seen costs nothing", unknown_tags},
        {"a guest cannot choose the global tag, or that of stage 2 alone", guests_cannot_name_ours},
        {"forgotten tags stay invalid", forgetting},
    });
}
