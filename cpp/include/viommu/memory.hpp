// Physical memory: regions that never overlap, atomic 64-bit words, and an overlay for walks that must leave no trace.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "viommu/shared_bytes.hpp"
#include "viommu/types.hpp"

namespace viommu {

// How memory outside this process is reached. nullopt: the access aborts.
struct Callbacks {
    std::function<std::optional<u64>(u64 pa)> load;
    std::function<std::optional<bool>(u64 pa, u64 expected, u64 desired)> compare_exchange;
};

struct Region {
    u64 start;
    u64 last;
    std::byte* host;  // null: reached through `callbacks`
    bool writable;
    std::shared_ptr<const Callbacks> callbacks;
    std::shared_ptr<void> owner;  // keeps `host` alive

    bool contains(u64 pa) const { return pa - start <= last - start; }
    std::byte* at(u64 pa) const { return host + (pa - start); }
};

enum class Exchange : u8 { stored, changed, refused };

// One immutable picture of the address space. Walks hold a picture, so a map or unmap never pulls memory from under
// them.
class RegionMap {
public:
    explicit RegionMap(std::vector<Region> regions) : regions_(std::move(regions)) {}

    const std::vector<Region>& regions() const { return regions_; }

    const Region* find(u64 pa) const {
        const auto after = after_start(pa);
        if (after == regions_.begin()) return nullptr;
        const Region& candidate = *std::prev(after);
        return candidate.contains(pa) ? &candidate : nullptr;
    }
    // Some region that meets [start, last].
    const Region* first_in(u64 start, u64 last) const {
        const auto after = after_start(last);
        if (after == regions_.begin() || std::prev(after)->last < start) return nullptr;
        return &*std::prev(after);
    }
    // Whether all of [pa, pa + size), which is not empty, lies in regions that will do.
    template <typename WillDo> bool covers(u64 pa, std::size_t size, WillDo&& will_do) const {
        const u64 last = pa + (size - 1);
        if (last < pa) return false;
        for (u64 at = pa;;) {
            const Region* region = find(at);
            if (!region || !will_do(*region)) return false;
            if (region->last >= last) return true;
            at = region->last + 1;
        }
    }
    // Calls each(region, pa, bytes), until it gives false, for the part of [pa, pa + size) in each region; they must
    // cover it.
    template <typename Each> bool each_part(u64 pa, std::size_t size, Each&& each) const {
        while (size) {
            const Region& region = *find(pa);
            const std::size_t count = std::min<u64>(size - 1, region.last - pa) + 1;
            if (!each(region, pa, count)) return false;
            pa += count;
            size -= count;
        }
        return true;
    }
    void insert(Region region) { regions_.insert(after_start(region.start), std::move(region)); }

    // The region that reaches beyond [start, last] and into it; null.
    const Region* cut_by(u64 start, u64 last) const {
        const Region *const first = find(start), *const other = find(last);
        if (first && (first->start < start || first->last > last)) return first;
        return other && other->last > last ? other : nullptr;
    }
    // Takes out the regions that meet [start, last].
    std::vector<Region> take(u64 start, u64 last) {
        const auto [first, end] = meeting(start, last);
        std::vector<Region> gone(std::make_move_iterator(regions_.begin() + (first - regions_.cbegin())),
                                 std::make_move_iterator(regions_.begin() + (end - regions_.cbegin())));
        regions_.erase(first, end);
        return gone;
    }
    // A map of the others.
    RegionMap without(u64 start, u64 last) const {
        const auto [first, end] = meeting(start, last);
        std::vector<Region> kept;
        kept.reserve(regions_.size());
        kept.insert(kept.end(), regions_.begin(), first);
        kept.insert(kept.end(), end, regions_.end());
        return RegionMap(std::move(kept));
    }

private:
    using Place = std::vector<Region>::const_iterator;
    std::pair<Place, Place> meeting(u64 start, u64 last) const {
        const Place first = std::lower_bound(regions_.begin(), regions_.end(), start,
                                             [](const Region& region, u64 value) { return region.last < value; });
        return {first, after_start(last)};
    }
    std::vector<Region>::const_iterator after_start(u64 pa) const {
        return std::upper_bound(regions_.begin(), regions_.end(), pa,
                                [](u64 value, const Region& region) { return value < region.start; });
    }

