// IO page tables as a host driver fills them: in machine memory, so that hardware never sees a half-made table.
//
// What is a table, a leaf or absent is kept beside the tables, not read from them: whoever writes into a table from
// elsewhere spoils what hardware reads, and nothing here.
#pragma once

#include <bit>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "viommu/frame_pool.hpp"
#include "viommu/table_shape.hpp"

namespace viommu {

struct Mapping {
    u64 start, last;  // closed
    u64 pa;
    u64 flags;  // of its leaves, beyond those of the level
    unsigned largest_lg2 = 64;
};

enum class MapOutcome : u8 { mapped, overlaps, lacks_frames };

struct Mapped {
    MapOutcome outcome = MapOutcome::mapped;
    u64 at = 0;      // overlaps: the first address that is mapped already
    u64 frames = 0;  // lacks_frames: how many it takes at most
};

// What an unmap took away. Its tables stay out of use until `reclaim`.
struct Unmapped {
    u64 bytes = 0;
    u64 tables = 0;
    u64 id = 0;                         // for `reclaim`; 0: nothing to reclaim
    unsigned smallest_lg2 = 64;         // of the leaves that went; 64: none
    bool cut = false;                   // a large leaf lies across an end: nothing was unmapped
    u64 leaf_start = 0, leaf_last = 0;  // that leaf
};

struct LeafFound {
    u64 pa;
    u64 entry;
    unsigned lg2;
};

class TableWriter {
public:
    TableWriter(std::shared_ptr<FramePool> pool, const TableShape& shape, Frame root)
        : pool_(std::move(pool)), shape_(shape), root_(shape, shape.top(), root) {}
    TableWriter(const TableWriter&) = delete;
    ~TableWriter() { clear(); }

    const TableShape& shape() const { return shape_; }
    u64 root() const { return root_.frame.pa; }
    // Tables in use, the root too.
    u64 tables() const {
        std::scoped_lock lock(mutex_);
        return tables_;
    }

    // Aligned to the granule, within the input and in what an entry can hold: the caller has checked.
    Mapped map(const Mapping& wanted) {
        std::scoped_lock lock(mutex_);
        check_alive();
        Plan plan;
        if (!look(plan, &root_, shape_.top(), wanted, wanted.start, wanted.last))
            return {MapOutcome::overlaps, plan.taken, 0};
        std::vector<Frame> frames;
        frames.reserve(plan.tables);
        if (!pool_->take(shape_.granule_lg2, plan.tables, frames)) return {MapOutcome::lacks_frames, 0, plan.tables};
        std::reverse(frames.begin(), frames.end());
        fill(root_, shape_.top(), wanted, wanted.start, wanted.last, frames, true);
        tables_ += plan.tables;
        return {};
    }

    // Holes are passed over. Tables that nothing is left in go out of use.
    Unmapped unmap(u64 start, u64 last) {
        std::scoped_lock lock(mutex_);
        check_alive();
        Unmapped gone;
        if (!check_cut(gone, root_, shape_.top(), start, last)) return gone;
        std::vector<Frame> frames;
        empty(gone, root_, shape_.top(), start, last, frames);
        gone.tables = frames.size();
        tables_ -= frames.size();
        if (!frames.empty()) limbo_.emplace(gone.id = ++last_id_, std::move(frames));
        return gone;
    }

    // Caches have been told: the tables of one unmap are free for other use.
    void reclaim(u64 id) {
        std::scoped_lock lock(mutex_);
        if (auto node = limbo_.extract(id)) pool_->give(shape_.granule_lg2, node.mapped());
    }

    std::optional<LeafFound> find(u64 input) const {
        std::scoped_lock lock(mutex_);
        const Table* table = &root_;
        for (unsigned level = shape_.top();; --level) {
            const unsigned slot = shape_.index(level, input);
            if (const Table* beneath = table->child(slot)) {
                table = beneath;
                continue;
            }
            if (!table->has(slot)) return std::nullopt;
            const u64 entry = std::atomic_ref<u64>(table->frame.words[slot]).load(std::memory_order_relaxed);
            const unsigned lg2 = shape_.span_lg2(level);
            return LeafFound{shape_.address(entry, level) | (input & below(lg2)), entry, lg2};
        }
    }

