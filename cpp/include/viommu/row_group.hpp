// Rows of a batch that are under way together.
#pragma once

#include "viommu/row_hits.hpp"
#include "viommu/translator.hpp"

namespace viommu {

// Up to 32 rows under one lock. Their places in the IOTLB are fetched together; when one misses, the tables of all that
// will miss are walked together. Yet each row is answered in its turn, as if it came alone: what was walked ahead
// counts only if the row still misses then, and if nothing was stored since.
class RowGroup {
public:
    RowGroup(Translator::Session& session, const Rows& rows, Columns& out)
        : session_(session), rows_(rows), out_(out), in_parts_(session.in_parts()), caches_(session.caches()) {}
    ~RowGroup() { count(); }
    RowGroup(const RowGroup&) = delete;

    // Translates rows from `first` on, up to `end`, until one has no cached configuration; gives how many.
    std::size_t translate(std::size_t first, std::size_t end) {
        first_ = first;
        inserted_ = 0;
        size_ = static_cast<unsigned>(std::min<std::size_t>(most, end - first));
        const unsigned alike = rows_alike();
        if (alike < std::min(size_, few) || !open_window(rows_.key(first))) {
            gather(0);
            for (unsigned row = 0; row < size_; ++row) translate(row);
            return size_;
        }
        size_ = alike;
        unsigned row = hits(0);
        if (!in_parts_) return with_walk_caches(row);
        if (row < size_) row = misses(row);
        while (row < size_) {
            translate(row++);
            if (row < size_ && state_[row] == State::fresh && open_window(key_now_)) row = hits(row);
        }
        return size_;
    }

private:
    // What many streams take turns in is not worth a window of each.
    static constexpr unsigned most = WalkGroup::most, few = 8;

    enum class State : u32 {
        fresh,   // not looked at yet
        walked,  // ahead: `walks_` has it
        alone,   // for the translator to do whole
    };

    // How many rows of the group have the first one's context.
    unsigned rows_alike() {
        if (alike_until_ <= first_)
            alike_until_ = first_ + count_alike(std::min(rows_.size - first_, rows_looked_over));
        return static_cast<unsigned>(std::min<std::size_t>(size_, alike_until_ - first_));
    }
    // Whole groups at a time: a loop that never stops is done many rows at once.
    std::size_t count_alike(std::size_t last) const {
        const u32* const requester = rows_.requester + first_;
        const u32* const pasid = rows_.pasid ? rows_.pasid + first_ : nullptr;
        std::size_t row = 0;
        for (; row + most <= last; row += most) {
            u32 differs = 0;
            for (unsigned i = 0; i < most; ++i) differs |= requester[row + i] ^ requester[0];
            if (pasid)
                for (unsigned i = 0; i < most; ++i) differs |= pasid[row + i] ^ pasid[0];
            if (differs) break;
        }
        while (row < last && requester[row] == requester[0] && (!pasid || pasid[row] == pasid[0])) ++row;
        return row;
    }
    static constexpr std::size_t rows_looked_over = 1024;

    // Brings the window on the IOTLB up to date, for rows of one context that reach it as they come. False: there is
    // none for them.
    bool open_window(ContextKey key) {
        if (!session_.in_groups() || !caches_ || !find_context(key) || !bound_now_->context->plain()) return false;
        window_ = session_.window(*bound_now_);
        return static_cast<bool>(window_);
    }
    bool find_context(ContextKey key) {
        if (!bound_now_ || !(key == key_now_)) bound_now_ = session_.context(key_now_ = key);
        return bound_now_;
    }

    // Answers rows from `from` on as long as they hit; gives the first that does not.
    unsigned hits(unsigned from) {
        const unsigned row = RowHits(window_, *bound_now_->context, rows_, out_, first_).answer(sets_, from, size_);
        tally(*bound_now_).hits += row - from;
        return row;
    }

