"""Which invalidation would have been enough, for a cached entry that was used after it went stale (VT-d 6.5.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.faults import Stage
from viommu.formats import Context
from viommu_vtd.spec.registers import TranslationTableMode
from viommu_vtd.translate import PASID_SHIFT

if TYPE_CHECKING:
    from viommu.stale import StaleUse
    from viommu_vtd.hardware.capabilities import RemappingUnit

PAGE_LG2 = 12


def cure(use: StaleUse, unit: RemappingUnit) -> str:
    """Name the smallest sufficient descriptor, with its fields."""
    match use.cache:
        case "device TLB":
            return _device_tlb(use)
        case "context cache":
            return _context(use, unit)
    return _iotlb(use, unit)


def _iotlb(use: StaleUse, unit: RemappingUnit) -> str:
    mask = max(use.page_size.bit_length() - 1 - PAGE_LG2, 0)
    address = use.iova & -(1 << PAGE_LG2 + mask)
    domain = use.stage2_tag
    if use.stage1_tag is None:
        if unit.cap.PSI and mask <= unit.cap.MAMV:
            return f"IOTLB invalidate (type 2): G=3, DID={domain}, ADDR={address:#x}, AM={mask}"
        return f"IOTLB invalidate (type 2): G=2, DID={domain}"
    if use.cause is not None and use.cause.stage is Stage.STAGE2:
        return f"IOTLB invalidate (type 2): G=2, DID={domain}, and so for each DID that is nested on this second stage"
    return (
        f"PASID-based IOTLB invalidate (type 6): G=3, DID={domain}, PASID={use.stage1_tag:#x},"
        f" ADDR={address:#x}, AM={mask}"
    )


def _context(use: StaleUse, unit: RemappingUnit) -> str:
    context_cache = f"context-cache invalidate (type 1): G=3, SID={use.requester:#x}"
    cached = use.cached
    if unit.root.TTM == TranslationTableMode.LEGACY or not isinstance(cached, Context):
        return context_cache
    pasid = cached.driver_bits >> PASID_SHIFT
    pasid_cache = f"PASID-cache invalidate (type 7): G=1, DID={cached.stage2_tag}, PASID={pasid:#x}"
    return f"{pasid_cache}; where the context entry changed, {context_cache}"


def _device_tlb(use: StaleUse) -> str:
    size = max(use.page_size, 1 << PAGE_LG2)
    start = use.iova & -size
    address = start | size - 1 >> 1 & ~((1 << PAGE_LG2) - 1)
    sized = int(size > 1 << PAGE_LG2)
    fields = f"SID={use.requester:#x}, S={sized}, ADDR={address:#x}"
    if use.pasid is None:
        return f"device-TLB invalidate (type 3): {fields}"
    return f"PASID-based device-TLB invalidate (type 8): PASID={use.pasid:#x}, {fields}"