    // Gives every frame back. Hardware looks at none of them any more.
    void clear() {
        std::scoped_lock lock(mutex_);
        if (!root_.frame.words) return;
        std::vector<Frame> frames;
        for (auto& child : root_.children)
            if (child) gather(std::move(child), frames);
        for (auto& [id, gone] : limbo_) frames.insert(frames.end(), gone.begin(), gone.end());
        limbo_.clear();
        pool_->give(shape_.granule_lg2, frames);
        pool_->give(root_lg2(shape_), {root_.frame});
        root_ = Table(shape_, shape_.top(), {});
        spare_.clear();
        tables_ = 0;
    }
    // log2 of the frame that the root needs; it may fill only a part.
    static unsigned root_lg2(const TableShape& shape) { return std::max(12u, shape.table_lg2(shape.top())); }

private:
    struct Table {
        Table(const TableShape& shape, unsigned level, Frame at)
            : frame(at), present((bit(shape.index_lg2(level)) + 63) / 64) {
            if (level) children.resize(bit(shape.index_lg2(level)));
        }
        bool has(unsigned slot) const { return present[slot / 64] >> slot % 64 & 1; }
        Table* child(unsigned slot) const { return children.empty() ? nullptr : children[slot].get(); }
        void set(unsigned slot) { present[slot / 64] |= bit(slot % 64), ++live; }
        void unset(unsigned slot) { present[slot / 64] &= ~bit(slot % 64), --live; }
        // The first slot in [first, last] that is taken.
        std::optional<unsigned> taken(unsigned first, unsigned last) const {
            for (unsigned word = first / 64; word <= last / 64; ++word) {
                u64 here = present[word];
                if (word == first / 64) here &= ~below(first % 64);
                if (word == last / 64) here &= below(last % 64 + 1);
                if (here) return word * 64 + static_cast<unsigned>(std::countr_zero(here));
            }
            return std::nullopt;
        }
        void set_all(unsigned first, unsigned last) {
            change(first, last, [](u64& word, u64 mask) { word |= mask; });
        }
        // Counts those that were set.
        unsigned unset_all(unsigned first, unsigned last) {
            unsigned count = 0;
            change(first, last, [&](u64& word, u64 mask) {
                count += static_cast<unsigned>(std::popcount(word & mask));
                word &= ~mask;
            });
            live -= count;
            return count;
        }

        Frame frame;
        u32 live = 0;                                  // slots that hold a leaf or lead to a table
        std::vector<u64> present;                      // a bit for each of them
        std::vector<std::unique_ptr<Table>> children;  // none at level 0

    private:
        template <typename Each> void change(unsigned first, unsigned last, Each&& each) {
            for (unsigned word = first / 64; word <= last / 64; ++word) {
                u64 mask = ~u64{0};
                if (word == first / 64) mask &= ~below(first % 64);
                if (word == last / 64) mask &= below(last % 64 + 1);
                each(present[word], mask);
            }
        }
    };
    struct Plan {
        u64 tables = 0;
        u64 taken = 0;
    };

    // Cuts [start, last] at the entries of a level, until `each` gives false.
    template <typename Each> bool by_entry(unsigned level, u64 start, u64 last, Each&& each) const {
        const u64 inside = below(shape_.span_lg2(level));
        for (u64 at = start;;) {
            const u64 end = std::min(last, at | inside);
            if (!each(shape_.index(level, at), at, end)) return false;
            if (end == last) return true;
            at = end + 1;
        }
    }
    bool is_leaf(const Mapping& wanted, unsigned level, u64 at, u64 end) const {
        const unsigned lg2 = shape_.span_lg2(level);
        return shape_.may_be_leaf(level) && lg2 <= wanted.largest_lg2 && end - at == below(lg2) &&
               !((wanted.pa + (at - wanted.start)) & below(lg2));
    }

