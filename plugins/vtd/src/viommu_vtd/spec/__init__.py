"""Bit layouts of VT-d, named and placed as the specification prints them (revision 4.1).

Printed positions are within quadwords: bit n of quadword q is bit 64q + n here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu_vtd.spec.commands import COMMANDS, WIDE
from viommu_vtd.spec.faults import FRCD, FRCD_HI, FRCD_LO, FSTS
from viommu_vtd.spec.interrupts import IRTE
from viommu_vtd.spec.page_requests import PageRequestDescriptor
from viommu_vtd.spec.pasid import PasidDirectoryEntry, PasidTableEntry
from viommu_vtd.spec.queue_registers import (
    CCMD,
    ICS,
    IOTLB,
    IQA,
    IQERCD,
    IQH,
    IQT,
    IVA,
    PQA,
    PQH,
    PQT,
    PRS,
    EventAddress,
    EventControl,
    EventData,
    EventUpperAddress,
)
from viommu_vtd.spec.registers import (
    CAP,
    ECAP,
    GCMD,
    GSTS,
    IRTA,
    PHMBASE,
    PHMLIMIT,
    PLMBASE,
    PLMLIMIT,
    PMEN,
    RTADDR,
    VER,
)
from viommu_vtd.spec.root_context import ContextEntry, RootEntry, ScalableContextEntry, ScalableRootEntry

if TYPE_CHECKING:
    from viommu.layout import Descriptor

__all__ = ["EVENT_REGISTERS", "LAYOUTS", "REGISTERS"]

REGISTERS: dict[str, type[Descriptor]] = {
    layout.__name__: layout
    for layout in (
        VER, CAP, ECAP, GCMD, GSTS, RTADDR, CCMD, FSTS, PMEN, PLMBASE, PLMLIMIT, PHMBASE, PHMLIMIT, IQH, IQT, IQA, ICS,
        IQERCD, IRTA, PQH, PQT, PQA, PRS, IVA, IOTLB, FRCD_LO, FRCD_HI,
    )
}  # fmt: skip
"""Layouts of registers, by name."""

EVENT_REGISTERS: dict[str, type[Descriptor]] = {
    f"{event}{suffix}": layout
    for event in ("FE", "IE", "PE")
    for suffix, layout in (
        ("CTL", EventControl),
        ("DATA", EventData),
        ("ADDR", EventAddress),
        ("UADDR", EventUpperAddress),
    )
}
"""Layouts of the registers of the three interrupts: fault, invalidation and page-request events."""

_STRUCTURES: tuple[type[Descriptor], ...] = (
    RootEntry,
    ScalableRootEntry,
    ContextEntry,
    ScalableContextEntry,
    PasidDirectoryEntry,
    PasidTableEntry,
    IRTE,
    FRCD,
    PageRequestDescriptor,
    *COMMANDS.values(),
    *WIDE.values(),
)

LAYOUTS: dict[str, type[Descriptor]] = {
    **{layout.__name__: layout for layout in _STRUCTURES},
    **REGISTERS,
    **EVENT_REGISTERS,
}
"""Every layout by its name, for `viommu_layouts`."""
