// Rows of one context that hit.
#pragma once

#include <cstring>

#include "viommu/context.hpp"
#include "viommu/iotlb_sets.hpp"
#include "viommu/rows.hpp"

namespace viommu {

// Looks rows up through a window, in order, as long as they hit. What is the same for many rows is looked at once:
// which bits their addresses have, and what their leaves have in common.
class RowHits {
public:
    static constexpr unsigned most = GroupRows::most;

    // `first` is the row that is numbered 0 here.
    RowHits(const IotlbSets::Window& window, const Context& context, const Rows& rows, Columns& out, std::size_t first)
        : window_(window),
          context_(context),
          iovas_(rows.iova + first),
          accesses_(rows.access + first),
          pa_(out.pa + first),
          kind_(out.kind + first),
          page_lg2_(out.page_lg2 + first),
          rights_out_(out.rights + first),
          granted_(Rights::both(context.settings().rights).packed()) {}

    // Gives the first row from `from` on, before `end`, that does not hit. `sets`: where the window looks first for
    // each.
    unsigned answer(u64** sets, unsigned from, unsigned end) {
        unsigned row = from;
        if (find_sets(sets, from, end)) row = hits_of_first_probe(sets, from, end);
        if (row < end) row = hits_of_any_probe(sets, row, end);
        tell(from, row);
        return row;
    }

private:
    // Fetches the rows' sets. False: some address or access is none that the first probe has.
    [[gnu::noinline]] bool find_sets(u64** sets, unsigned from, unsigned end) const {
        const u64* const iovas = iovas_;
        const IotlbSets::Window::Hash hash = window_.hash();
        const u64 uncached = context_.uncached_bits(), fixed = window_.fixed();
        u64 differ = fixed & uncached;
        for (unsigned row = from; row < end; ++row) {
            differ |= iovas[row] ^ fixed;
            sets[row] = hash.set_of(iovas[row]);
        }
        u8 accesses = 0;
        for (unsigned row = from; row < end; ++row) accesses |= accesses_[row];
        window_.fetch(sets, iovas, from, end);
        return !(differ & (uncached | window_.beyond_bits())) && accesses < 16;
    }
    unsigned hits_of_first_probe(u64* const* sets, unsigned from, unsigned end) {
        const unsigned lg2 = window_.first_probe().lg2;
        IotlbSets::Window::Common common;
        unsigned serves = 0, row = from;
        u8 rights = 0;
        for (;;) {
            const unsigned first = row;
            row = hits_alike(common, serves, sets, row, end);
            std::memset(rights_ + first, rights, row - first);
            const u64* const value = row < end ? window_.value_at(iovas_[row], sets[row]) : nullptr;
            if (!value || common.covers(*value)) break;
            const LeafFacts& facts = window_.facts_of_slot(*value);
            common = window_.common_of(*value);
            serves = facts.serves & context_.allowed();
            rights = facts.rights.packed() & granted_;
        }
        std::memset(page_lg2_ + from, static_cast<int>(lg2), row - from);
        return row;
    }
    // As long as slots carry the same facts, too. One that does not, or does not serve, has been used all the same.
    [[gnu::noinline]] unsigned hits_alike(IotlbSets::Window::Common common, unsigned serves, u64* const* sets,
                                          unsigned from, unsigned end) const {
        const u64* const iovas = iovas_;
        const u8* const accesses = accesses_;
        u64* const pa = pa_;
        const IotlbSets::Window::FirstProbe probe = window_.first_probe();
        const u64 offset = below(probe.lg2);
        std::size_t row = from;
        for (; row < end; ++row) {
            const u64 iova = iovas[row];
            u64* const set = sets[row];
            const unsigned ways = probe.ways(iova, set);
            if (!ways) break;
            const u64 value = IotlbSets::Window::use(set, ways);
            if (!common.covers(value)) break;
            if (!(serves >> accesses[row] & 1)) break;
            pa[row] = common.frame(value, probe.lg2) | (iova & offset);
        }
        return static_cast<unsigned>(row);
    }
    [[gnu::noinline]] unsigned hits_of_any_probe(u64* const* sets, unsigned from, unsigned end) {
        unsigned row = from;
        for (; row < end; ++row) {
            const u64 iova = iovas_[row];
            const unsigned access = accesses_[row];
            u64 frame;
            unsigned lg2;
            if (iova & context_.uncached_bits() || access > 15) break;
            const LeafFacts* const facts = window_.find(iova, sets[row], access, context_.allowed(), frame, lg2);
            if (!facts) break;
            pa_[row] = frame | (iova & below(lg2));
            page_lg2_[row] = static_cast<u8>(lg2);
            rights_[row] = facts->rights.packed() & granted_;
        }
        return row;
    }
    void tell(unsigned from, unsigned until) const {
        u8 granted[most];
        for (unsigned row = from; row < until; ++row)
            granted[row] = Rights::of_packed(rights_[row]).granted(accesses_[row]);
        std::memcpy(rights_out_ + from, granted + from, until - from);
        std::memset(kind_ + from, 0, until - from);
    }

    const IotlbSets::Window& window_;
    const Context& context_;
    const u64* const iovas_;
    const u8* const accesses_;
    u64* const pa_;
    u8 *const kind_, *const page_lg2_, *const rights_out_;
    const u8 granted_;
    u8 rights_[most];  // of both privileges
};

}  // namespace viommu