    // Counts the tables that [start, last] needs; false where something of it is mapped. `table` null: not there yet.
    bool look(Plan& plan, const Table* table, unsigned level, const Mapping& wanted, u64 start, u64 last) const {
        if (level == 0) {
            if (!table) return true;
            const auto slot = table->taken(shape_.index(0, start), shape_.index(0, last));
            if (slot)
                plan.taken = std::max(start, (start & ~below(shape_.span_lg2(1))) + (u64{*slot} << shape_.granule_lg2));
            return !slot;
        }
        return by_entry(level, start, last, [&](unsigned slot, u64 at, u64 end) {
            const Table* beneath = table ? table->child(slot) : nullptr;
            if (table && !beneath && table->has(slot)) {
                plan.taken = at;
                return false;
            }
            if (!beneath) {
                if (is_leaf(wanted, level, at, end)) return true;
                ++plan.tables;
            }
            return look(plan, beneath, level - 1, wanted, at, end);
        });
    }

    void fill(Table& table, unsigned level, const Mapping& wanted, u64 start, u64 last, std::vector<Frame>& frames,
              bool linked) {
        if (level == 0) return fill_smallest(table, wanted, start, last, linked);
        by_entry(level, start, last, [&](unsigned slot, u64 at, u64 end) {
            if (Table* beneath = table.child(slot)) {
                fill(*beneath, level - 1, wanted, at, end, frames, linked);
            } else if (is_leaf(wanted, level, at, end)) {
                const u64 pa = wanted.pa + (at - wanted.start);
                store(table, slot, shape_.encoded(pa) | shape_.leaf_flags[level] | wanted.flags);
                table.set(slot);
            } else {
                auto made = make(level - 1, frames.back());
                frames.pop_back();
                fill(*made, level - 1, wanted, at, end, frames, false);
                // The table is whole: now hardware may see it.
                store(table, slot, shape_.encoded(made->frame.pa) | shape_.table_flags[level]);
                table.set(slot);
                table.children[slot] = std::move(made);
            }
            return true;
        });
    }

    void fill_smallest(Table& table, const Mapping& wanted, u64 start, u64 last, bool linked) {
        const unsigned first = shape_.index(0, start), end = shape_.index(0, last);
        const std::size_t count = end - first + 1u;
        const u64 pa = wanted.pa + (start - wanted.start), flags = shape_.leaf_flags[0] | wanted.flags;
        u64* const words = table.frame.words + first;
        const u64 last_pa = pa + ((count - 1) << shape_.granule_lg2);
        if (!linked && !((pa ^ last_pa) & shape_.high_mask))
            fill_unseen(words, count, shape_.encoded(pa) | flags, bit(shape_.granule_lg2) >> shape_.address_shift);
        else
            for (std::size_t at = 0; at < count; ++at)
                std::atomic_ref<u64>(words[at]).store(shape_.encoded(pa + (u64{at} << shape_.granule_lg2)) | flags,
                                                      std::memory_order_release);
        table.set_all(first, end);
        table.live += count;
    }

    // Nobody sees the table yet, and addresses count up within their field.
    static void fill_unseen(u64* words, std::size_t count, u64 entry, u64 step) {
#ifdef __x86_64__
        static const bool wide = __builtin_cpu_supports("avx2");
        if (wide) return fill_wide(words, count, entry, step);
#endif
        count_up(words, count, entry, step);
    }
#ifdef __x86_64__
    // The same with vectors of four words: tables of small pages are written at the speed of memory.
    [[gnu::target("avx2")]] static void fill_wide(u64* words, std::size_t count, u64 entry, u64 step) {
        count_up(words, count, entry, step);
    }
#endif
    // Four at a time: one sum after the other would take twice as long as the stores do. (GCC 12 at -O3 gets a loop
    // over an array of lanes wrong.)
    [[gnu::always_inline]] static inline void count_up(u64* words, std::size_t count, u64 entry, u64 step) {
        std::size_t at = 0;
        for (; count - at >= 4; at += 4, entry += 4 * step) {
            words[at] = entry;
            words[at + 1] = entry + step;
            words[at + 2] = entry + 2 * step;
            words[at + 3] = entry + 3 * step;
        }
        for (; at < count; ++at, entry += step) words[at] = entry;
    }

