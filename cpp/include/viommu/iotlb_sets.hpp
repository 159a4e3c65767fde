// A set-associative IOTLB of 16 bytes a slot: with four ways a set is one cache line.
#pragma once

#include <bit>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "viommu/four_words.hpp"
#include "viommu/hash.hpp"
#include "viommu/iotlb_entry.hpp"
#include "viommu/lanes.hpp"
#include "viommu/pages.hpp"
#include "viommu/way_order.hpp"

namespace viommu {

// A slot is a key (the lane, and the page's number; 0: empty) and a value (the frame's number, the number of the leaf's
// other facts, and the way's rank in its set). A set has all its keys first.
class IotlbSets {
public:
    explicit IotlbSets(const IotlbGeometry& geometry)
        : geometry_(geometry), lanes_(most_numbers(geometry, lane_bits)), facts_(most_numbers(geometry, facts_bits)) {
        const auto power = [](std::size_t n) { return n && std::has_single_bit(n); };
        if (!power(geometry.ways) || geometry.ways > 64)
            throw std::invalid_argument("ways " + std::to_string(geometry.ways) + " is not a power of two up to 64");
        if (geometry.entries &&
            (!power(geometry.entries) || geometry.entries < geometry.ways || geometry.entries > most_entries))
            throw std::invalid_argument("entries " + std::to_string(geometry.entries) +
                                        " is not a power of two from ways (" + std::to_string(geometry.ways) +
                                        ") to 2^28");
        set_mask_ = geometry.entries / geometry.ways - 1;
        clear();
    }

    [[gnu::noinline]] void prepare(LookUp& look_up, const Tags& tags) const {
        look_up.count = 0;
        look_up.all = true;
        const auto add = [&](LaneId id, const Lanes::Lane& lane) {
            look_up.all = look_up.count < LookUp::most_probes;
            if (look_up.all) look_up.probes[look_up.count++] = probe_of(id, lane);
            return !look_up.all;
        };
        lanes_.of(look_up.tag, look_up.stale, add);
        if (look_up.all && look_up.global_tag != look_up.tag) lanes_.of(look_up.global_tag, look_up.global_stale, add);
        look_up.version = lanes_.version();
        look_up.time = tags.now();
    }
    bool prepared(const LookUp& look_up, const Tags& tags) const {
        return look_up.version == lanes_.version() && look_up.time == tags.now();
    }

    [[gnu::always_inline]] bool find(const LookUp& look_up, u64 input, IotlbHit& hit) {
        if (!look_up.all) [[unlikely]]
            return find_in_lanes(look_up, input, hit);
        for (unsigned i = 0; i < look_up.count; ++i)
            if (find(look_up.probes[i], input, hit)) [[likely]]
                return true;
        return false;
    }
    // The whole entry that `find` hits; `input` must hit.
    IotlbEntry entry_of(const LookUp& look_up, u64 input) const {
        IotlbEntry entry;
        const auto look = [&](LaneId id, const Lanes::Lane& lane) {
            const LookUp::Probe probe = probe_of(id, lane);
            const u64 page = input >> probe.lg2, *const set = set_of(page, probe.salt);
            if (page >> page_bits != probe.high) return false;
            const u64 found = matches(set, key_of(probe, page));
            if (found) entry = entry_at(set, static_cast<unsigned>(std::countr_zero(found)));
            return found != 0;
        };
        lanes_.of(look_up.tag, look_up.stale, look);
        if (!entry.lg2) lanes_.of(look_up.global_tag, look_up.global_stale, look);
        return entry;
    }
    // The same without leaving a trace: whether it would hit.
    bool holds(const LookUp& look_up, u64 input) const {
        if (!look_up.all) return false;
        for (unsigned i = 0; i < look_up.count; ++i) {
            const LookUp::Probe& probe = look_up.probes[i];
            const u64 page = input >> probe.lg2;
            if (page >> page_bits == probe.high && matches(set_of(page, probe.salt), key_of(probe, page))) return true;
        }
        return false;
    }
    void prefetch(const LookUp& look_up, u64 input) const {
        for (unsigned i = 0; i < look_up.count; ++i) {
            const LookUp::Probe& probe = look_up.probes[i];
            static_cast<void>(*static_cast<const volatile u64*>(set_of(input >> probe.lg2, probe.salt)));
        }
    }

