"""Scalable mode: root entry, context entry, PASID directory entry, PASID table entry (VT-d 3.4.3, 3.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.faults import Refusal
from viommu_vtd.hardware.search import Reasons
from viommu_vtd.spec.faults import FaultReason
from viommu_vtd.spec.pasid import DIRECTORY_BITS, TABLE_BITS, PasidDirectoryEntry, PasidTableEntry
from viommu_vtd.spec.root_context import ScalableContextEntry, ScalableRootEntry
from viommu_vtd.translate import Invalid, Request, pasid_context_of

if TYPE_CHECKING:
    from viommu.formats import Context
    from viommu_vtd.hardware.search import Search

ROOT = Reasons(FaultReason.SM_ROOT_ACCESS, FaultReason.SM_ROOT_NOT_PRESENT, FaultReason.SM_ROOT_RESERVED)
CONTEXT = Reasons(FaultReason.SM_CONTEXT_ACCESS, FaultReason.SM_CONTEXT_NOT_PRESENT, FaultReason.SM_CONTEXT_RESERVED)
DIRECTORY = Reasons(
    FaultReason.PASID_DIRECTORY_ACCESS,
    FaultReason.PASID_DIRECTORY_NOT_PRESENT,
    FaultReason.PASID_DIRECTORY_RESERVED,
)
TABLE = Reasons(FaultReason.PASID_TABLE_ACCESS, FaultReason.PASID_ENTRY_NOT_PRESENT, FaultReason.PASID_ENTRY_RESERVED)

HALF = (1 << 64) - 1


def configure(search: Search, requester: int, pasid: int | None) -> Context | Refusal:
    """What governs a requester, or one of its PASIDs, in scalable mode."""
    entry = context_entry(search, requester)
    if isinstance(entry, Refusal):
        return entry
    number = pasid_number(search, entry, pasid)
    if isinstance(number, Refusal):
        return number
    # A request without PASID cannot say that it is privileged: its context entry does.
    return _pasid_context(search, entry.PASIDDIRPTR, number, privileged=bool(entry.RID_PRIV) if pasid is None else None)


def context_entry(search: Search, requester: int) -> ScalableContextEntry | Refusal:
    """Find the context entry of a requester.

    Each half of a root entry stands for itself, so only the half of this device's functions is checked.
    """
    bus, devfn = requester >> 8, requester & 0xFF
    present, half = ("UP", HALF << 64) if devfn & 0x80 else ("LP", HALF)
    address = search.unit.root.RTA + bus * ScalableRootEntry.size
    root = search.entry(ScalableRootEntry, address, ROOT, present=present, half=half)
    if isinstance(root, Refusal):
        return root
    table = root.UCTP if devfn & 0x80 else root.LCTP
    return search.entry(ScalableContextEntry, table + (devfn & 0x7F) * ScalableContextEntry.size, CONTEXT)


def pasid_number(search: Search, entry: ScalableContextEntry, pasid: int | None) -> int | Refusal:
    """The PASID that a request has or is given. PASIDE does not matter to requests without one."""
    if pasid is None:
        # Without ECAP.RPS the field is reserved, so it is 0 here.
        number, name, too_large = entry.RID_PASID, "RID_PASID", FaultReason.RID_PASID_INVALID
        search.log.note(f"a request without PASID takes RID_PASID {number:#x}")
    elif entry.PASIDE:
        number, name, too_large = pasid, "PASID", FaultReason.PASID_TOO_LARGE
    else:
        return search.refuse(FaultReason.PASID_DISABLED, "a request with PASID, PASIDE is 0")
    beyond = 1 << entry.PDTS + DIRECTORY_BITS + TABLE_BITS
    if number >= beyond:
        return search.refuse(too_large, f"{name} {number:#x}, but PDTS ends the directory at {beyond:#x}")
    return number


def _pasid_context(search: Search, directory: int, pasid: int, *, privileged: bool | None) -> Context | Refusal:
    index, offset = pasid >> TABLE_BITS, pasid & (1 << TABLE_BITS) - 1
    table = search.entry(PasidDirectoryEntry, directory + index * PasidDirectoryEntry.size, DIRECTORY)
    if isinstance(table, Refusal):
        return table
    entry = search.entry(PasidTableEntry, table.SMPTBLPTR + offset * PasidTableEntry.size, TABLE)
    if isinstance(entry, Refusal):
        return entry
    context = pasid_context_of(entry, Request(pasid, privileged, search.silenced), search.unit)
    if isinstance(context, Invalid):
        return search.refuse(FaultReason.PASID_ENTRY_INVALID, context.why)
    return context
