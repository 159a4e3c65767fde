// Numbers that a command holds: fields of an entry, put together and changed as a description says.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "viommu/types.hpp"

namespace viommu::commands {

inline constexpr std::size_t most_bytes = 64;  // of one entry
inline constexpr std::size_t most_words = most_bytes / 8;

using Words = std::array<u64, most_words>;

// One stretch of bits: `width` of them from bit `low` of the entry on, as bits `position` and up of the number.
struct Piece {
    unsigned low, width, position;
};

// How the bits become the number, in this order: bits above `sign_bit` take its value, `keep` masks, `flip` flips, and
// `plus` is added. Without pieces it is the constant `plus`.
struct Changes {
    unsigned sign_bit = 63;
    u64 keep = ~u64{0}, flip = 0, plus = 0;
};

class Number {
public:
    static constexpr std::size_t most_pieces = 4;

    Number() = default;
    explicit Number(u64 constant) : plus_(constant) {}
    // Throws std::invalid_argument where a piece leaves the entry or the number.
    Number(const std::vector<Piece>& pieces, const Changes& changes, std::size_t entry_bytes) : plus_(changes.plus) {
        if (changes.sign_bit > 63) throw std::invalid_argument("a number has no bit above 63 to be its sign");
        if (pieces.size() > most_pieces) throw std::invalid_argument("a number is in at most 4 pieces");
        for (const Piece& piece : pieces) {
            if (!piece.width || piece.width > 64 || piece.low >= entry_bytes * 8 ||
                piece.low + piece.width > entry_bytes * 8 || piece.position > 63)
                throw std::invalid_argument("a piece of a number lies outside the entry, or outside the number");
            cut(piece);
        }
        if (pieces.empty()) return;
        sign_shift_ = static_cast<u8>(63 - changes.sign_bit);
        keep_ = changes.keep;
        flip_ = changes.flip;
    }

    // Most numbers are one stretch of one word: that is in line, and has no branches.
    [[gnu::always_inline]] u64 of(const Words& words) const {
        u64 value = cuts_[0].of(words);
        if (count_ > 1) [[unlikely]]
            value |= others(words);
        value = static_cast<u64>(static_cast<std::int64_t>(value << sign_shift_) >> sign_shift_);
        return ((value & keep_) ^ flip_) + plus_;
    }

    // Adds the bits of an entry that have a say in the number.
    void add_bits(Words& mask) const {
        for (unsigned i = 0; i < count_; ++i) mask[cuts_[i].word] |= cuts_[i].in_entry();
    }

    // That the number is `value`, as bits that an entry must have: adds to `mask` and `bits`. False, with nothing done,
    // where it cannot be said so.
    bool add_equality(u64 value, Words& mask, Words& bits) const {
        if (!count_ || sign_shift_ || keep_ != ~u64{0} || flip_ || plus_) return false;
        u64 reached = 0;
        Words taken = mask;
        for (unsigned i = 0; i < count_; ++i) {
            if (taken[cuts_[i].word] & cuts_[i].in_entry()) return false;
            taken[cuts_[i].word] |= cuts_[i].in_entry();
            reached |= cuts_[i].mask;
        }
        if (value & ~reached) return false;
        for (unsigned i = 0; i < count_; ++i) {
            mask[cuts_[i].word] |= cuts_[i].in_entry();
            bits[cuts_[i].word] |= std::rotl(value & cuts_[i].mask, cuts_[i].turn);
        }
        return true;
    }

private:
    // A stretch of one word: turned right by `turn`, it lies where the number has it, under `mask`.
    struct Cut {
        u64 mask = 0;
        u8 word = 0, turn = 0;

        u64 of(const Words& words) const { return std::rotr(words[word], turn) & mask; }
        u64 in_entry() const { return std::rotl(mask, turn); }
    };

    // A piece that runs over the end of a word is two; what would come to lie above bit 63 is lost.
    void cut(Piece piece) {
        while (piece.width && piece.position < 64) {
            const unsigned offset = piece.low % 64, width = std::min(piece.width, 64 - offset);
            cuts_[count_++] = {below(width) << piece.position, static_cast<u8>(piece.low / 64),
                               static_cast<u8>((offset - piece.position) % 64)};
            piece = {piece.low + width, piece.width - width, piece.position + width};
        }
    }
    [[gnu::noinline, gnu::pure]] u64 others(const Words& words) const {
        u64 value = 0;
        for (unsigned i = 1; i < count_; ++i) value |= cuts_[i].of(words);
        return value;
    }

    std::array<Cut, 2 * most_pieces> cuts_{};
    u8 count_ = 0;
    u8 sign_shift_ = 0;
    u64 keep_ = ~u64{0}, flip_ = 0, plus_ = 0;
};

struct Range {
    u64 start, last;  // bytes
    bool operator==(const Range&) const = default;
};

// 2^`lg2` bytes around an address; all there are from 64 on.
constexpr Range block_around(u64 address, u64 lg2) {
    const u64 inside = below(static_cast<unsigned>(lg2 > 64 ? 64 : lg2));
    return {address & ~inside, address | inside};
}

// The range of inputs that an invalidation names.
struct Extent {
    enum class Kind : u8 {
        block,    // 2^`size` bytes around the address
        sized,    // 2^`unit` bytes; with `size` set, twice the lowest zero bit of the address from bit `unit` on
        counted,  // (`count` + 1) << (`size` + `unit`) bytes, from the address with its bits below `unit` clear
    };
    Kind kind = Kind::block;
    Number address, size, unit, count;

    Range of(const Words& words) const {
        const u64 at = address.of(words);
        if (kind == Kind::block) return block_around(at, size.of(words));
        return kind == Kind::sized ? sized_at(at, words) : counted_from(at, words);
    }

private:
    Range sized_at(u64 at, const Words& words) const {
        const u64 lg2 = unit.of(words);
        if (!size.of(words) || lg2 > 63) return block_around(at, lg2);
        const u64 filled = at | below(static_cast<unsigned>(lg2));
        const unsigned lowest_zero = static_cast<unsigned>(std::countr_one(filled));
        return block_around(at, lowest_zero + 1);
    }
    Range counted_from(u64 at, const Words& words) const {
        const u64 lg2 = unit.of(words), scale = size.of(words), blocks = count.of(words) + 1;
        if (lg2 > 63) return {0, ~u64{0}};
        const u64 start = at >> lg2 << lg2;
        const bool endless = scale > 63 || lg2 + scale > 63 || !blocks || blocks > (~u64{0} >> (lg2 + scale));
        const u64 last = endless ? ~u64{0} : start + ((blocks << (lg2 + scale)) - 1);
        return {start, last < start ? ~u64{0} : last};
    }
};

}  // namespace viommu::commands
