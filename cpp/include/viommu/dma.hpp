// A device's reads and writes of memory, as far as nothing is out of the ordinary.
#pragma once

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

// A picture of memory for who copies much of it, and the region that was used last.
class CopyView {
public:
    explicit CopyView(std::shared_ptr<const RegionMap> map) : map_(std::move(map)) {}

    // Whether all of it can be copied: it lies in this process, and is writable if that is wanted.
    bool reaches(u64 pa, u64 size, bool writes) {
        const auto will_do = [=](const Region& region) { return region.host && (region.writable || !writes); };
        if (recent_ && holds(*recent_, pa, size) && will_do(*recent_)) return true;
        recent_ = map_->find(pa);
        return map_->covers(pa, size, will_do);
    }
    // Calls each(host, bytes) for the parts of what is reached.
    template <typename Each> void each(u64 pa, u64 size, Each&& each) const {
        if (recent_ && holds(*recent_, pa, size)) return each(recent_->at(pa), size);
        map_->each_part(pa, size, [&](const Region& region, u64 at, std::size_t count) {
            each(region.at(at), count);
            return true;
        });
    }

private:
    static bool holds(const Region& region, u64 pa, u64 size) {
        return region.contains(pa) && region.last - pa >= size - 1;
    }

    std::shared_ptr<const RegionMap> map_;
    const Region* recent_ = nullptr;
};

// Moves whole pages, the last one as far as it is asked for, page by page in order, while there is room for them.
// Copying is done under the engine lock: once an invalidation is over, nothing goes to where its pages led, except for
// what is left of a page that was too large for one holding of the lock.
class Dma {
public:
    Dma(Translator& translator, const DmaRequest& asked)
        : translator_(translator), asked_(asked), memory_(translator.memory().picture()) {}

    // Calls move(host, offset, bytes) for one run of memory after the other.
    template <typename Move> DmaProgress run(u64 room, Move&& move) {
        room = std::min(room, asked_.length);
        while (progress_.moved < room && run_locked(room, move)) {
            // Looked at anew between pages, and with no lock held: a buffer may end with its last picture.
            if (!left_) memory_ = CopyView(translator_.memory().picture());
        }
        return progress_;
    }

private:
    // So much is done under one holding of the lock: others get their turn in between.
    static constexpr u64 bytes_per_lock = 256 * 1024;
    static constexpr unsigned pages_per_lock = 256;

    // False where it stops for good.
    template <typename Move> bool run_locked(u64 room, Move&& move) {
        Translator::Session session(translator_);
        BoundContext* const bound = session.context(asked_.key);
        Hits hits(session, bound);
        u64 bytes = bytes_per_lock;
        for (unsigned pages = 0; pages < pages_per_lock && bytes && progress_.moved < room; ++pages) {
            if (!left_ && !next_page(session, bound, hits, room)) return false;
            const u64 now = std::min(left_, bytes);
            memory_.each(pa_, now, [&](std::byte* host, u64 count) {
                move(host, progress_.moved, count);
                progress_.moved += count;
            });
            pa_ += now;
            left_ -= now;
            bytes -= now;
        }
        return true;
    }

    // Pages that hit in the usual way, for as long as nothing else is translated.
    class Hits {
    public:
        Hits(Translator::Session& session, BoundContext* bound) : bound_(bound) { open(session); }
        ~Hits() {
            if (!count_) return;
            StreamCounters& stream = *bound_->stream;
            stream.translations += count_;
            stream.lookups += count_;
            stream.hits += count_;
        }
        Hits(const Hits&) = delete;

        // After the cache has changed.
        void open(Translator::Session& session) {
            if (bound_ && session.in_parts() && session.caches() && bound_->context->plain())
                window_ = session.window(*bound_);
        }
        // One that is found is not counted yet.
        bool find(u64 iova, u8 access, u64& pa, unsigned& lg2) const {
            if (!window_ || iova & bound_->context->uncached_bits()) return false;
            if (!window_.find(iova, window_.set_for(iova), access, bound_->context->allowed(), pa, lg2)) return false;
            pa |= iova & below(lg2);
            return true;
        }
        void count() { ++count_; }

    private:
        BoundContext* bound_;
        IotlbSets::Window window_;
        u64 count_ = 0;
    };

    bool next_page(Translator::Session& session, BoundContext* bound, Hits& hits, u64 room) {
        if (!bound) return false;
        const u64 iova = asked_.iova + progress_.moved;
        const u8 access = asked_.writes ? access::write : access::read;
        unsigned lg2;
        if (hits.find(iova, access, pa_, lg2) && take(iova, lg2, room)) {
            hits.count();
            return true;
        }
        Result& result = progress_.result;
        session.translate(asked_.key, *bound, iova, access, result);
        hits.open(session);
        pa_ = result.pa;
        progress_.translated = !result.ok() || !take(iova, result.page_lg2, room);
        return !progress_.translated;
    }
    // Whether what is asked of the page that holds `iova` can be moved; it is under way then.
    bool take(u64 iova, unsigned lg2, u64 room) {
        const u64 to_page_end = below(lg2) - (iova & below(lg2));  // less one: it may be all
        const u64 size = std::min(asked_.length - progress_.moved - 1, to_page_end) + 1;
        if (size > room - progress_.moved || !memory_.reaches(pa_, size, asked_.writes)) return false;
        left_ = size;
        return true;
    }

    Translator& translator_;
    const DmaRequest asked_;
    CopyView memory_;
    DmaProgress progress_;
    u64 pa_ = 0, left_ = 0;  // of the page that is under way
};

}  // namespace viommu