    // Rows from `from` on, which misses: walks those that miss, and answers all until one takes more than this. Gives
    // that one; it and all after it are set up then.
    unsigned misses(unsigned from) {
        collect(from);
        const unsigned row = walk_and_fill(from);
        if (row < size_) set_up(row);
        return row;
    }
    // What is walked counts for pages of the tag whose lane the window looks at first: others are for others to put in.
    unsigned walk_and_fill(unsigned from) {
        session_.walk_plain(*bound_now_, ahead_);
        if (!window_.first_is_of(bound_now_->tag)) ahead_.walked = 0;
        return fill(from);
    }
    // With walk caches, rows from `from` on, which misses. Gives the group's size.
    std::size_t with_walk_caches(unsigned from) {
        for (unsigned row = from; row < size_;) {
            row = misses_one_by_one(row);
            while (row < size_ && !open_window(key_now_)) translate_whole(row++);
            if (row < size_) row = hits(row);
        }
        return size_;
    }
    // The same with walk caches: where a row takes more, it is translated alone, and what it left behind in them is
    // there for the next. Gives the first row that the window is no longer right for.
    unsigned misses_one_by_one(unsigned from) {
        collect(from);
        for (unsigned row = from;;) {
            row = walk_and_fill(row);
            if (row == size_) return row;
            const LookUp::Probe first = window_.first();
            translate_whole(row++);
            if (row == size_ || !open_window(key_now_) || !(window_.first() == first)) return row;
            drop_until(row);
        }
    }
    // Rows before this one are not to be walked any more.
    void drop_until(unsigned row) {
        unsigned gone = 0;
        while (gone < ahead_.count && ahead_.row[gone] < row) ++gone;
        ahead_.count -= gone;
        std::copy_n(ahead_.input + gone, ahead_.count, ahead_.input);
        std::copy_n(ahead_.row + gone, ahead_.count, ahead_.row);
        std::copy_n(keys_ + gone, ahead_.count, keys_);
    }
    void translate_whole(unsigned row) {
        const std::size_t at = first_ + row;
        Result result;
        session_.translate(key_now_, *bound_now_, rows_.iova[at], rows_.access[at], result);
        out_.put(at, result);
    }
    // What is walked ahead: rows that miss, up to one whose access is another, or that is none for this.
    void collect(unsigned from) {
        const u64* const iovas = rows_.iova + first_;
        ahead_.count = 0;
        ahead_.access = rows_.access[first_ + from];
        const unsigned size = from + rows_like(first_ + from, size_ - from, ahead_.differ);
        if (!window_.keys(iovas[from], ahead_.differ)) return;
        const auto add_missing = [&](auto holds) {
            u64* const* const sets = sets_;
            u64 *const inputs = ahead_.input, *const keys = keys_;
            u32* const rows = ahead_.row;
            const IotlbSets::Window window = window_;
            unsigned count = 0;
            for (unsigned row = from; row < size; ++row) {
                const u64 iova = iovas[row], key = window.first_key(iova);
                inputs[count] = iova;
                keys[count] = key;
                rows[count] = row;
                count += !holds(key, iova, sets[row]);
            }
            ahead_.count = count;
        };
        if (window_.has_others())
            add_missing([this](u64 key, u64 iova, const u64* set) {
                return IotlbSets::Window::has(key, set) || window_.others_hold(iova);
            });
        else
            add_missing([](u64 key, u64, const u64* set) { return IotlbSets::Window::has(key, set); });
    }
    // How many rows, from one on, have its access and are the IOTLB's business. `differ` gets the bits that any of
    // these inputs differ in.
    unsigned rows_like(std::size_t from, unsigned count, u64& differ) const {
        const u64 uncached = bound_now_->context->uncached_bits();
        const u64* const iovas = rows_.iova + from;
        const u8* const accesses = rows_.access + from;
        const u8 access = accesses[0];
        const u64 first = iovas[0];
        u64 odd = access >> 4, apart = 0;
        for (unsigned k = 0; k < count; ++k) {
            odd |= iovas[k] & uncached;
            apart |= iovas[k] ^ first;
        }
        differ = apart;
        u8 others = 0;
        for (unsigned k = 0; k < count; ++k) others |= accesses[k] ^ access;
        if (!odd && !others) [[likely]]
            return count;
        unsigned alike = 0;
        while (alike < count && accesses[alike] == access && access < 16 && !(iovas[alike] & uncached)) ++alike;
        return alike;
    }
    // Answers rows from `from` on in turn, by what was walked ahead or by what the IOTLB holds when their turn comes;
    // gives the first that neither answers.
    unsigned fill(unsigned from) {
        const unsigned lg2 = window_.first_lg2();
        unsigned row = from;
        for (unsigned k = 0, end; k < ahead_.walked; k = end) {
            const PlainLeafOf& leaf = ahead_.leaves[ahead_.leaf_of(k)];
            end = ahead_.one_leaf ? ahead_.walked : k + 1;
            while (end < ahead_.walked && ahead_.leaf_of(end) == ahead_.leaf_of(k)) ++end;
            if (leaf.lg2 != lg2 || leaf.global) return row;
            const auto filling = window_.filling(leaf.facts, ahead_.pa + k, ahead_.ipa + k, end - k);
            if (!filling || !fill(filling, leaf, k, end, row)) return row;
        }
        while (row < size_ && hit(row)) ++row;
        return row;
    }
    // The same for rows from `at` on, up to the last of those whose walks were [k, end): their leaves are alike.
    bool fill(const IotlbSets::Window::Filling& with, const PlainLeafOf& leaf, unsigned k, unsigned end, unsigned& at) {
        const std::size_t begin = first_ + at, count = ahead_.row[end - 1] + 1 - at;
        std::memset(out_.kind + begin, 0, count);
        std::memset(out_.page_lg2 + begin, leaf.lg2, count);
        std::memset(out_.rights + begin, leaf.facts.rights().granted(ahead_.access), count);
        u64 values[most];
        with.values(ahead_.pa + k, values + k, end - k);
        const unsigned first = k;
        Filled filled;
        if (with.keeps_ipas())
            filled = fill(with, values, k, end, at,
                          [&](const u64* set, unsigned way) { with.keep_ipa(set, way, ahead_.ipa[k]); });
        else
            filled = fill(with, values, k, end, at, [](const u64*, unsigned) {});
        const u64 inserted = k - first - filled.hits;
        session_.count_insertions(inserted, inserted - filled.spared);
        Tally& counts = tally(*bound_now_);
        counts.walks += inserted;
        counts.loads += inserted * ahead_.loads;
        session_.count_resumes(inserted * ahead_.resumes);
        return k == end;
    }
    struct Filled {
        u64 hits = 0;    // of rows that were walked
        u64 spared = 0;  // insertions that no live entry had to leave for
    };
    template <typename Keep>
    [[gnu::always_inline]] Filled fill(const IotlbSets::Window::Filling& with, const u64* values, unsigned& at,
                                       unsigned end, unsigned& row_at, Keep&& keep) {
        const u64 *const keys = keys_, *const pas = ahead_.pa;
        const u32* const rows = ahead_.row;
        u64* const* const sets = sets_;
        u64* const pa = out_.pa + first_;
        const Tags& tags = session_.tags();
        const bool others = window_.has_others();
        Filled filled;
        unsigned k = at, row = row_at;
        for (; k < end; ++k, ++row) {
            while (row < rows[k] && hit(row)) ++row;
            if (row < rows[k]) break;
            u64* const set = sets[row];
            const u64 key = keys[k];
            if (IotlbSets::Window::has(key, set) || (others && window_.others_hold(ahead_.input[k]))) [[unlikely]] {
                if (!hit(row)) break;
                ++filled.hits;
                continue;
            }
            pa[row] = pas[k];
            const unsigned way = with.insert(key, set, values[k], tags, filled.spared);
            at = k;
            keep(set, way);
        }
        at = k;
        row_at = row;
        return filled;
    }
    // Answers a row by what its set holds, if that will do.
    [[gnu::noinline]] bool hit(unsigned row) {
        const Context& context = *bound_now_->context;
        const u64 iova = rows_.iova[first_ + row];
        const unsigned access = rows_.access[first_ + row];
        u64 frame;
        unsigned lg2;
        if (iova & context.uncached_bits() || access > 15) return false;
        const LeafFacts* const facts = window_.find(iova, sets_[row], access, context.allowed(), frame, lg2);
        if (!facts) return false;
        const Rights granted = facts->rights & Rights::both(context.settings().rights);
        out_.put(first_ + row, frame | (iova & below(lg2)), static_cast<u8>(lg2),
                 granted.granted(static_cast<u8>(access)));
        ++tally(*bound_now_).hits;
        return true;
    }
    void set_up(unsigned from) {
        const u64 uncached = bound_now_->context->uncached_bits();
        for (unsigned row = from; row < size_; ++row) {
            const u64 iova = rows_.iova[first_ + row];
            const u8 access = rows_.access[first_ + row];
            bound_[row] = bound_now_;
            walks_.input[row] = iova;
            walks_.access[row] = access;
            state_[row] = iova & uncached || access > 15 ? State::alone : State::fresh;
        }
    }

