// Dirty tracking: which pages of a range were written, read from the leaves, and forgotten if asked.
#pragma once

#include <vector>

#include "viommu/context.hpp"

namespace viommu {

// One bit for each page of 2^page_lg2 bytes.
class DirtyBitmap {
public:
    DirtyBitmap(u64 start, u64 last, unsigned page_lg2)
        : first_(start >> page_lg2), page_lg2_(page_lg2), bytes_(((last >> page_lg2) - first_) / 8 + 1) {}

    void set(u64 from, u64 to) {
        for (u64 page = from >> page_lg2_; page <= to >> page_lg2_; ++page) {
            const u64 index = page - first_;
            bytes_[index / 8] = static_cast<u8>(bytes_[index / 8] | 1u << index % 8);
        }
    }
    std::vector<u8> take() { return std::move(bytes_); }

private:
    u64 first_;
    unsigned page_lg2_;
    std::vector<u8> bytes_;
};

// Reads the leaves of one stage for inputs in [start, last]. A leaf that is kept in several entries (AMD) is dirty
// where any of them says so.
template <Format F>
void read_dirty_leaves(const F& format, View& memory, View& untouched, u64 start, u64 last, bool clear,
                       DirtyBitmap& bitmap) {
    Direct entries(untouched);
    Unobserved observer;
    // However the tables are made, a look at them ends.
    constexpr u64 most_entries = u64{1} << 26;
    for (u64 at = start, looked = 0;; ++looked) {
        if (looked == most_entries) throw std::length_error("read_dirty: more than 2^26 entries: ask for it in parts");
        StageOutput leaf;
        Result result;
        WalkState state;
        format.begin(at, state, 0);  // which half's granule `span_lg2` goes by
        const Purpose look{.stage = Stage::stage2, .access = 0, .blocked = nullptr, .page_lg2 = whole_lg2, .cache = {}};
        const bool found = walk_stage(format, entries, at, look, observer, leaf, result);
        untouched.forget();
        const unsigned span = format.span_lg2(found ? leaf.level : result.level, state);
        if (found && format.dirty(leaf.raw)) {
            const unsigned size = std::max<unsigned>(leaf.lg2, span);
            bitmap.set(std::max(start, at & ~below(size)), std::min(last, at | below(size)));
            const bool swapped = format.big_endian();
            const u64 clean = format.cleaned(leaf.raw);
            if (clear)
                memory.compare_exchange(leaf.entry_pa, swapped ? __builtin_bswap64(leaf.raw) : leaf.raw,
                                        swapped ? __builtin_bswap64(clean) : clean);
        }
        const u64 end = at | below(span);
        if (end >= last) return;
        at = end + 1;
    }
}

// The stage that tracks what devices wrote: stage 2 where there is one.
inline std::vector<u8> read_dirty(const Memory& memory, const Context& context, u64 start, u64 last, unsigned page_lg2,
                                  bool clear) {
    Overlay overlay;
    View view = memory.view(), untouched = memory.view(&overlay);
    DirtyBitmap bitmap(start, last, page_lg2);
    const auto read = [&]<typename F>(const F& format) {
        if constexpr (!std::is_same_v<F, NoStage>)
            read_dirty_leaves(format, view, untouched, start, last, clear, bitmap);
    };
    if (context.stage2().index())
        std::visit(read, context.stage2());
    else
        std::visit(read, context.stage1());
    return bitmap.take();
}

}  // namespace viommu
