"""Bit layouts of VT-d, named and placed as the specification prints them (revision 4.1).

Printed positions are within quadwords: bit n of quadword q is bit 64q + n here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu_vtd.spec.faults import FRCD
from viommu_vtd.spec.pasid import PasidDirectoryEntry, PasidTableEntry
from viommu_vtd.spec.registers import CAP, ECAP, GSTS, RTADDR
from viommu_vtd.spec.root_context import ContextEntry, RootEntry, ScalableContextEntry, ScalableRootEntry

if TYPE_CHECKING:
    from viommu.layout import Descriptor

__all__ = ["LAYOUTS"]

LAYOUTS: dict[str, type[Descriptor]] = {
    layout.__name__: layout
    for layout in (
        RootEntry,
        ScalableRootEntry,
        ContextEntry,
        ScalableContextEntry,
        PasidDirectoryEntry,
        PasidTableEntry,
        CAP,
        ECAP,
        GSTS,
        RTADDR,
        FRCD,
    )
}
"""Every layout by its name, for `viommu_layouts`."""
