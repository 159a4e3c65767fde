// The order in which the ways of a set were used (or came), the youngest first, kept in six bits beside each way.
//
// All zeros are an order too (way 0 youngest), so that fresh memory needs no preparation.
#pragma once

#include <array>

#include "viommu/types.hpp"

namespace viommu {

class WayOrder {
public:
    static constexpr unsigned shift = 58;  // in a set's values
    static constexpr u64 mask = ~below(shift);

    // Four ways, the usual number, need one step: the order is a number in the first way's bits, and a table says how
    // they change.
    [[gnu::always_inline]] static void move_to_front(u64* values, unsigned ways, unsigned way) {
        if (ways == 4) [[likely]]
            values[0] ^= four.change[values[0] >> shift][way];
        else
            move_rank_to_front(values, ways, way);
    }
    // The oldest of four ways becomes the youngest, with another value (that says nothing of the order). Gives which it
    // is.
    [[gnu::always_inline]] static unsigned replace_oldest_of_four(u64* values, u64 value) {
        const u64 order = values[0] >> shift;
        const unsigned way = four.oldest[order];
        values[way] = value;
        values[0] = (values[0] & ~mask) | u64{four.renewed[order]} << shift;
        return way;
    }
    static unsigned oldest(const u64* values, unsigned ways) {
        if (ways == 4) return four.oldest[values[0] >> shift];
        unsigned way = 0;
        while (rank(values, way) != ways - 1) ++way;
        return way;
    }

private:
    // Any number of ways: each has its rank, kept as what it differs from the way's number in.
    static unsigned rank(const u64* values, unsigned way) { return static_cast<unsigned>(values[way] >> shift) ^ way; }
    static void move_rank_to_front(u64* values, unsigned ways, unsigned way) {
        const unsigned old = rank(values, way);
        for (unsigned other = 0; other < ways; ++other) {
            const unsigned at = rank(values, other);
            if (at < old) values[other] ^= u64{at ^ (at + 1)} << shift;
        }
        values[way] ^= u64{old} << shift;
    }

    struct Four {
        std::array<std::array<u64, 4>, 64> change{};  // by order, and by the way that moves to the front
        std::array<u8, 64> oldest{}, renewed{};  // renewed: what an order becomes when the oldest moves to the front
    };
    static constexpr Four numbered_orders() {
        std::array<std::array<u8, 4>, 24> orders{};
        unsigned count = 0;
        for (u8 a = 0; a < 4; ++a)
            for (u8 b = 0; b < 4; ++b)
                for (u8 c = 0; c < 4; ++c)
                    for (u8 d = 0; d < 4; ++d)
                        if ((1 << a | 1 << b | 1 << c | 1 << d) == 15) orders[count++] = {a, b, c, d};
        Four four;
        for (unsigned order = 0; order < count; ++order) {
            four.oldest[order] = orders[order][3];
            for (u8 way = 0; way < 4; ++way) {
                std::array<u8, 4> moved{way};
                for (unsigned from = 0, to = 1; from < 4; ++from)
                    if (orders[order][from] != way) moved[to++] = orders[order][from];
                for (unsigned other = 0; other < count; ++other)
                    if (orders[other] == moved) four.change[order][way] = u64{order ^ other} << shift;
            }
            four.renewed[order] = static_cast<u8>(order ^ four.change[order][orders[order][3]] >> shift);
        }
        return four;
    }
    static const Four four;
};

inline constexpr WayOrder::Four WayOrder::four = WayOrder::numbered_orders();

}  // namespace viommu
