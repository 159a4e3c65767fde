// What goes into an IOTLB and what comes out of it.
#pragma once

#include <array>

#include "viommu/leaf_facts.hpp"
#include "viommu/tags.hpp"

namespace viommu {

enum class Policy : u8 { lru, plru, fifo, random };

struct IotlbGeometry {
    std::size_t entries = 1024;  // 0: unbounded
    unsigned ways = 4;
    Policy policy = Policy::lru;
    u64 seed = 0;
};

// One cached page, whole.
struct IotlbEntry {
    u64 page = 0;   // input >> lg2
    u64 frame = 0;  // an address within the page's frame; its low bits mean nothing
    u64 ipa_frame = 0;
    TagId tag = 0;
    u8 lg2 = 0;
    PackedFacts facts;

    u64 start() const { return page << lg2; }
    u64 last() const { return start() | below(lg2); }
    bool same_page(const IotlbEntry& other) const { return tag == other.tag && lg2 == other.lg2 && page == other.page; }
};

// What a look-up found, as far as most who look need it. Valid until the cache changes.
struct IotlbHit {
    u64 frame = 0;
    const LeafFacts* facts = nullptr;
    const u64* ipa_frame = nullptr;  // null: the frame itself
    u8 lg2 = 0;
};

// Where pages of a tag are looked for, prepared once for many addresses: until a lane opens or anything is invalidated.
struct LookUp {
    struct Probe {
        u64 key = 0;   // the lane, as slots carry it
        u64 salt = 0;  // of the hash
        u64 high = 0;
        u8 lg2 = 0;

        bool operator==(const Probe&) const = default;
    };
    static constexpr unsigned most_probes = 6;

    std::array<Probe, most_probes> probes;
    u8 count = 0;
    bool all = false;  // more lanes there are none
    TagId tag = 0, global_tag = 0;
    u64 stale = 0, global_stale = 0;
    u64 version = 0, time = 0;  // of the lanes, and Tags::now, when it was made; 0: never
};

}  // namespace viommu