    std::vector<Region> regions_;  // ascending
};

// Stores that a walk makes for itself alone: it sees them, and memory never does.
class Overlay {
public:
    bool find(u64 pa, u64& value) const {
        for (auto store = stores_.rbegin(); store != stores_.rend(); ++store) {
            if (store->pa != pa) continue;
            value = store->value;
            return true;
        }
        return false;
    }
    void store(u64 pa, u64 value) { stores_.push_back({pa, value}); }
    bool empty() const { return stores_.empty(); }
    void clear() { stores_.clear(); }

private:
    struct Store {
        u64 pa, value;
    };
    std::vector<Store> stores_;  // a walk makes a handful
};

// A reader's view of memory: a picture, and the region that was used last.
class View {
public:
    explicit View(std::shared_ptr<const RegionMap> map, Overlay* overlay = nullptr)
        : map_(std::move(map)), overlay_(overlay) {}

    bool load(u64 pa, u64& value) {
        const Region* region = region_of(pa);
        if (!region) return false;
        if (overlay_ && overlay_->find(pa, value)) return true;
        if (!region->host) [[unlikely]]
            return load_outside(*region, pa, value);
        value = std::atomic_ref<u64>(*word(*region, pa)).load(std::memory_order_acquire);
        return true;
    }

    // `load` of what lies in this process's own memory; false where only `load` can tell.
    bool load_plain(u64 pa, u64& value) {
        const Region* region = region_of(pa);
        if (!region || !region->host || (overlay_ && !overlay_->empty())) [[unlikely]]
            return false;
        value = std::atomic_ref<u64>(*word(*region, pa)).load(std::memory_order_acquire);
        return true;
    }
    // The region that was used last, for loops that load much of it. Empty where `load_plain` would refuse.
    class Run {
    public:
        [[gnu::always_inline]] bool load(u64 pa, u64& value) const {
            if (pa - start_ >= size_) [[unlikely]]
                return false;
            value =
                std::atomic_ref<u64>(*reinterpret_cast<u64*>(host_ + (pa - start_))).load(std::memory_order_acquire);
            return true;
        }

    private:
        friend class View;
        u64 start_ = 0, size_ = 0;
        std::byte* host_ = nullptr;
    };
    Run run() const {
        Run run;
        if (!recent_ || !recent_->host || (overlay_ && !overlay_->empty())) return run;
        run.start_ = recent_->start;
        run.size_ = recent_->last - recent_->start;  // of words, the last one begins before this
        run.host_ = recent_->host;
        return run;
    }

    Exchange compare_exchange(u64 pa, u64 expected, u64 desired) {
        ++exchanges_;
        const Region* region = region_of(pa);
        if (!region || !region->writable) return Exchange::refused;
        if (!overlay_) return exchange_in(*region, pa, expected, desired);
        u64 now;
        if (!load(pa, now)) return Exchange::refused;
        if (now != expected) return Exchange::changed;
        overlay_->store(pa, desired);
        return Exchange::stored;
    }

    // How many stores were tried: whoever looked ahead must look again when it has grown.
    u64 exchanges() const { return exchanges_; }

    // Forgets what a walk stored for itself.
    void forget() {
        if (overlay_) overlay_->clear();
    }

private:
    const Region* region_of(u64 pa) {
        if (recent_ && recent_->contains(pa)) return recent_;
        return recent_ = map_->find(pa);
    }
    static u64* word(const Region& region, u64 pa) { return reinterpret_cast<u64*>(region.at(pa)); }
    static bool load_outside(const Region& region, u64 pa, u64& value) {
        const std::optional<u64> loaded = region.callbacks->load(pa);
        value = loaded.value_or(0);
        return loaded.has_value();
    }
    static Exchange exchange_in(const Region& region, u64 pa, u64 expected, u64 desired) {
        if (!region.host) {
            const auto stored = region.callbacks->compare_exchange(pa, expected, desired);
            if (!stored) return Exchange::refused;
            return *stored ? Exchange::stored : Exchange::changed;
        }
        const bool stored = std::atomic_ref<u64>(*word(region, pa)).compare_exchange_strong(expected, desired);
        return stored ? Exchange::stored : Exchange::changed;
    }

    std::shared_ptr<const RegionMap> map_;
    Overlay* overlay_;
    const Region* recent_ = nullptr;
    u64 exchanges_ = 0;
};

// The address space itself: publishes a new picture at each change.
class Memory {
public:
    std::shared_ptr<const RegionMap> picture() const {
        std::scoped_lock lock(mutex_);
        seen_ = true;
        return map_;
    }
    View view(Overlay* overlay = nullptr) const { return View(picture(), overlay); }

