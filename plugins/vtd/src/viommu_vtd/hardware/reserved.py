"""Which bits must be zero: those that are printed so, and those whose capability the hardware lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu_vtd.spec.pasid import PasidDirectoryEntry, PasidTableEntry
from viommu_vtd.spec.root_context import ContextEntry, RootEntry, ScalableContextEntry, ScalableRootEntry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.layout import Descriptor
    from viommu_vtd.spec.registers import ECAP

POINTERS: Mapping[type[Descriptor], tuple[str, ...]] = {
    RootEntry: ("CTP",),
    ScalableRootEntry: ("LCTP", "UCTP"),
    ContextEntry: ("SSPTPTR",),
    ScalableContextEntry: ("PASIDDIRPTR",),
    PasidDirectoryEntry: ("SMPTBLPTR",),
    PasidTableEntry: ("SSPTPTR", "FSPTPTR"),
}
"""Fields that hold addresses: their bits at or above the host address width are reserved."""

NEEDS: Mapping[type[Descriptor], Mapping[str, str]] = {
    ScalableContextEntry: {"DTE": "DT", "PASIDE": "PASID", "PRE": "PRS", "RID_PASID": "RPS", "RID_PRIV": "RPRIVS"},
    PasidTableEntry: {
        "SSADE": "SSADS",
        "PWSNP": "SMPWCS",
        "PGSNP": "SC",
        "CD": "MTS",
        "EMTE": "MTS",
        "PAT": "MTS",
        "SRE": "SRS",
        "EAFE": "EAFS",
    },
}
"""Fields that are reserved unless ECAP has a capability."""


def reserved_masks(ecap: ECAP, host_address_width: int) -> dict[type[Descriptor], int]:
    """The bits that must be zero in each present structure."""
    return {layout: _mask(layout, ecap, host_address_width) for layout in POINTERS}


def _mask(layout: type[Descriptor], ecap: ECAP, host_address_width: int) -> int:
    mask = layout.reserved_mask
    for name in POINTERS[layout]:
        pointer = layout.fields[name]
        mask |= pointer.put(pointer.maximum >> host_address_width << host_address_width)
    for name, capability in NEEDS.get(layout, {}).items():
        if not getattr(ecap, capability):
            mask |= layout.fields[name].mask
    return mask
