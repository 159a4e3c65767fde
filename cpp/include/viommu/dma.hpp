// A device's reads and writes of memory, as far as nothing is out of the ordinary.
#pragma once

#include <optional>
#include <utility>

#include "viommu/translator.hpp"

namespace viommu {

// What a device asks for: `length` bytes from `iova` on, which do not wrap.
struct DmaRequest {
    ContextKey key;
    u64 iova;
    u64 length;
    bool writes;
};

// How far a DMA came. The page after that, if it was `translated`, is counted, and `result` says what became of it: who
// goes on with it must not ask again. If it was not, its configuration is not cached.
struct DmaProgress {
    u64 moved = 0;
    bool translated = false;
    Result result;
};

// A picture of memory for who copies much of it one way, and the region that was used last.
class CopyView {
public:
    CopyView(std::shared_ptr<const RegionMap> map, bool writes) : map_(std::move(map)), writes_(writes) {}

    // Whether all of it can be copied: it lies in this process, and is writable if that is wanted.
    bool reaches(u64 pa, u64 size) {
        if (in_one_piece(pa, size)) return true;
        const auto will_do = [&](const Region& region) { return region.host && (region.writable || !writes_); };
        if (!map_->covers(pa, size, will_do)) return false;
        recent_ = map_->find(pa);
        return true;
    }
    // Where it lies, if that is in the region that was used last; null.
    std::byte* in_one_piece(u64 pa, u64 size) const {
        return recent_ && recent_->contains(pa) && recent_->last - pa >= size - 1 ? recent_->at(pa) : nullptr;
    }
    // How many bytes of the region that was used last, in which `pa` lies, follow it.
    u64 to_end(u64 pa) const { return recent_->last - pa; }
    // Calls each(host, bytes) for the parts of what is reached.
    template <typename Each> void each(u64 pa, u64 size, Each&& each) const {
        map_->each_part(pa, size, [&](const Region& region, u64 at, std::size_t count) {
            each(region.at(at), count);
            return true;
        });
    }

private:
    std::shared_ptr<const RegionMap> map_;
    bool writes_;
    const Region* recent_ = nullptr;  // one that can be copied
};

// Pages that hit in the usual way, for as long as nothing else is translated.
class DmaHits {
public:
    DmaHits(Translator::Session& session, BoundContext& bound) : bound_(bound) { open(session); }
    ~DmaHits() { bound_.stream->count_hits(count_); }
    DmaHits(const DmaHits&) = delete;

    // After the cache has changed.
    void open(Translator::Session& session) {
        if (session.in_parts() && session.caches()) window_ = session.window(bound_);
    }
    // One that is found is not counted yet.
    [[gnu::always_inline]] bool find(u64 iova, u8 access, u64& pa, unsigned& lg2) const {
        if (!window_) return false;
        const Context& context = *bound_.context;
        if (context.plain()) {
            if (iova & context.uncached_bits() || !look_up(iova, access, pa, lg2)) return false;
        } else {
            access = context.overridden(access);
            if (!context.cacheable(iova, access) || !look_up(context.cache_input(iova), access, pa, lg2)) return false;
        }
        pa |= iova & below(lg2);
        return true;
    }
    void count(unsigned found) { count_ += found; }
    // Reads where pages to come are looked for, so that all of it comes into the host's caches at once: what is moved
    // drives it out of them. (A prefetch would be dropped where the host's TLB lacks the page.)
    void read_ahead(u64 iova, u64 bytes) const {
        if (!window_ || window_.first_lg2() != smallest_lg2) return;
        for (u64 at = 0; at < bytes; at += u64{1} << smallest_lg2)
            static_cast<void>(*static_cast<const volatile u64*>(window_.set_for(iova + at)));
    }

private:
    static constexpr unsigned smallest_lg2 = 12;

    [[gnu::always_inline]] bool look_up(u64 input, u8 access, u64& pa, unsigned& lg2) const {
        return window_.find(input, window_.set_for(input), access, bound_.context->allowed(), pa, lg2);
    }

    BoundContext& bound_;
    IotlbSets::Window window_;
    u64 count_ = 0;
};

// Moves whole pages, the last one as far as it is asked for, page by page in order, while there is room for them.
// Copying is done under the engine lock: once an invalidation is over, nothing goes to where its pages led.
class Dma {
public:
    Dma(Translator& translator, const DmaRequest& asked)
        : translator_(translator), asked_(asked), access_(asked.writes ? access::write : access::read) {}