    // The same for a run of addresses of one look-up, with all that it takes at hand: for sets of four ways in order of
    // use, and lanes that all have a probe.
    class Window {
    public:
        Window() = default;
        Window(IotlbSets& sets, const LookUp& look_up) {
            if (!look_up.all || !look_up.count || sets.ways() != 4 || sets.geometry_.policy != Policy::lru ||
                look_up.probes[0].lg2 < order_bits)
                return;
            sets_ = &sets;
            words_ = sets.words_.data();
            set_mask_ = sets.set_mask_;
            facts_ = sets.facts_.data();
            first_ = look_up.probes[0];
            others_ = look_up.probes.data() + 1;
            other_count_ = look_up.count - 1u;
        }
        explicit operator bool() const { return words_; }

        // The set where the first probe looks.
        u64* set_for(u64 input) const { return set_of(first_, input); }
        // Whether `find` would find something, whatever the access.
        [[gnu::always_inline]] bool holds(u64 input, const u64* set) const {
            if (way_of(first_, input, set) < none) return true;
            return others_hold(input);
        }
        const LookUp::Probe& first() const { return first_; }
        unsigned first_lg2() const { return first_.lg2; }
        bool first_is_of(TagId tag) const { return first_.salt == salt_of(tag, first_.lg2); }

        // Whether the first probe may find inputs that are like one of them but for some bits: then `first_key` tells
        // them all.
        bool keys(u64 one, u64 differ) const {
            return one >> first_.lg2 >> page_bits == first_.high && !(differ >> first_.lg2 >> page_bits);
        }
        [[gnu::always_inline]] u64 first_key(u64 input) const { return key_of(first_, input >> first_.lg2); }
        // Whether some key is in its set.
        [[gnu::always_inline]] static bool has(u64 key, const u64* set) { return match_of_four(set, key); }
        bool has_others() const { return other_count_; }
        bool others_hold(u64 input) const {
            for (unsigned i = 0; i < other_count_; ++i)
                if (way_of(others_[i], input, set_of(others_[i], input)) < none) return true;
            return false;
        }

        // Puts pages of the first probe's size and tag in, one after the other: what they have in common is made ready
        // once. Empty where it takes more than that, as new facts do: `Iotlb::insert` does it.
        class Filling {
        public:
            explicit operator bool() const { return sets_; }
            // What a slot holds beside the key, of pages at these addresses.
            void values(const u64* __restrict pas, u64* __restrict values, unsigned count) const {
                for (unsigned k = 0; k < count; ++k) values[k] = facts_ | pas[k] >> lg2_;
            }
            bool keeps_ipas() const { return ipas_; }

            // A page that missed; `set` is what `set_for` gave. Gives its way. `spared` counts those that no live entry
            // had to leave for.
            [[gnu::always_inline]] unsigned insert(u64 key, u64* set, u64 value, const Tags& tags, u64& spared) const {
                if (all_in_lane(set, key)) [[likely]] {
                    const unsigned way = WayOrder::replace_oldest_of_four(set + 4, value);
                    set[way] = key;
                    return way;
                }
                unsigned way;
                spared += !sets_->put_new(set, key, {lane_of(key), facts_of(value)}, value, tags, way);
                return way;
            }
            void keep_ipa(const u64* set, unsigned way, u64 ipa) const { ipas_[sets_->slot_of(set, way)] = ipa; }

