"""Legacy mode: root entry, context entry (VT-d 3.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.faults import Refusal
from viommu_vtd.hardware.search import Reasons
from viommu_vtd.spec.faults import FaultReason
from viommu_vtd.spec.root_context import ContextEntry, RootEntry
from viommu_vtd.translate import Invalid, context_of

if TYPE_CHECKING:
    from viommu.formats import Context
    from viommu_vtd.hardware.search import Search

ROOT = Reasons(FaultReason.ROOT_ACCESS, FaultReason.ROOT_NOT_PRESENT, FaultReason.ROOT_RESERVED)
CONTEXT = Reasons(FaultReason.CONTEXT_ACCESS, FaultReason.CONTEXT_NOT_PRESENT, FaultReason.CONTEXT_RESERVED)


def configure(search: Search, requester: int, pasid: int | None) -> Context | Refusal:
    """What governs a requester in legacy mode, which knows no PASIDs."""
    if pasid is not None:
        return search.refuse(FaultReason.PASID_IN_LEGACY_MODE, "a request with PASID in legacy mode")
    entry = context_entry(search, requester)
    if isinstance(entry, Refusal):
        return entry
    context = context_of(entry, search.unit, silenced=search.silenced)
    if isinstance(context, Invalid):
        return search.refuse(FaultReason.CONTEXT_INVALID, context.why)
    return context


def context_entry(search: Search, requester: int) -> ContextEntry | Refusal:
    """Find the context entry of a requester."""
    bus, devfn = requester >> 8, requester & 0xFF
    root = search.entry(RootEntry, search.unit.root.RTA + bus * RootEntry.size, ROOT)
    if isinstance(root, Refusal):
        return root
    return search.entry(ContextEntry, root.CTP + devfn * ContextEntry.size, CONTEXT)