    // Sets rows from `from` on up one by one, and fetches their places.
    void gather(unsigned from) {
        const unsigned size = size_;
        for (size_ = from; size_ < size; ++size_) {
            const std::size_t at = first_ + size_;
            if (!find_context(rows_.key(at))) return;
            const Context& context = *bound_now_->context;
            const u64 iova = rows_.iova[at];
            bound_[size_] = bound_now_;
            walks_.access[size_] = rows_.access[at];
            walks_.input[size_] = iova;
            bool cacheable = !(iova & context.uncached_bits());
            if (!context.plain()) {
                walks_.access[size_] = context.overridden(walks_.access[size_]);
                walks_.input[size_] = context.cache_input(iova);
                cacheable = context.cacheable(iova, walks_.access[size_]);
            }
            state_[size_] = in_parts_ && cacheable ? State::fresh : State::alone;
            if (caches_ && !from && state_[size_] == State::fresh) session_.prefetch(*bound_now_, walks_.input[size_]);
        }
    }

    void translate(unsigned row) {
        if (state_[row] != State::alone && caches_ && !(state_[row] == State::walked && still_misses(row))) {
            IotlbHit hit;
            if (session_.find(*bound_[row], walks_.input[row], walks_.access[row], hit)) return put(row, hit);
        }
        if (state_[row] == State::fresh) walk_ahead(row);
        if (state_[row] == State::alone) return translate_alone(row);
        put(row, walks_.walk[row]);
    }