        private:
            friend class Window;
            IotlbSets* sets_ = nullptr;
            u64 facts_ = 0;  // as slots carry them
            u64* ipas_ = nullptr;
            unsigned lg2_ = 0;
        };
        // For pages with these facts, at `pas` (and `ipas`, whose offsets are the same).
        Filling filling(PackedFacts facts, const u64* pas, const u64* ipas, unsigned count) const {
            Filling filling;
            u64 frames = 0, differ = 0;
            for (unsigned k = 0; k < count; ++k) frames |= pas[k];
            if (ipas != pas)
                for (unsigned k = 0; k < count; ++k) differ |= pas[k] ^ ipas[k];
            const FactsId id = sets_->facts_.find(facts.with_high(0));
            u64* const ipa_frames = sets_->ipa_frames_.size() ? sets_->ipa_frames_.data() : nullptr;
            if (id == LeafFactsTable::none || frames >> first_.lg2 >> frame_bits || (differ && !ipa_frames))
                return filling;
            filling.sets_ = sets_;
            filling.facts_ = u64{id} << frame_bits;
            filling.ipas_ = ipa_frames;
            filling.lg2_ = first_.lg2;
            return filling;
        }

        // For those who look where the first probe does, and nowhere else.

        // Bits of an address that are the same in all its pages, and what they are.
        u64 beyond_bits() const { return ~below(first_.lg2 + page_bits); }
        u64 fixed() const { return first_.lg2 + page_bits < 64 ? first_.high << page_bits << first_.lg2 : 0; }
        bool only_first() const { return !other_count_; }

        // Where it looks.
        struct Hash {
            u64* words;
            u64 mask, salt;
            unsigned lg2;

            [[gnu::always_inline]] u64* set_of(u64 input) const {
                return words + (avalanche(input >> lg2 ^ salt) & mask) * 8;
            }
        };
        Hash hash() const { return {words_, set_mask_, first_.salt, first_.lg2}; }
        // Reads the sets of rows, so that they come into the host's caches together, unless all of them are near
        // anyway. Independent reads overlap; a prefetch instruction is dropped by some machines when the page is not in
        // their TLB.
        [[gnu::always_inline]] void fetch(u64* const* sets, const u64* inputs, unsigned first, unsigned end) const {
            if (set_mask_ < sets_of_near_caches) return;
            for (unsigned row = first; row < end; ++row) read(sets[row]);
            for (unsigned i = 0; i < other_count_; ++i)
                for (unsigned row = first; row < end; ++row) read(set_of(others_[i], inputs[row]));
        }
        // What it looks for.
        struct FirstProbe {
            u64 key;  // what a page's number is to be combined with
            unsigned lg2;

            // The way of its set that holds an address, as a bit; 0: none does.
            [[gnu::always_inline]] unsigned ways(u64 input, const u64* set) const {
                return match_of_four(set, (input >> lg2) ^ key);
            }
        };
        FirstProbe first_probe() const { return {first_.key ^ first_.high << page_bits, first_.lg2}; }
        // What the slot that was found says; it is used now.
        [[gnu::always_inline]] static u64 use(u64* set, unsigned ways) {
            const unsigned way = static_cast<unsigned>(std::countr_zero(ways));
            const u64 value = set[4 + way];
            WayOrder::move_to_front(set + 4, 4, way);
            return value;
        }
        // The same, not used; null: the first probe finds none.
        const u64* value_at(u64 input, const u64* set) const {
            const unsigned ways = first_probe().ways(input, set);
            return ways ? set + 4 + std::countr_zero(ways) : nullptr;
        }
        const LeafFacts& facts_of_slot(u64 value) const { return facts_[facts_of(value)]; }

        // What slots that carry the same facts have in common.
        struct Common {
            u64 facts = ~u64{0};  // the number where slots carry it; at first one that none has
            u64 high = 0;         // of the page's address: the part that slots leave out

            bool covers(u64 value) const { return !((value ^ facts) << order_bits >> (order_bits + frame_bits)); }
            // The page's address, of a slot that is covered: the order of use is shifted out.
            [[gnu::always_inline]] u64 frame(u64 value, unsigned lg2) const { return (value ^ facts) << lg2 | high; }
        };
        Common common_of(u64 value) const {
            return {value & below(facts_bits) << frame_bits,
                    u64{facts_of_slot(value).frame_high} << frame_bits << first_.lg2};
        }

