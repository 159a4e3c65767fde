"""Which command would have been enough, for a cached entry that was used after it went stale (AMD 48882, 2.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from viommu.stale import StaleUse

PAGE_SIZE = 4096


def cure(use: StaleUse) -> str:
    """Name the narrowest sufficient command, before the COMPLETION_WAIT that tells of it."""
    match use.cache:
        case "device TLB":
            guest = "" if use.pasid is None else f" GN=1 PASID={use.pasid:#x}"
            return f"INVALIDATE_IOTLB_PAGES DeviceID={use.requester:#x}{guest} {_range(use)}"
        case "context cache":
            return f"INVALIDATE_DEVTAB_ENTRY DeviceID={use.requester:#x}"
    directories = int(use.cache == "walk cache" or (use.cause is not None and use.cause.level > 0))
    guest = "GN=0" if use.stage1_tag is None else f"GN=1 PASID={use.stage1_tag:#x}"
    return f"INVALIDATE_IOMMU_PAGES DomainID={use.stage2_tag:#x} {guest} PDE={directories} {_range(use)}"


def _range(use: StaleUse) -> str:
    """Address and S: the lowest clear address bit tells the size."""
    size = max(use.page_size, PAGE_SIZE)
    start = use.iova & -size
    encoded = start | (size - 1 >> 1 & -PAGE_SIZE)
    return f"Address={encoded:#x} S={int(size > PAGE_SIZE)}"