    // Walks this row and those after it that miss too, as far as they are of one context.
    void walk_ahead(unsigned row) {
        BoundContext* const bound = bound_[row];
        GroupRows rows;
        for (unsigned other = row; other < size_; ++other) {
            if (bound_[other] != bound || state_[other] != State::fresh) continue;
            if (other == row || !caches_ || !session_.holds(*bound, walks_.input[other])) rows.add(other);
        }
        bound->context->walk_group(session_.memory(), walks_, rows);
        for (unsigned k = 0; k < rows.count; ++k)
            state_[rows.row[k]] = walks_.plain[rows.row[k]] ? State::walked : State::alone;
    }

    void put(unsigned row, const IotlbHit& hit) {
        const std::size_t at = first_ + row;
        const Rights granted = hit.facts->rights & Rights::both(bound_[row]->context->settings().rights);
        out_.put(at, splice(hit.frame, rows_.iova[at], hit.lg2), hit.lg2, granted.granted(walks_.access[row]));
        ++tally(*bound_[row]).hits;
    }
    void put(unsigned row, const PlainWalk& walk) {
        BoundContext& bound = *bound_[row];
        out_.put(first_ + row, walk.pa, walk.page_lg2, walk.facts.rights().granted(walks_.access[row]));
        Tally& counts = tally(bound);
        ++counts.walks;
        counts.loads += walk.loads;
        if (!caches_) return;
        session_.keep(bound, walks_.input[row], walk);
        inserted_ |= walk.page_lg2 == page_lg2 ? bit(trace_of(walks_.input[row])) : ~u64{0};
    }
    void translate_alone(unsigned row) {
        const std::size_t at = first_ + row;
        const u64 stored = in_parts_ ? session_.memory().exchanges() : 0;
        Result result;
        session_.translate(rows_.key(at), *bound_[row], rows_.iova[at], rows_.access[at], result);
        out_.put(at, result);
        inserted_ = ~u64{0};
        if (!in_parts_ || session_.memory().exchanges() == stored) return;
        for (unsigned later = row + 1; later < size_; ++later)
            if (state_[later] == State::walked) state_[later] = State::fresh;
    }

    // What this group has inserted, as a few bits of page numbers: who missed, and whose bit is not set, still misses.
    static constexpr unsigned page_lg2 = 12;
    static unsigned trace_of(u64 input) {
        return static_cast<unsigned>((input >> page_lg2) * 0x9E37'79B9'7F4A'7C15 >> 58);
    }
    bool still_misses(unsigned row) const { return !(inserted_ >> trace_of(walks_.input[row]) & 1); }

    // Counted for a run of rows of one stream.
    struct Tally {
        StreamCounters* stream = nullptr;
        u64 hits = 0, walks = 0, loads = 0;
    };
    Tally& tally(const BoundContext& bound) {
        if (tally_.stream != bound.stream) {
            count();
            tally_.stream = bound.stream;
        }
        return tally_;
    }
    void count() {
        if (!tally_.stream) return;
        StreamCounters& stream = *tally_.stream;
        stream.translations += tally_.hits + tally_.walks;
        if (caches_) stream.lookups += tally_.hits + tally_.walks;
        stream.hits += tally_.hits;
        stream.walks += tally_.walks;
        stream.entry_loads += tally_.loads;
        tally_ = {};
    }

    Translator::Session& session_;
    const Rows& rows_;
    Columns& out_;
    const bool in_parts_, caches_;
    std::size_t first_ = 0;
    std::size_t alike_until_ = 0;  // rows up to here have the context of `first_`
    unsigned size_ = 0;
    ContextKey key_now_{};
    BoundContext* bound_now_ = nullptr;
    IotlbSets::Window window_;
    u64* sets_[most];  // where `window_` looks first
    BoundContext* bound_[most];
    State state_[most];
    u64 inserted_ = 0;
    PlainRows ahead_;
    u64 keys_[most];  // of `ahead_`'s rows, in the IOTLB
    WalkGroup walks_;
    Tally tally_;
};

}  // namespace viommu
