// The IOTLB by itself: geometry, replacement order on traces made by hand, page sizes, ranges, growth.
#include "viommu/iotlb.hpp"

#include <set>

#include "check.hpp"

namespace viommu::test {
namespace {

constexpr std::size_t unbounded = 0;

struct Cache {
    explicit Cache(IotlbGeometry geometry) : iotlb(geometry) {}

    bool add(u64 input, unsigned lg2 = 12, TagId under = 0) {
        IotlbEntry e;
        e.page = input >> lg2;
        e.lg2 = static_cast<u8>(lg2);
        e.tag = under;
        e.frame = e.ipa_frame = input;
        return iotlb.insert(e, {}, tags);
    }
    IotlbHit find(u64 input, TagId under = 0) {
        LookUp look_up;
        iotlb.prepare(look_up, under, under, tags);
        IotlbHit hit;
        iotlb.find(look_up, input, hit);
        return hit;
    }
    bool has(u64 input, TagId under = 0) { return find(input, under).facts; }

    Tags tags;
    TagId tag = tags.intern(1, 1), other = tags.intern(1, 2);
    Iotlb iotlb;
};

// One set, pages named by letters. Lower case asks for a page; upper case puts it in. What is in afterwards, in order.
std::string trace(Policy policy, unsigned ways, const std::string& letters, u64 seed = 0) {
    Cache c({.entries = ways, .ways = ways, .policy = policy, .seed = seed});
    const auto page = [](char letter) { return static_cast<u64>(letter & 31) << 12; };
    for (const char letter : letters) {
        if (letter == '!')
            c.tags.invalidate_all();
        else if (letter >= 'a')
            c.has(page(letter));
        else
            c.add(page(letter));
    }
    std::string in;
    for (char letter = 'A'; letter <= 'Z'; ++letter)
        if (c.has(page(letter))) in += letter;
    return in;
}
void stays(Policy policy, unsigned ways, const char* letters, const char* in, Where where = Where::current()) {
    equals(trace(policy, ways, letters), std::string(in), where);
}

void lru() {
    stays(Policy::lru, 4, "ABCDE", "BCDE");
    stays(Policy::lru, 4, "ABCDaE", "ACDE");
    stays(Policy::lru, 4, "ABCDabEF", "ABEF");
    stays(Policy::lru, 4, "ABCDAE", "ACDE");  // walked again counts as used
    stays(Policy::lru, 2, "ABaCbD", "CD");    // asking for what is gone changes nothing
    stays(Policy::lru, 1, "AB", "B");
}

void fifo() {
    stays(Policy::fifo, 4, "ABCDabE", "BCDE");
    stays(Policy::fifo, 4, "ABCDAE", "BCDE");  // walked again, but it came first
    stays(Policy::fifo, 4, "ABCDEFG", "DEFG");
    stays(Policy::fifo, 4, "ABCD!BACDE", "ACDE");  // after an invalidation all come anew
}

// The tree's bits point away from what was used last: worked out on paper.
void plru() {
    stays(Policy::plru, 4, "ABCDE", "BCDE");
    stays(Policy::plru, 4, "ABCDaE", "ABDE");    // the root points right, and there to C
    stays(Policy::plru, 4, "ABCDacE", "ACDE");   // the root points left, and there to B
    stays(Policy::plru, 4, "ABCDaEbF", "ABEF");  // LRU would have evicted B, then C
    stays(Policy::plru, 2, "ABaC", "AC");
    stays(Policy::plru, 8, "ABCDEFGHI", "BCDEFGHI");
    stays(Policy::plru, 8, "ABCDEFGHaI", "ABCDFGHI");
    stays(Policy::plru, 1, "AB", "B");
}

void random() {
    const std::string long_trace = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    equals(trace(Policy::random, 4, long_trace, 7), trace(Policy::random, 4, long_trace, 7));
    std::set<std::string> outcomes;
    for (u64 seed = 0; seed < 32; ++seed) outcomes.insert(trace(Policy::random, 4, long_trace, seed));
    check(outcomes.size() > 8, "seeds matter");
    check(trace(Policy::random, 4, long_trace).find('Z') != std::string::npos, "the newest is in");
    equals(trace(Policy::random, 4, "ABCD"), std::string("ABCD"));  // free ways first
}

void stale_ways_first() {
    for (const Policy policy : {Policy::lru, Policy::fifo, Policy::plru, Policy::random})
        equals(trace(policy, 4, "ABCD!EFGH"), std::string("EFGH"));
    Cache c({.entries = 4, .ways = 4, .policy = Policy::lru, .seed = 0});
    check(!c.add(0x1000) && !c.add(0x2000) && !c.add(0x3000, 12, c.other) && !c.add(0x4000), "they fit");
    c.tags.invalidate(c.other);
    check(!c.add(0x5000), "a stale entry's place is free: nobody was evicted");
    check(c.has(0x1000) && c.has(0x2000) && c.has(0x4000) && c.has(0x5000), "the others stay");
    check(c.add(0x6000), "now somebody was");
    equals(c.iotlb.live(c.tags).size(), 4u);
}

void geometry() {
    for (const unsigned ways : {0u, 3u, 128u})
        throws<std::invalid_argument>([&] { Iotlb({.entries = 1024, .ways = ways, .policy = {}, .seed = 0}); });
    for (const std::size_t entries : {std::size_t{2}, std::size_t{1000}, std::size_t{1} << 40})
        throws<std::invalid_argument>([&] { Iotlb({.entries = entries, .ways = 4, .policy = {}, .seed = 0}); });
    Cache c({.entries = 64, .ways = 64, .policy = Policy::plru, .seed = 0});
    for (u64 page = 0; page < 64; ++page) check(!c.add(page << 12), "64 ways are 64 places");
    check(c.add(64 << 12) && !c.has(0), "and not one more");
}

void sets_spread() {
    Cache c({.entries = 1024, .ways = 4, .policy = Policy::lru, .seed = 0});
    for (const u64 stride : {u64{1}, u64{512}, u64{1} << 20}) {
        c.iotlb.clear();
        unsigned evictions = 0;
        for (u64 page = 0; page < 512; ++page) evictions += c.add(page * stride << 12);
        check(evictions < 64, "half full, few sets overflow whatever the stride");
    }
}

void sizes() {
    Cache c({});
    c.add(0x4000'0000, 30);
    c.add(0x8000'0000, 21);
    c.add(0x1000, 12);
    check(c.has(0x4000'0000) && c.has(0x7FFF'FFFF) && !c.has(0x8020'0000) && !c.has(0x2000), "each covers its page");
    c.add(0x4000'1000, 12);
    equals(c.find(0x4000'1234).lg2, 12u);  // the smallest answers
    equals(c.find(0x4000'2234).lg2, 30u);
    c.add(u64{1} << 63, 63);
    check(c.has(~u64{0}), "half of the address space is a page too");
}

void tags_are_apart() {
    Cache c({});
    c.add(0x1000, 12, c.tag);
    check(!c.has(0x1000, c.other), "another tag's page is another page");
    c.add(0x1000, 12, c.other);
    c.tags.invalidate(c.tag);
    check(!c.has(0x1000, c.tag) && c.has(0x1000, c.other), "one tag's invalidation is its own");
}

// However many tags there are: a large page of one is no smaller page of the global tag beside it.
void tags_far_apart() {
    Cache c({});
    const TagId global = c.tags.intern(1, Tags::global), own = global ^ 11u << 16;
    for (u32 pasid = 0; c.tags.size() <= own; ++pasid) c.tags.intern(2, pasid);
    const auto look_up = [&] {
        LookUp made;
        c.iotlb.prepare(made, own, global, c.tags);
        return made;
    };
    const auto add = [&](u64 input, u8 lg2, TagId tag) {
        c.iotlb.insert({.page = input >> lg2, .frame = input, .ipa_frame = input, .tag = tag, .lg2 = lg2, .facts = {}},
                       look_up(), c.tags);
    };
    add(u64{512} << 21, 21, global);
    add(u64{5} << 30, 30, own);
    IotlbHit hit;
    check(c.iotlb.find(look_up(), u64{5} << 30, hit) && hit.lg2 == 30, "it is what was put in");
    check(!c.iotlb.find(look_up(), u64{5} << 21, hit), "and nothing else is");
}

void ranges() {
    Cache c({});
    const auto refill = [&] {
        c.iotlb.clear();
        for (u64 page = 0; page < 8; ++page) c.add(page << 12);
        c.add(0x4000'0000, 21);
        c.add(0x2000, 12, c.other);
    };
    const auto left = [&] { return c.iotlb.live(c.tags).size(); };
    refill();
    c.iotlb.drop_range(c.tag, 0x2FFF, 0x4000, c.tags);  // touches pages 2, 3 and 4
    check(c.has(0x1000) && !c.has(0x2000) && !c.has(0x4FFF) && c.has(0x5000) && c.has(0x2000, c.other),
          "what it touches, under its tag");
    equals(left(), 7u);
    refill();
    c.iotlb.drop_range(c.tag, 0x401F'FFFF, 0x401F'FFFF, c.tags);
    equals(left(), 9u);  // the large page went with its last byte
    refill();
    c.iotlb.drop_range(c.tag, 0x5000, ~u64{0}, c.tags);  // wider than the cache: by entry
    equals(left(), 6u);
    refill();
    c.iotlb.drop_range(c.tag, 0, ~u64{0}, c.tags);
    equals(left(), 1u);
}

void growth() {
    for (const unsigned ways : {1u, 4u}) {
        Cache c({.entries = unbounded, .ways = ways, .policy = Policy::lru, .seed = 0});
        constexpr u64 pages = 50'000;
        for (u64 page = 0; page < pages; ++page) check(!c.add(page << 12, 12), "nobody is evicted");
        u64 found = 0;
        for (u64 page = 0; page < pages; ++page) found += c.has(page << 12);
        equals(found, pages);
        c.tags.invalidate_all();
        c.add(0);
        equals(c.iotlb.live(c.tags).size(), 1u);
    }
}

void forgotten() {
    Cache c({});
    c.add(0x1000);
    c.tags.invalidate_all();
    c.iotlb.forget_sizes();
    check(!c.has(0x1000), "it is gone");
    c.add(0x2000, 21);
    check(c.has(0x2000) && !c.has(0x20'1000), "and what comes later is found");
}

}  // namespace
}  // namespace viommu::test

int main() {
    using namespace viommu::test;
    return run({
        {"LRU evicts what was used longest ago", lru},
        {"FIFO evicts what came first", fifo},
        {"tree-PLRU follows its bits", plru},
        {"random eviction is the seed's", random},
        {"what no longer counts makes room first", stale_ways_first},
        {"geometry is checked and kept to", geometry},
        {"pages of every stride spread over the sets", sets_spread},
        {"pages of all sizes live side by side", sizes},
        {"tags are apart", tags_are_apart},
        {"tags are apart when there are a million", tags_far_apart},
        {"a range takes every page it touches, and no other", ranges},
        {"an unbounded cache keeps everything", growth},
        {"forgetting all is forgetting the sizes", forgotten},
    });
}
