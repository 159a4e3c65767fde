// What the IOTLB keeps of a leaf besides its frame, interned: many pages share few combinations.
#pragma once

#include <unordered_map>
#include <vector>

#include "viommu/hash.hpp"
#include "viommu/types.hpp"

namespace viommu {

using FactsId = u32;

// As one word, put together in registers: it is made for each page that is cached.
class PackedFacts {
public:
    constexpr PackedFacts() = default;
    constexpr PackedFacts(Rights rights, u8 level, u8 attrs1, u8 attrs2, bool clean)
        : bits_(u64{attrs1} << 24 | u64{attrs2} << 16 | u64{clean} << 15 | u64{level} << 8 | rights.packed()) {}

    // With the part of the frame's number that a slot leaves out.
    constexpr PackedFacts with_high(u64 frame_high) const {
        PackedFacts with = *this;
        with.bits_ = (bits_ & below(32)) | frame_high << 32;
        return with;
    }
    constexpr u64 bits() const { return bits_; }
    constexpr u32 frame_high() const { return static_cast<u32>(bits_ >> 32); }
    constexpr u8 attrs1() const { return static_cast<u8>(bits_ >> 24); }
    constexpr u8 attrs2() const { return static_cast<u8>(bits_ >> 16); }
    constexpr bool clean() const { return bits_ >> 15 & 1; }  // no write has set the dirty bit in memory
    constexpr u8 level() const { return bits_ >> 8 & 0x7F; }
    constexpr Rights rights() const { return {static_cast<u8>(bits_ & 7), static_cast<u8>(bits_ >> 3 & 7)}; }

private:
    u64 bits_ = 0;
};

// The same, opened up for those who hit.
struct LeafFacts {
    LeafFacts() = default;
    explicit LeafFacts(PackedFacts p)
        : packed(p),
          frame_high(p.frame_high()),
          serves(accesses_of(p.rights(), !p.clean())),
          rights(p.rights()),
          level(p.level()),
          attrs1(p.attrs1()),
          attrs2(p.attrs2()) {}

    PackedFacts packed;
    u32 frame_high = 0;
    Accesses serves = 0;  // what a hit may answer: a write to a clean page must walk, and set the bit
    Rights rights;
    u8 level = 0;
    u8 attrs1 = 0;
    u8 attrs2 = 0;
};

class LeafFactsTable {
public:
    explicit LeafFactsTable(std::size_t most) : most_(most) {}

    const LeafFacts& operator[](FactsId id) const { return facts_[id]; }
    const LeafFacts* data() const { return facts_.data(); }
    std::size_t numbers() const { return facts_.size(); }

    static constexpr FactsId none = ~FactsId{0};

    // The number of these facts if they have one, else `none`.
    FactsId find(PackedFacts packed) const {
        if (packed.bits() == recent_packed_) return recent_;
        const auto at = ids_.find(packed.bits());
        return at == ids_.end() ? none : at->second;
    }

    // `none` where no number is left: `free_all_but` some, then ask again.
    [[gnu::always_inline]] FactsId intern(PackedFacts packed) {
        return packed.bits() == recent_packed_ ? recent_ : look_up(packed);
    }

    void free_all_but(const std::vector<bool>& carried) {
        ids_.clear();
        free_.clear();
        recent_packed_ = unused;
        for (FactsId id = 0; id < facts_.size(); ++id) {
            if (carried[id])
                ids_.emplace(facts_[id].packed.bits(), id);
            else
                free_.push_back(id);
        }
    }
    void clear() {
        facts_.clear();
        ids_.clear();
        free_.clear();
        recent_packed_ = unused;
    }

private:
    static constexpr u64 unused = ~u64{0};  // no level is so high

    [[gnu::noinline]] FactsId look_up(PackedFacts packed) {
        const auto [at, fresh] = ids_.try_emplace(packed.bits(), static_cast<FactsId>(facts_.size()));
        if (fresh && !free_.empty()) {
            at->second = free_.back();
            free_.pop_back();
            facts_[at->second] = LeafFacts(packed);
        } else if (fresh && facts_.size() == most_) {
            ids_.erase(at);
            return none;
        } else if (fresh) {
            facts_.emplace_back(packed);
        }
        recent_packed_ = packed.bits();
        return recent_ = at->second;
    }
    struct Hash {
        std::size_t operator()(u64 packed) const { return avalanche(packed); }
    };

    std::size_t most_;
    std::vector<LeafFacts> facts_;
    std::unordered_map<u64, FactsId, Hash> ids_;
    std::vector<FactsId> free_;
    u64 recent_packed_ = unused;
    FactsId recent_ = 0;
};

}  // namespace viommu
