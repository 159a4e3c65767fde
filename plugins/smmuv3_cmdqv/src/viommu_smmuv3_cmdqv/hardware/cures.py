"""Which command would have been enough, for a cached entry that was used after it went stale (IHI 0070, 4.3 to 4.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.faults import Stage
from viommu.formats import Context

if TYPE_CHECKING:
    from viommu.stale import StaleUse

PAGE_SIZE = 4096
VMID_BITS = 16
"""What lies above the VMID in a stage-2 tag is the stream world (`viommu_smmuv3_cmdqv.worlds`)."""


def cure(use: StaleUse) -> str:
    """Name the narrowest sufficient commands, before the SYNC that completes them."""
    match use.cache:
        case "device TLB":
            return _atc(use)
        case "context cache":
            return _configuration(use)
    return _tlb(use)


def _tlb(use: StaleUse) -> str:
    world, vmid = divmod(use.stage2_tag, 1 << VMID_BITS)
    leaf = int(use.cache == "iotlb" and (use.cause is None or use.cause.level == 0))
    address = use.iova & -max(use.page_size, PAGE_SIZE)
    if use.stage1_tag is None:
        return f"TLBI_S2_IPA VMID={vmid} IPA={address:#x} Leaf={leaf}"
    if use.cause is not None and use.cause.stage is Stage.STAGE2:
        # Entries that combine both stages are known by the VA alone.
        return f"TLBI_S2_IPA VMID={vmid} of the IPA, then TLBI_NH_ALL VMID={vmid}"
    regime = "EL2" if world else "NH"
    vm = "" if world else f" VMID={vmid}"
    if use.stage1_tag == "global":
        return f"TLBI_{regime}_VAA{vm} VA={address:#x} Leaf={leaf}"
    return f"TLBI_{regime}_VA{vm} ASID={use.stage1_tag} VA={address:#x} Leaf={leaf}"


def _configuration(use: StaleUse) -> str:
    stream = f"SID={use.requester:#x}"
    cached, fresh = use.cached, use.fresh
    if isinstance(cached, Context) and isinstance(fresh, Context) and cached.stage1 and cached.stage2 == fresh.stage2:
        return f"CFGI_CD {stream} SSID={use.pasid or 0:#x} Leaf=1; where the STE changed, CFGI_STE {stream} Leaf=1"
    return f"CFGI_STE {stream} Leaf=1"


def _atc(use: StaleUse) -> str:
    pages = max(use.page_size, PAGE_SIZE) // PAGE_SIZE
    substream = "SSV=0" if use.pasid is None else f"SSV=1 SSID={use.pasid:#x}"
    address = use.iova & -(pages * PAGE_SIZE)
    return f"ATC_INV SID={use.requester:#x} {substream} Address={address:#x} Size={pages.bit_length() - 1}"