        // Null: nothing, or not for this access. Else `lg2` and `frame` are the page's. `set` is what `set_for` gave.
        [[gnu::always_inline]] const LeafFacts* find(u64 input, u64* set, unsigned access, Accesses allowed, u64& frame,
                                                     unsigned& lg2) const {
            unsigned way = way_of(first_, input, set);
            lg2 = first_.lg2;
            for (unsigned i = 0; way == none; ++i) {
                if (i == other_count_) return nullptr;
                set = set_of(others_[i], input);
                way = way_of(others_[i], input, set);
                lg2 = others_[i].lg2;
            }
            const u64 value = set[4 + way];
            const LeafFacts& facts = facts_[facts_of(value)];
            WayOrder::move_to_front(set + 4, 4, way);
            if (!(facts.serves & allowed & 1u << access)) return nullptr;
            frame = (u64{facts.frame_high} << frame_bits | (value & below(frame_bits))) << lg2;
            return &facts;
        }

    private:
        static constexpr unsigned none = 4;
        static constexpr u64 sets_of_near_caches = 4096;  // 256 KiB

        u64* set_of(const LookUp::Probe& probe, u64 input) const {
            return words_ + (avalanche(input >> probe.lg2 ^ probe.salt) & set_mask_) * 8;
        }
        static void read(const u64* set) { static_cast<void>(*static_cast<const volatile u64*>(set)); }
        // The way that a probe finds; `none`.
        [[gnu::always_inline]] static unsigned way_of(const LookUp::Probe& probe, u64 input, const u64* set) {
            const u64 page = input >> probe.lg2;
            const unsigned found = match_of_four(set, key_of(probe, page));
            if (!found || page >> page_bits != probe.high) [[unlikely]]
                return none;
            return static_cast<unsigned>(std::countr_zero(found));
        }

        IotlbSets* sets_ = nullptr;
        u64* words_ = nullptr;
        u64 set_mask_ = 0;
        const LeafFacts* facts_ = nullptr;
        LookUp::Probe first_;
        const LookUp::Probe* others_ = nullptr;
        unsigned other_count_ = 0;
    };

    // Puts `entry` in; true where a live entry had to leave for it. `look_up` may know its lane.
    bool insert(const IotlbEntry& entry, const LookUp& look_up, const Tags& tags) {
        const Numbers numbers = numbers_of(entry, look_up, tags);
        u64* const set = set_of(entry.page, salt_of(entry.tag, entry.lg2));
        unsigned way;
        const bool evicted = put(set, entry.page, numbers, entry.frame >> entry.lg2, tags, way);
        keep_ipa(slot_of(set, way), entry);
        return evicted;
    }

    // Makes good what `drop_range` has put off; to be called before anything else, and cheap.
    void settle() { drop_count_ = settle(drop_count_); }
    bool settled() const { return !drop_count_; }

    // Empties every page of `tag` that overlaps [start, last], by the next `settle`.
    void drop_range(TagId tag, u64 start, u64 last, const Tags& tags) {
        lanes_.of(tag, tags.stale(tag), [&](LaneId id, const Lanes::Lane& lane) {
            const u64 first_page = start >> lane.lg2, pages = (last >> lane.lg2) - first_page;
            if (pages >= geometry_.entries) {  // wider than the cache: cheaper to look at each slot
                drop_slots([&](u64 key) {
                    const u64 page = lane.high << page_bits | (key & below(page_bits));
                    return lane_of(key) == id && page - first_page <= pages;
                });
                return false;
            }
            for (u64 i = 0; i <= pages; ++i) drop_page(probe_of(id, lane), first_page + i);
            return false;
        });
    }
    // `drop_range` for many blocks of one size, aligned, with what it takes at hand: where every lane of theirs has a
    // probe, and no block is larger than a page. Nothing else may use the cache meanwhile.
    class Dropping {
    public:
        Dropping(IotlbSets& sets, TagId tag, TagId other, unsigned lg2, const Tags& tags)
            : sets_(sets), dropped_(sets.drop_count_) {
            const auto add = [&](LaneId id, const Lanes::Lane& lane) {
                possible_ = count_ < probes_.size() && lane.lg2 >= lg2;
                if (possible_) probes_[count_++] = probe_of(id, lane);
                lanes_ = true;
                return !possible_;
            };
            if (tag != no_tag) sets.lanes_.of(tag, tags.stale(tag), add);
            if (possible_ && other != no_tag && other != tag) sets.lanes_.of(other, tags.stale(other), add);
        }
        ~Dropping() { sets_.drop_count_ = dropped_; }
        Dropping(const Dropping&) = delete;