    void add(Region region) {
        std::scoped_lock lock(mutex_);
        if (const Region* other = map_->first_in(region.start, region.last))
            throw std::invalid_argument("region " + range(region.start, region.last) + " overlaps region " +
                                        range(other->start, other->last) + ": unmap that one first");
        // A picture that nobody has looked at may be painted over: many pages may be mapped, or unmapped, one by one.
        // (Whether they still look, the use count would not say in time.)
        if (seen_) map_ = std::make_shared<RegionMap>(*map_);
        seen_ = false;  // only now: where memory runs out, what was looked at stays so
        map_->insert(std::move(region));
    }

    // Every region within [start, last] goes; its buffer dies with the last reader of a picture that has it.
    void remove(u64 start, u64 last) {
        // Both die after the lock is let go: whoever owns a buffer may use this memory, or wait for who does (the GIL).
        std::shared_ptr<const RegionMap> old;
        std::vector<Region> gone;
        std::scoped_lock lock(mutex_);
        if (const Region* cut = map_->cut_by(start, last))
            throw std::invalid_argument("range " + range(start, last) + " would cut region " +
                                        range(cut->start, cut->last) + " in two: unmap whole regions");
        if (seen_)
            old = std::exchange(map_, std::make_shared<RegionMap>(map_->without(start, last)));
        else
            gone = map_->take(start, last);
        seen_ = false;
    }

    // Whether all of the bytes lie in regions.
    bool covers(u64 pa, std::size_t size) const { return !size || covered(*picture(), pa, size, false); }

    // False, with nothing stored, where any byte lies in a hole.
    bool read(u64 pa, std::byte* out, std::size_t size) const {
        const auto map = picture();
        if (size && !covered(*map, pa, size, false)) return false;
        View memory(map);
        return map->each_part(pa, size, [&](const Region& region, u64 at, std::size_t count) {
            if (region.host)
                SharedBytes::read(region.at(at), out, count);
            else if (!read_outside(memory, at, out, count))
                return false;
            out += count;
            return true;
        });
    }

    bool write(u64 pa, const std::byte* in, std::size_t size) {
        const auto map = picture();
        if (size && !covered(*map, pa, size, true)) return false;
        View memory(map);
        return map->each_part(pa, size, [&](const Region& region, u64 at, std::size_t count) {
            if (region.host)
                SharedBytes::write(region.at(at), in, count);
            else if (!write_outside(memory, at, in, count))
                return false;
            in += count;
            return true;
        });
    }

private:
    static std::string hex(u64 value) {
        char text[19];
        return {text, static_cast<std::size_t>(
                          std::snprintf(text, sizeof text, "%#llx", static_cast<unsigned long long>(value)))};
    }
    static std::string range(u64 start, u64 last) { return "[" + hex(start) + ", " + hex(last) + "]"; }

    // Memory behind callbacks: whole words, or parts of them.
    static bool read_outside(View& memory, u64 pa, std::byte* out, std::size_t size) {
        return by_words(pa, size, [&](u64 at, std::size_t offset, std::size_t count) {
            u64 value;
            if (!memory.load(at, value)) return false;
            std::memcpy(out, reinterpret_cast<const std::byte*>(&value) + offset, count);
            out += count;
            return true;
        });
    }
    static bool write_outside(View& memory, u64 pa, const std::byte* in, std::size_t size) {
        return by_words(pa, size, [&](u64 at, std::size_t offset, std::size_t count) {
            if (!store(memory, at, offset, in, count)) return false;
            in += count;
            return true;
        });
    }
    // Replaces part of one word. Gives up where the word is never what was just read: memory behind callbacks may say
    // so.
    static bool store(View& memory, u64 at, std::size_t offset, const std::byte* in, std::size_t count) {
        constexpr int most_attempts = 4096;
        for (int attempt = 0; attempt < most_attempts; ++attempt) {
            u64 before;
            if (!memory.load(at, before)) return false;
            u64 after = before;
            std::memcpy(reinterpret_cast<std::byte*>(&after) + offset, in, count);
            const Exchange outcome = memory.compare_exchange(at, before, after);
            if (outcome != Exchange::changed) return outcome == Exchange::stored;
        }
        return false;
    }

    static bool covered(const RegionMap& map, u64 pa, std::size_t size, bool for_write) {
        return map.covers(pa, size, [=](const Region& region) { return region.writable || !for_write; });
    }

    template <typename Each> static bool by_words(u64 pa, std::size_t size, Each&& each) {
        while (size) {
            const std::size_t offset = pa & 7, count = std::min(size, 8 - offset);
            if (!each(pa & ~u64{7}, offset, count)) return false;
            pa += count;
            size -= count;
        }
        return true;
    }

    mutable std::mutex mutex_;
    mutable bool seen_ = false;
    std::shared_ptr<RegionMap> map_ = std::make_shared<RegionMap>(std::vector<Region>{});
};

}  // namespace viommu
