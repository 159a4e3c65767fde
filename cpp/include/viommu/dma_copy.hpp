// A device that copies memory to memory: both sides translated, as far as nothing is out of the ordinary.
#pragma once

#include "viommu/dma.hpp"
#include "viommu/shared_bytes.hpp"

namespace viommu {

// What a device is to copy, in ascending order: `length` bytes, which wrap on neither side; so many times over.
struct CopyRequest {
    ContextKey source_key;
    u64 source;
    ContextKey target_key;
    u64 target;
    u64 length;
    u64 times = 1;
};

// How far a copy came. If `writes`, its target stopped it, else its source; `translated` and `result` are as of a
// DmaProgress, about that side alone. The other may have been asked for its part of the same bytes already.
struct CopyProgress {
    u64 moved = 0;
    bool writes = false, translated = false;
    Result result;
};

// Copies under the engine lock, as Dma does.
class DmaCopy {
public:
    DmaCopy(Translator& translator, const CopyRequest& asked)
        : translator_(translator),
          length_(asked.length),
          source_{asked.source_key, asked.source, access::read},
          target_{asked.target_key, asked.target, access::write} {}

    CopyProgress run() {
        while (progress_.moved < length_ && run_locked()) {
        }
        return progress_;
    }
    // All times over; `moved` is what was copied in all.
    static CopyProgress run_all(Translator& translator, const CopyRequest& asked) {
        for (u64 before = 0;; before += asked.length) {
            CopyProgress progress = DmaCopy(translator, asked).run();
            const bool whole = progress.moved == asked.length;
            progress.moved += before;
            if (!whole || progress.moved == asked.length * asked.times) return progress;
        }
    }

private:
    // So much is done under one holding of the lock: others get their turn in between.
    static constexpr u64 bytes_per_lock = 256 * 1024;

    // One side: where it is, and what is left there of memory in one piece that its page leads to.
    struct Side {
        ContextKey key;
        u64 iova;
        u8 access;
        u64 pa = 0, left = 0;
    };

    // A side while the lock is held. Its page is looked for in the cache first, as batches do.
    class Reach {
    public:
        Reach(Side& side, CopyView& memory, Translator::Session& session, BoundContext& bound, bool invalidated)
            : side_(side), memory_(memory), bound_(bound), hits_(session, bound) {
            if (side.left) side.left = invalidated || !memory.reaches(side.pa, 1) ? 0 : in_one_piece(side.left);
        }

        // Finds where the next bytes lie, if what is left or what is cached tells.
        bool find_quickly() {
            if (side_.left) return true;
            u64 pa;
            unsigned lg2;
            if (!hits_.find(side_.iova, side_.access, pa, lg2) || !take(pa, lg2)) return false;
            hits_.count(1);
            return true;
        }
        // The same by a translation; false where nothing can be copied, and `result` says why.
        bool find(Translator::Session& session, Result& result) {
            session.translate(side_.key, bound_, side_.iova, side_.access, result);
            return result.leads_to_memory() && take(result.pa, result.page_lg2);
        }
        void read_ahead(u64 bytes) const {
            if (side_.left < bytes) hits_.read_ahead(side_.iova + side_.left, bytes - side_.left);
        }
        void cache_changed(Translator::Session& session) { hits_.open(session); }
        u64 left() const { return side_.left; }
        std::byte* host() const { return memory_.in_one_piece(side_.pa, side_.left); }
        void advance(u64 count) {
            side_.iova += count;
            side_.pa += count;
            side_.left -= count;
        }

    private:
        bool take(u64 pa, unsigned lg2) {
            if (!memory_.reaches(pa, 1)) return false;
            const u64 to_page_end = below(lg2) - (side_.iova & below(lg2));  // less one: it may be all
            side_.pa = pa;
            side_.left = in_one_piece(std::min(to_page_end, ~u64{0} - 1) + 1);
            return true;
        }
        // How many of so many bytes lie in one piece: the region may be another than when the lock was held last.
        u64 in_one_piece(u64 bytes) const { return std::min(bytes - 1, memory_.to_end(side_.pa)) + 1; }

        Side& side_;
        CopyView& memory_;
        BoundContext& bound_;
        DmaHits hits_;
    };

    // False where it stops for good.
    bool run_locked() {
        std::optional<CopyView> readable, writable;  // as a session's: taken under the lock, and let go after it
        Translator::Session session(translator_);
        BoundContext* const from = context(session, source_, false);
        BoundContext* const to = from ? context(session, target_, true) : nullptr;
        if (!to) return false;
        const auto picture = translator_.memory().picture();
        readable.emplace(picture, false);
        writable.emplace(picture, true);
        const bool invalidated = std::exchange(invalidations_, session.invalidations()) != session.invalidations();
        Reach source(source_, *readable, session, *from, invalidated);
        Reach target(target_, *writable, session, *to, invalidated);
        for (u64 bytes = std::min(bytes_per_lock, length_ - progress_.moved); bytes;) {
            if (const u64 moved = move_quickly(source, target, bytes))
                bytes -= moved;
            else if (!find(session, source, target, false) || !find(session, target, source, true))
                return false;
        }
        return true;
    }

    struct Part {
        std::byte *to, *from;
        u64 size;
    };
    static constexpr unsigned most_parts = 32;

    // Moves what comes next, as long as nothing need be translated for it, and gives how many bytes. All is looked up
    // first, as in Dma; what lies in one piece on both sides is moved in one.
    u64 move_quickly(Reach& source, Reach& target, u64 bytes) {
        Part parts[most_parts];
        unsigned count = 0;
        u64 found = 0;
        source.read_ahead(bytes);
        target.read_ahead(bytes);
        while (found < bytes && source.find_quickly() && target.find_quickly()) {
            const Part part{target.host(), source.host(), std::min({source.left(), target.left(), bytes - found})};
            if (count && parts[count - 1].to + parts[count - 1].size == part.to &&
                parts[count - 1].from + parts[count - 1].size == part.from)
                parts[count - 1].size += part.size;
            else if (count < most_parts)
                parts[count++] = part;
            else
                break;
            source.advance(part.size);
            target.advance(part.size);
            found += part.size;
        }
        for (unsigned i = 0; i < count; ++i) SharedBytes::move(parts[i].to, parts[i].from, parts[i].size);
        progress_.moved += found;
        return found;
    }
    BoundContext* context(Translator::Session& session, const Side& side, bool writes) {
        BoundContext* const bound = session.context(side.key);
        if (!bound) progress_.writes = writes;
        return bound;
    }
    // Finds one side by a translation where it need be; false where it stops the copy.
    bool find(Translator::Session& session, Reach& side, Reach& other, bool writes) {
        if (side.find_quickly()) return true;
        const bool found = side.find(session, progress_.result);
        side.cache_changed(session);
        other.cache_changed(session);
        if (found) return true;
        progress_.writes = writes;
        progress_.translated = true;
        return false;
    }

    Translator& translator_;
    const u64 length_;
    Side source_, target_;
    CopyProgress progress_;
    u64 invalidations_ = 0;  // when the lock was held last
};

}  // namespace viommu