        bool possible() const { return possible_; }
        // Whether there is anything to drop.
        bool lanes() const { return lanes_; }

        [[gnu::always_inline]] void operator()(u64 at) {
            for (unsigned i = 0; i < count_; ++i) {
                const LookUp::Probe& probe = probes_[i];
                const u64 page = at >> probe.lg2;
                if (page >> page_bits != probe.high) continue;
                sets_.drops_[dropped_++] = {sets_.set_of(page, probe.salt), key_of(probe, page)};
                if (dropped_ == sets_.drops_.size()) dropped_ = sets_.settle(dropped_);
            }
        }

    private:
        IotlbSets& sets_;
        unsigned dropped_;  // `drop_count_`, at hand
        std::array<LookUp::Probe, 4> probes_;
        unsigned count_ = 0;
        bool possible_ = true, lanes_ = false;
    };
    template <typename Matches> void drop_if(Matches&& matches) {
        for_each_slot([&](u64* set, unsigned way) {
            if (matches(entry_at(set, way))) set[way] = empty;
        });
    }

    // The entries that would still hit; they stay where they are until the next insertion.
    std::vector<IotlbEntry> live(const Tags& tags) {
        std::vector<IotlbEntry> found;
        for_each_slot([&](u64* set, unsigned way) {
            if (lanes_.alive(lane_of(set[way]), tags)) found.push_back(entry_at(set, way));
        });
        return found;
    }
    // Whether this very page would still hit.
    bool has(const IotlbEntry& entry, const Tags& tags) const {
        bool found = false;
        lanes_.of(entry.tag, tags.stale(entry.tag), [&](LaneId id, const Lanes::Lane& lane) {
            const LookUp::Probe probe = probe_of(id, lane);
            found |= lane.lg2 == entry.lg2 && entry.page >> page_bits == lane.high &&
                     matches(set_of(entry.page, probe.salt), key_of(probe, entry.page));
            return found;
        });
        return found;
    }

    // As if new: the same inputs lead to the same evictions again.
    void clear() {
        drop_count_ = 0;
        words_ = ZeroedWords(geometry_.entries * 2);
        ipa_frames_ = {};
        lanes_.clear();
        facts_.clear();
        random_ = geometry_.seed * 2 + 1;
    }

private:
    static constexpr std::size_t most_entries = std::size_t{1} << 28;
    static constexpr unsigned page_bits = 44, lane_bits = 20, frame_bits = 40, facts_bits = 18;
    static constexpr unsigned order_bits = 64 - WayOrder::shift;
    static constexpr u64 empty = 0;
    static_assert(page_bits + lane_bits == 64 && frame_bits + facts_bits == WayOrder::shift);

    // Twice as many as slots, so that a sweep frees half of them or more, and so costs each new one little.
    static std::size_t most_numbers(const IotlbGeometry& geometry, unsigned bits) {
        return std::min(std::max(geometry.entries * 2, std::size_t{1024}), std::size_t{below(bits)});
    }

