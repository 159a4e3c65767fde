// Numbers that a command holds: fields of an entry, put together and changed as a description says.
#pragma once

#include <array>
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
    Number(const std::vector<Piece>& pieces, const Changes& changes, std::size_t entry_bytes)
        : sign_shift_(static_cast<u8>(63 - changes.sign_bit)),
          keep_(changes.keep),
          flip_(changes.flip),
          plus_(changes.plus) {
        if (changes.sign_bit > 63) throw std::invalid_argument("a number has no bit above 63 to be its sign");
        if (pieces.size() > most_pieces) throw std::invalid_argument("a number is in at most 4 pieces");
        for (const Piece& piece : pieces) {
            if (!piece.width || piece.width > 64 || piece.low >= entry_bytes * 8 ||
                piece.low + piece.width > entry_bytes * 8 || piece.position > 63)
                throw std::invalid_argument("a piece of a number lies outside the entry, or outside the number");
            pieces_[count_++] = {below(piece.width), static_cast<u8>(piece.low / 64), static_cast<u8>(piece.low % 64),
                                 static_cast<u8>(piece.position), piece.low % 64 + piece.width > 64};
        }
        simple_ = !count_ || (count_ == 1 && !pieces_[0].straddles && !sign_shift_ && keep_ == ~u64{0} && !flip_);
    }

    // Most numbers are one field as it is: that is in line.
    [[gnu::always_inline]] u64 of(const Words& words) const {
        const u64 value = pieces_[0].simple(words);
        return (simple_ ? value : changed(words)) + plus_;
    }

    // That the number is `value`, as bits that an entry must have: adds to `mask` and `bits`. False, with nothing done,
    // where it cannot be said so.
    bool add_equality(u64 value, Words& mask, Words& bits) const {
        if (!count_ || sign_shift_ || keep_ != ~u64{0} || flip_ || plus_) return false;
        u64 reached = 0;
        for (unsigned i = 0; i < count_; ++i) {
            const Cut& piece = pieces_[i];
            if (piece.straddles || (mask[piece.word] & piece.mask << piece.offset)) return false;
            reached |= piece.mask << piece.position;
        }
        if (value & ~reached) return false;
        for (unsigned i = 0; i < count_; ++i) {
            const Cut& piece = pieces_[i];
            mask[piece.word] |= piece.mask << piece.offset;
            bits[piece.word] |= (value >> piece.position & piece.mask) << piece.offset;
        }
        return true;
    }

private:
    struct Cut {
        u64 mask;
        u8 word, offset, position;
        bool straddles;

        u64 simple(const Words& words) const { return (words[word] >> offset & mask) << position; }
        u64 of(const Words& words) const {
            u64 bits = words[word] >> offset;
            if (straddles) bits |= words[word + 1] << (64 - offset);
            return (bits & mask) << position;
        }
    };

    [[gnu::noinline]] u64 changed(const Words& words) const {
        u64 value = 0;
        for (unsigned i = 0; i < count_; ++i) value |= pieces_[i].of(words);
        if (sign_shift_) value = static_cast<u64>(static_cast<std::int64_t>(value << sign_shift_) >> sign_shift_);
        return (value & keep_) ^ flip_;
    }

    std::array<Cut, most_pieces> pieces_{};
    u8 count_ = 0;
    u8 sign_shift_ = 0;
    bool simple_ = true;  // nothing but `plus_` is to be done to the first piece
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
