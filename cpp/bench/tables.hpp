// Guest memory and page tables of many pages, made quickly: by plain index arithmetic, and without the engine's help.
#pragma once

#include <stdexcept>

#include "../tests/tables.hpp"
#include "huge.hpp"

namespace viommu::bench {

using test::Layout;

inline constexpr u64 ram_start = u64{1} << 40;
// Ranges begin at multiples of what one entry of the top level covers (and no two in one).
inline constexpr u64 range = u64{1} << 39;
inline constexpr u64 ipa_start = 2 * range;      // where pages lie in a guest's memory
inline constexpr u64 data_start = u64{1} << 43;  // where pages lie; nobody reads them

class TableRam {
public:
    explicit TableRam(std::size_t pages) : words_(pages * 512) {
        const u64 size = words_.size() * 8;
        memory->add(
            {ram_start, ram_start + size - 1, reinterpret_cast<std::byte*>(words_.data()), true, nullptr, nullptr});
    }
    TableRam(const TableRam&) = delete;

    u64 take(std::size_t pages, std::size_t aligned_to = 1) {
        const u64 alignment = aligned_to * 4096, at = (next_ + alignment - 1) / alignment * alignment;
        next_ = at + pages * 4096;
        if (next_ > ram_start + words_.size() * 8)
            throw std::logic_error("the benchmark's tables outgrow their memory");
        return at;
    }
    u64& operator[](u64 pa) { return words_[(pa - ram_start) / 8]; }
    const u64* words() const { return words_.data(); }
    u64 size() const { return words_.size() * 8; }

    std::shared_ptr<Memory> memory = std::make_shared<Memory>();

private:
    HugeVector<u64> words_;
    u64 next_ = ram_start;
};

// Four levels of 4 KiB. Tables behind a stage 2 have addresses of their own: where they lie plus `shift`.
class ManyPages {
public:
    ManyPages(TableRam& ram, const Layout& layout, u64 shift = 0, std::size_t pages_of_root = 1)
        : ram_(ram), layout_(layout), shift_(shift), root_(ram.take(pages_of_root, pages_of_root)) {}

    // Tables that `map` makes for so many pages.
    static std::size_t tables_for(std::size_t pages) {
        std::size_t sum = 0;
        for (unsigned level = 0; level < 3; ++level) sum += pages = (pages + 511) / 512;
        return sum;
    }

    u64 root() const { return root_ + shift_; }
    void map(u64 first, u64 to, std::size_t pages) {
        u64 tables = fill(pages, [&](std::size_t i) { return layout_.leaf_entry(to + i * 4096, 0); });
        for (unsigned level = 1; level < 3; ++level) {
            pages = (pages + 511) / 512;
            tables = fill(pages, [&](std::size_t i) { return layout_.table_entry(tables + shift_ + i * 4096, level); });
        }
        ram_[root_ + (first >> 39) * 8] = layout_.table_entry(tables + shift_, 3);
    }

private:
    template <typename Entry> u64 fill(std::size_t entries, Entry&& entry) {
        const u64 at = ram_.take((entries + 511) / 512);
        for (std::size_t i = 0; i < entries; ++i) ram_[at + i * 8] = entry(i);
        return at;
    }

    TableRam& ram_;
    Layout layout_;
    u64 shift_, root_;
};

}  // namespace viommu::bench