    unsigned ways() const { return geometry_.ways; }
    static LaneId lane_of(u64 key) { return static_cast<LaneId>(key >> page_bits); }
    static FactsId facts_of(u64 value) { return value >> frame_bits & below(facts_bits); }
    static u64 salt_of(TagId tag, unsigned lg2) {
        return u64{tag} << 40 ^ u64 { lg2 } << 56;
    }
    static LookUp::Probe probe_of(LaneId id, const Lanes::Lane& lane) {
        return {u64{id} << page_bits, salt_of(lane.tag, lane.lg2), lane.high, lane.lg2};
    }
    static u64 key_of(LaneId lane, u64 page) { return u64{lane} << page_bits | (page & below(page_bits)); }
    static u64 key_of(const LookUp::Probe& probe, u64 page) { return probe.key | (page & below(page_bits)); }

    const u64* set_of(u64 page, u64 salt) const {
        return words_.data() + (avalanche(page ^ salt) & set_mask_) * 2 * ways();
    }
    u64* set_of(u64 page, u64 salt) { return const_cast<u64*>(std::as_const(*this).set_of(page, salt)); }
    std::size_t slot_of(const u64* set, unsigned way) const {
        return static_cast<std::size_t>(set - words_.data()) / 2 + way;
    }

    // Whether all four ways carry keys of the lane of `key`.
    [[gnu::always_inline]] static bool all_in_lane(const u64* set, u64 key) {
        return all_four_are(set, key, ~below(page_bits));
    }
    // The ways that carry `key`, as bits.
    [[gnu::always_inline]] u64 matches(const u64* set, u64 key) const {
        if (ways() == 4) [[likely]]
            return match_of_four(set, key);
        u64 found = 0;
        for (unsigned way = 0; way < ways(); ++way) found |= u64{set[way] == key} << way;
        return found;
    }

    [[gnu::always_inline]] bool find(const LookUp::Probe& probe, u64 input, IotlbHit& hit) {
        const u64 page = input >> probe.lg2;
        if (page >> page_bits != probe.high) [[unlikely]]
            return false;
        u64* const set = set_of(page, probe.salt);
        const u64 found = matches(set, key_of(probe, page));
        if (!found) return false;
        const unsigned way = static_cast<unsigned>(std::countr_zero(found));
        if (geometry_.policy != Policy::fifo) touch(set, way);
        read(set, way, probe.lg2, hit);
        return true;
    }
    [[gnu::noinline]] bool find_in_lanes(const LookUp& look_up, u64 input, IotlbHit& hit) {
        bool found = false;
        const auto look = [&](LaneId id, const Lanes::Lane& lane) {
            return found = find(probe_of(id, lane), input, hit);
        };
        lanes_.of(look_up.tag, look_up.stale, look);
        if (!found && look_up.global_tag != look_up.tag) lanes_.of(look_up.global_tag, look_up.global_stale, look);
        return found;
    }
    void read(const u64* set, unsigned way, u8 lg2, IotlbHit& hit) const {
        const u64 value = set[ways() + way];
        hit.facts = &facts_[facts_of(value)];
        hit.frame = (u64{hit.facts->frame_high} << frame_bits | (value & below(frame_bits))) << lg2;
        hit.ipa_frame = ipa_frames_.size() ? ipa_frames_.data() + slot_of(set, way) : nullptr;
        hit.lg2 = lg2;
    }
    IotlbEntry entry_at(const u64* set, unsigned way) const {
        const Lanes::Lane& lane = lanes_[lane_of(set[way])];
        IotlbHit hit;
        read(set, way, lane.lg2, hit);
        IotlbEntry entry;
        entry.page = lane.high << page_bits | (set[way] & below(page_bits));
        entry.frame = hit.frame;
        entry.ipa_frame = hit.ipa_frame ? *hit.ipa_frame : hit.frame;
        entry.tag = lane.tag;
        entry.lg2 = lane.lg2;
        entry.facts = hit.facts->packed.with_high(0);
        return entry;
    }

    // IPAs take a table of their own, once a page has one that is not its frame.
    void keep_ipa(std::size_t slot, const IotlbEntry& entry) {
        if (!ipa_frames_.size()) {
            if (!((entry.ipa_frame ^ entry.frame) >> entry.lg2)) return;
            ipa_frames_ = ZeroedWords(geometry_.entries);
            for_each_slot(
                [&](u64* set, unsigned way) { ipa_frames_.data()[slot_of(set, way)] = entry_at(set, way).frame; });
        }
        ipa_frames_.data()[slot] = entry.ipa_frame;
    }

