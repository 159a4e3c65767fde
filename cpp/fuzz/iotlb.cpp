// The IOTLB under any sequence of insertions and invalidations, beside a map. Where a set is full a victim leaves, and
// only one; which one is the policy's own affair (the tests hold each to its book).
#include <map>
#include <set>

#include "fields.hpp"
#include "viommu/iotlb.hpp"

using namespace viommu;

namespace {

constexpr u64 stage1_tags[] = {5, 6, Tags::global, Tags::none};

struct Page {
    TagId tag;
    unsigned lg2;
    u64 page;
    auto operator<=>(const Page&) const = default;
    bool touches(u64 start, u64 last) const { return page << lg2 <= last && (page << lg2 | below(lg2)) >= start; }
};

class Subject {
public:
    explicit Subject(const IotlbGeometry& geometry) : iotlb_(geometry) {
        for (u32 stage2_tag = 1; stage2_tag <= 2; ++stage2_tag)
            for (const u64 stage1_tag : stage1_tags) tag_ids_.push_back(tags_.intern(stage2_tag, stage1_tag));
    }

    TagId tag(Fields& in) const { return tag_ids_[in.within(0, static_cast<unsigned>(tag_ids_.size() - 1))]; }

    void insert(Page page, u64 frame) {
        IotlbEntry entry;
        entry.page = page.page;
        entry.lg2 = static_cast<u8>(page.lg2);
        entry.tag = page.tag;
        entry.frame = entry.ipa_frame = frame << page.lg2;
        const bool evicted = iotlb_.insert(entry, {}, tags_);
        if (evicted && iotlb_.unbounded()) broken("an unbounded cache evicts nobody");
        model_[page] = frame;
        // What lookups under this replacement policy find is asked of all, so that each has the same part in it.
        std::size_t gone = std::erase_if(model_, [&](const auto& item) { return !holds(item.first, item.second); });
        if (!model_.contains(page)) broken("what was put in last is in");
        if (gone != evicted) broken("a full set loses one, any other none");
    }
    template <typename Drop, typename Goes> void invalidate(Drop&& drop, Goes&& goes) {
        drop();
        std::erase_if(model_, [&](const auto& item) { return goes(item.first); });
    }
    void invalidate(Fields& in, u8 how) {
        const TagId id = tag(in);
        const Tags::Space space = tags_.space(id);
        const bool stage1_only = in.flag();
        const auto of_stage2 = [&](const Page& p) {
            const Tags::Space& s = tags_.space(p.tag);
            return s.stage2_tag == space.stage2_tag && !(stage1_only && s.stage1_tag == Tags::none);
        };
        u64 ends[] = {address(in), address(in)};
        const auto [start, last] = std::minmax(ends[0], ends[1]);
        const auto in_range = [&, start = start, last = last](const Page& p) {
            return p.tag == id && p.touches(start, last);
        };
        switch (how) {
        case 0:
            return invalidate([&] { tags_.invalidate_all(), iotlb_.forget_sizes(); }, [](const Page&) { return true; });
        case 1: return invalidate([&] { tags_.invalidate_stage2(space.stage2_tag, stage1_only); }, of_stage2);
        case 2: return invalidate([&] { tags_.invalidate(id); }, [&](const Page& p) { return p.tag == id; });
        case 3:
            return invalidate([&, start = start, last = last] { iotlb_.drop_range(id, start, last, tags_); }, in_range);
        default:
            return invalidate(
                [&] { iotlb_.drop_if([&](const IotlbEntry& e) { return in_range({e.tag, e.lg2, e.page}); }); },
                in_range);
        }
    }
    // The smallest page of a tag that holds an address answers for it, and nothing else does.
    void look(TagId id, u64 input) {
        LookUp look_up;
        iotlb_.prepare(look_up, id, id, tags_);
        IotlbHit hit;
        const bool found = iotlb_.find(look_up, input, hit);
        for (unsigned lg2 = 0; lg2 < 64; ++lg2) {
            const auto at = model_.find({id, lg2, input >> lg2});
            if (at == model_.end()) continue;
            if (!found || hit.lg2 != lg2 || hit.frame != at->second << lg2)
                broken("the smallest page that holds it answers");
            return;
        }
        if (found) broken("nothing answers for what is not in");
    }
    void check_all() {
        if (iotlb_.live(tags_).size() != model_.size()) broken("as many are live as were put in and stayed");
        for (const auto& [page, frame] : model_)
            if (!holds(page, frame)) broken("what is in and was not invalidated stays");
    }
    // Few enough to meet again, at both ends of the address space.
    static u64 address(Fields& in) {
        const u64 low = in.take<u8>() * u64{0x800};
        return in.flag() ? low : ~low;
    }

private:
    // Asks for this page alone: a smaller one within it may answer for its first byte, but not for all of them.
    bool holds(const Page& page, u64 frame) {
        IotlbEntry entry;
        entry.page = page.page;
        entry.lg2 = static_cast<u8>(page.lg2);
        entry.tag = page.tag;
        if (!iotlb_.has(entry, tags_)) return false;
        for (const IotlbEntry& live : iotlb_.live(tags_))
            if (live.same_page(entry)) return live.frame == frame << page.lg2;
        return false;
    }

    Tags tags_;
    Iotlb iotlb_;
    std::vector<TagId> tag_ids_;
    std::map<Page, u64> model_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Fields in(data, size);
    const unsigned ways_lg2 = in.within(0, 3), sets_lg2 = in.within(0, 3);
    const std::size_t entries = in.flag() ? 0 : std::size_t{1} << (ways_lg2 + sets_lg2);
    Subject subject({entries, 1u << ways_lg2, static_cast<Policy>(in.within(0, 3)), in.take<u8>()});
    constexpr unsigned sizes[] = {12, 13, 16, 21, 63};
    for (u64 step = 1; in.left() && step < 300; ++step) {
        const TagId tag = subject.tag(in);
        const unsigned lg2 = sizes[in.within(0, 4)];
        const u64 address = Subject::address(in);
        switch (const u8 what = in.within(0, 11)) {
        case 0:
        case 1:
        case 2:
        case 3:
        case 4: subject.invalidate(in, what); break;
        case 5:
        case 6: subject.look(tag, address); break;
        default: subject.insert({tag, lg2, address >> lg2}, step); break;
        }
    }
    subject.check_all();
    return 0;
}
