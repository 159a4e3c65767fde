// The columns of a batch: what is asked, and what is answered.
#pragma once

#include <vector>

#include "viommu/context_cache.hpp"

namespace viommu {

struct Rows {
    const u32* requester;
    const u32* pasid;  // null: no row has one
    const u64* iova;
    const u8* access;
    std::size_t size;

    ContextKey key(std::size_t row) const { return {requester[row], pasid ? pasid[row] : no_pasid}; }
};

// One refused row. It crosses to Python as bytes: no padding.
struct FaultRow {
    u64 row, iova, ipa, entry_address, entry_value;
    u8 kind, stage, level, fault_class, missing, rights, access, top, for_top, for_update;
    u8 unused[2];
    u32 driver_bits;

    static FaultRow of(u64 row, const Result& r) {
        return {row,
                r.iova,
                r.ipa,
                r.entry_address,
                r.entry_value,
                static_cast<u8>(r.kind),
                static_cast<u8>(r.stage),
                r.level,
                static_cast<u8>(r.fault_class),
                r.missing,
                r.rights.granted(r.access),
                r.access,
                r.top,
                r.for_top,
                r.for_update,
                {},
                r.driver_bits};
    }
};
static_assert(std::has_unique_object_representations_v<FaultRow>);

struct Columns {
    u64* pa;
    u8* kind;
    u8* page_lg2;
    u8* rights;
    std::vector<FaultRow> faults;

    void put(std::size_t row, u64 address, u8 lg2, u8 granted) {
        pa[row] = address;
        kind[row] = 0;
        page_lg2[row] = lg2;
        rights[row] = granted;
    }
    void put(std::size_t row, const Result& r) {
        pa[row] = r.ok() ? r.pa : 0;
        kind[row] = static_cast<u8>(r.kind);
        page_lg2[row] = r.ok() ? r.page_lg2 : 0;
        rights[row] = r.ok() ? r.rights.granted(r.access) : 0;
        if (!r.ok()) faults.push_back(FaultRow::of(row, r));
    }
};

}  // namespace viommu