    struct Numbers {
        LaneId lane;
        FactsId facts;
    };
    Numbers numbers_of(const IotlbEntry& entry, const LookUp& look_up, const Tags& tags) {
        const u64 high = entry.page >> page_bits, salt = salt_of(entry.tag, entry.lg2);
        const PackedFacts facts = entry.facts.with_high((entry.frame >> entry.lg2) >> frame_bits);
        const FactsId id = facts_.intern(facts);
        if (prepared(look_up, tags) && id != LeafFactsTable::none) [[likely]]
            for (unsigned i = 0; i < look_up.count; ++i)
                if (const LookUp::Probe& p = look_up.probes[i]; p.lg2 == entry.lg2 && p.salt == salt && p.high == high)
                    return {lane_of(look_up.probes[i].key), id};
        return numbers_of(entry, facts, high, tags);
    }
    [[gnu::noinline]] Numbers numbers_of(const IotlbEntry& entry, PackedFacts facts, u64 high, const Tags& tags) {
        for (;;) {
            const LaneId lane = lanes_.open(entry.tag, entry.lg2, high, tags);
            const FactsId id = facts_.intern(facts);
            if (lane != Lanes::none && id != LeafFactsTable::none) return {lane, id};
            sweep(tags);
        }
    }
    // Empties what is stale and frees the numbers that nothing carries; if too few come free, empties everything.
    [[gnu::noinline]] void sweep(const Tags& tags) {
        std::vector<bool> lanes(lanes_.numbers()), facts(facts_.numbers());
        std::size_t lanes_kept = 0, facts_kept = 0;
        for_each_slot([&](u64* set, unsigned way) {
            const LaneId lane = lane_of(set[way]);
            if (!lanes_.alive(lane, tags)) {
                set[way] = empty;
                return;
            }
            const FactsId id = facts_of(set[ways() + way]);
            lanes_kept += !lanes[lane];
            facts_kept += !facts[id];
            lanes[lane] = facts[id] = true;
        });
        const auto crowded = [&](std::size_t kept, unsigned bits) {
            return kept > most_numbers(geometry_, bits) / 4 * 3;
        };
        if (crowded(lanes_kept, lane_bits) || crowded(facts_kept, facts_bits)) {
            for_each_slot([](u64* set, unsigned way) { set[way] = empty; });
            lanes.assign(lanes.size(), false);
            facts.assign(facts.size(), false);
        }
        lanes_.free_all_but(lanes);
        facts_.free_all_but(facts);
    }

    // Puts a page into its set; true where a live one had to leave for it.
    bool put(u64* set, u64 page, Numbers numbers, u64 frame, const Tags& tags, unsigned& way) {
        const u64 same = matches(set, key_of(numbers.lane, page));
        if (!same) return put_new(set, page, numbers, frame, tags, way);
        way = static_cast<unsigned>(std::countr_zero(same));
        // First in, first out counts from when a page came, not from when it was walked again.
        if (geometry_.policy != Policy::fifo) touch(set, way);
        fill(set, way, page, numbers, frame);
        return false;
    }
    [[gnu::always_inline]] bool put_new(u64* set, u64 page, Numbers numbers, u64 frame, const Tags& tags,
                                        unsigned& way) {
        way = dead_way(set, numbers.lane, tags);
        const bool evicted = way == ways();
        if (evicted) way = victim(set);
        if (geometry_.policy == Policy::fifo)
            move_to_front(set, way);
        else
            touch(set, way);
        fill(set, way, page, numbers, frame);
        return evicted;
    }
    void fill(u64* set, unsigned way, u64 page, Numbers numbers, u64 frame) {
        set[way] = key_of(numbers.lane, page);
        u64& value = set[ways() + way];
        value = (value & WayOrder::mask) | u64{numbers.facts} << frame_bits | (frame & below(frame_bits));
    }
    // A way that nothing live is in; `ways()` where there is none.
    [[gnu::always_inline]] unsigned dead_way(const u64* set, LaneId live, const Tags& tags) const {
        if (ways() == 4) [[likely]] {
            const u64 all = u64{live} << page_bits;
            if (!(((set[0] ^ all) | (set[1] ^ all) | (set[2] ^ all) | (set[3] ^ all)) >> page_bits)) return 4;
        }
        for (unsigned way = 0; way < ways(); ++way) {
            const LaneId lane = lane_of(set[way]);
            if (lane == Lanes::none || (lane != live && !lanes_.alive(lane, tags))) return way;
        }
        return ways();
    }
    unsigned victim(const u64* set) {
        if (geometry_.policy == Policy::random) return static_cast<unsigned>(next_random() % ways());
        if (geometry_.policy == Policy::plru) return pointed_at(set);
        return WayOrder::oldest(set + ways(), ways());
    }
    [[gnu::always_inline]] void touch(u64* set, unsigned way) {
        if (geometry_.policy == Policy::lru) [[likely]]
            move_to_front(set, way);
        else if (geometry_.policy == Policy::plru)
            point_away(set, way);
    }