    // False where a leaf reaches beyond [start, last].
    bool check_cut(Unmapped& gone, const Table& table, unsigned level, u64 start, u64 last) const {
        if (level == 0) return true;
        const u64 inside = below(shape_.span_lg2(level));
        const auto check = [&](unsigned slot, u64 at, u64 end) {
            if (!table.has(slot) || end - at == inside) return true;
            if (const Table* beneath = table.child(slot)) return check_cut(gone, *beneath, level - 1, at, end);
            gone.cut = true;
            gone.leaf_start = at & ~inside;
            gone.leaf_last = at | inside;
            return false;
        };
        // Only the entries at the ends can be cut.
        const u64 first_end = std::min(last, start | inside);
        if (!check(shape_.index(level, start), start, first_end)) return false;
        return first_end == last || check(shape_.index(level, last), std::max(start, last & ~inside), last);
    }

    void empty(Unmapped& gone, Table& table, unsigned level, u64 start, u64 last, std::vector<Frame>& frames) {
        if (level == 0) {
            const unsigned first = shape_.index(0, start), end = shape_.index(0, last);
            for (unsigned slot = first; slot <= end; ++slot) store(table, slot, 0);
            count(gone, 0, table.unset_all(first, end));
            return;
        }
        by_entry(level, start, last, [&](unsigned slot, u64 at, u64 end) {
            if (!table.has(slot)) return true;
            Table* const beneath = table.child(slot);
            if (!beneath) {
                count(gone, level, 1);
            } else if (end - at == below(shape_.span_lg2(level))) {
                count_all(gone, *beneath, level - 1);
            } else {
                empty(gone, *beneath, level - 1, at, end, frames);
                if (beneath->live) return true;
            }
            store(table, slot, 0);
            table.unset(slot);
            if (beneath) gather(std::move(table.children[slot]), frames);
            return true;
        });
    }

    void count(Unmapped& gone, unsigned level, u64 leaves) const {
        if (!leaves) return;
        gone.bytes += leaves << shape_.span_lg2(level);
        gone.smallest_lg2 = std::min(gone.smallest_lg2, shape_.span_lg2(level));
    }
    void count_all(Unmapped& gone, const Table& table, unsigned level) const {
        u64 tables = 0;
        for (const auto& child : table.children) {
            if (!child) continue;
            ++tables;
            count_all(gone, *child, level - 1);
        }
        count(gone, level, table.live - tables);
    }

    std::unique_ptr<Table> make(unsigned level, Frame frame) {
        if (level || spare_.empty()) return std::make_unique<Table>(shape_, level, frame);
        auto table = std::move(spare_.back());
        spare_.pop_back();
        table->frame = frame;
        return table;
    }

    void gather(std::unique_ptr<Table> table, std::vector<Frame>& frames) {
        frames.push_back(table->frame);
        for (auto& child : table->children)
            if (child) gather(std::move(child), frames);
        if (!table->children.empty()) return;
        std::ranges::fill(table->present, 0);
        table->live = 0;
        spare_.push_back(std::move(table));
    }

    void check_alive() const {
        if (!root_.frame.words) throw std::invalid_argument("the page table was freed");
    }

    static void store(Table& table, unsigned slot, u64 entry) {
        std::atomic_ref<u64>(table.frame.words[slot]).store(entry, std::memory_order_release);
    }

    std::shared_ptr<FramePool> pool_;
    const TableShape shape_;
    mutable std::mutex mutex_;
    Table root_;
    u64 tables_ = 1;
    u64 last_id_ = 0;
    std::vector<std::unique_ptr<Table>> spare_;  // of level 0, empty: most tables are, and come and go
    std::unordered_map<u64, std::vector<Frame>> limbo_;
};

}  // namespace viommu