    // Calls move(host, offset, bytes) for one run of memory after the other.
    template <typename Move> DmaProgress run(u64 room, Move&& move) {
        room_ = std::min(room, asked_.length);
        while (progress_.moved < room_ && run_locked(move)) {
        }
        return progress_;
    }

private:
    // So much is done under one holding of the lock: others get their turn in between.
    static constexpr u64 bytes_per_lock = 256 * 1024;

    // False where it stops for good.
    template <typename Move> bool run_locked(Move&& move) {
        std::optional<CopyView> memory;  // as a session's: taken under the lock, and let go after it
        Translator::Session session(translator_);
        BoundContext* const bound = session.context(asked_.key);
        if (!bound) return false;
        memory.emplace(translator_.memory().picture(), asked_.writes);
        resume(session, *memory);
        DmaHits hits(session, *bound);
        u64 bytes = bytes_per_lock;
        while (bytes && progress_.moved < room_) {
            if (!left_) {
                if (const u64 moved = move_hits(hits, *memory, bytes, move)) {
                    bytes -= moved;
                    continue;
                }
                if (!next_page(session, *bound, *memory)) return false;
                hits.open(session);
            }
            bytes -= move_page(*memory, bytes, move);
        }
        return true;
    }
    // What is left of a large page is asked for anew when it may lead elsewhere.
    void resume(const Translator::Session& session, CopyView& memory) {
        if (std::exchange(invalidations_, session.invalidations()) != session.invalidations() ||
            (left_ && !memory.reaches(pa_, left_)))
            left_ = 0;
    }

    struct Part {
        std::byte* host;
        u64 size;
    };
    static constexpr unsigned most_parts = 32;

    // Moves the pages that come next, as long as they hit, and gives how many bytes. All are looked up first, since
    // what a hit says does not depend on what is moved: the host's processor copies further ahead when nothing lies
    // between.
    template <typename Move> u64 move_hits(DmaHits& hits, const CopyView& memory, u64 bytes, Move&& move) {
        Part parts[most_parts];
        unsigned count = 0;
        u64 found = 0, pa;
        for (unsigned lg2; count < most_parts && found < std::min(bytes, room_ - progress_.moved); ++count) {
            const u64 at = progress_.moved + found;
            if (!hits.find(asked_.iova + at, access_, pa, lg2)) break;
            const u64 size = size_in_page(at, lg2);
            std::byte* const host = memory.in_one_piece(pa, size);
            if (!host || size > std::min(room_ - at, bytes - found)) break;
            parts[count] = {host, size};
            found += size;
        }
        hits.count(count);
        for (unsigned i = 0; i < count; ++i) moved(parts[i].host, parts[i].size, move);
        return found;
    }
    // Moves what is left of a page, or the most that it may, and gives how many bytes.
    template <typename Move> u64 move_page(const CopyView& memory, u64 bytes, Move&& move) {
        const u64 size = std::min(left_, bytes);
        memory.each(pa_, size, [&](std::byte* host, u64 count) { moved(host, count, move); });
        pa_ += size;
        left_ -= size;
        return size;
    }
    template <typename Move> void moved(std::byte* host, u64 size, Move&& move) {
        move(host, progress_.moved, size);
        progress_.moved += size;
    }

    // False where the page cannot be moved.
    bool next_page(Translator::Session& session, BoundContext& bound, CopyView& memory) {
        Result& result = progress_.result;
        session.translate(asked_.key, bound, asked_.iova + progress_.moved, access_, result);
        progress_.translated = !result.leads_to_memory() || !take(result, memory);
        return !progress_.translated;
    }
    bool take(const Result& result, CopyView& memory) {
        const u64 size = size_in_page(progress_.moved, result.page_lg2);
        if (size > room_ - progress_.moved || !memory.reaches(result.pa, size)) return false;
        pa_ = result.pa;
        left_ = size;
        return true;
    }
    // How much is asked of the page that holds what is `moved` bytes on.
    u64 size_in_page(u64 moved, unsigned lg2) const {
        const u64 to_page_end = below(lg2) - ((asked_.iova + moved) & below(lg2));  // less one: it may be all
        return std::min(asked_.length - moved - 1, to_page_end) + 1;
    }

    Translator& translator_;
    const DmaRequest asked_;
    const u8 access_;
    u64 room_ = 0;
    DmaProgress progress_;
    u64 pa_ = 0, left_ = 0;  // of the page that is under way
    u64 invalidations_ = 0;  // when the lock was held last
};

}  // namespace viommu