    [[gnu::always_inline]] void move_to_front(u64* set, unsigned way) {
        WayOrder::move_to_front(set + ways(), ways(), way);
    }

    // Tree PLRU: node n of a set's tree is a bit beside way n, where others keep an order; it points to the half that
    // was used longer ago.
    void point_away(u64* set, unsigned way) const {
        for (unsigned node = 1, half = ways() / 2; half; half /= 2) {
            const bool right = way & half;
            u64& place = set[ways() + node];
            place = right ? place & ~bit(WayOrder::shift) : place | bit(WayOrder::shift);
            node = node * 2 + right;
        }
    }
    unsigned pointed_at(const u64* set) const {
        unsigned way = 0;
        for (unsigned node = 1, half = ways() / 2; half; half /= 2) {
            const bool right = set[ways() + node] >> WayOrder::shift & 1;
            way |= right ? half : 0;
            node = node * 2 + right;
        }
        return way;
    }
    u64 next_random() {
        random_ ^= random_ << 13;
        random_ ^= random_ >> 7;
        return random_ ^= random_ << 17;
    }

    // Pages are dropped many at once, before anybody looks: reads of their sets overlap then. Gives how many are left.
    [[gnu::noinline]] unsigned settle(unsigned count) {
        for (unsigned i = 0; i < count; ++i) static_cast<void>(*static_cast<const volatile u64*>(drops_[i].set));
        for (unsigned i = 0; i < count; ++i)
            if (const u64 found = matches(drops_[i].set, drops_[i].key)) drops_[i].set[std::countr_zero(found)] = empty;
        return 0;
    }
    void drop_page(const LookUp::Probe& probe, u64 page) {
        if (page >> page_bits != probe.high) return;
        drops_[drop_count_++] = {set_of(page, probe.salt), key_of(probe, page)};
        if (drop_count_ == drops_.size()) settle();
    }
    template <typename Goes> void drop_slots(Goes&& goes) {
        for_each_slot([&](u64* set, unsigned way) {
            if (goes(set[way])) set[way] = empty;
        });
    }
    // Each slot that is not empty.
    template <typename Each> void for_each_slot(Each&& each) {
        for (u64 *set = words_.data(), *const end = set + geometry_.entries * 2; set != end; set += 2 * ways())
            for (unsigned way = 0; way < ways(); ++way)
                if (set[way]) each(set, way);
    }

    struct Drop {
        u64* set;
        u64 key;
    };

    IotlbGeometry geometry_;
    std::array<Drop, 64> drops_;
    unsigned drop_count_ = 0;
    std::size_t set_mask_ = 0;
    ZeroedWords words_, ipa_frames_;
    Lanes lanes_;
    LeafFactsTable facts_;
    u64 random_ = 0;
};

}  // namespace viommu
