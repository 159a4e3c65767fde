"""Which command would have been enough, for a cached entry that was used after it went stale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.faults import Stage

from viommu_riscv.spec.command_meanings import HOST

if TYPE_CHECKING:
    from viommu.stale import StaleUse


def cure(use: StaleUse) -> str:
    """Name the narrowest sufficient command, before the IOFENCE.C that tells of it."""
    match use.cache:
        case "device TLB":
            process = "PV=0" if use.pasid is None else f"PV=1 PID={use.pasid:#x}"
            return f"ATS.INVAL RID={use.requester:#x} {process} address={use.iova & -max(use.page_size, 4096):#x}"
        case "context cache":
            if use.pasid is None:
                return f"IODIR.INVAL_DDT DV=1 DID={use.requester:#x}"
            return f"IODIR.INVAL_PDT DV=1 DID={use.requester:#x} PID={use.pasid:#x}, or IODIR.INVAL_DDT"
    guest = "GV=0" if use.stage2_tag == HOST else f"GV=1 GSCID={use.stage2_tag:#x}"
    if use.stage1_tag is None or (use.cause is not None and use.cause.stage in {Stage.STAGE2, Stage.FLAT}):
        where = f"AV=1 ADDR={use.iova & -4096:#x}" if use.stage1_tag is None else "AV=0"
        return f"IOTINVAL.GVMA {guest} {where}"
    space = "PSCV=0" if use.stage1_tag == "global" else f"PSCV=1 PSCID={use.stage1_tag:#x}"
    tables = " NL=1" if use.cache == "walk cache" or (use.cause is not None and use.cause.level > 0) else ""
    return f"IOTINVAL.VMA {guest} AV=1 {space}{tables} ADDR={use.iova & -4096:#x}"
