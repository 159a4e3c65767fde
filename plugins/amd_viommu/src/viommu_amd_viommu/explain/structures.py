"""Device table entries, GCR3 entries and entries of the PPR and GA logs in words."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from viommu.hookspecs import Decoded
from viommu_amd_viommu.explain.wording import device, reserved, rights
from viommu_amd_viommu.spec.device_table import DTE
from viommu_amd_viommu.spec.gcr3 import GCR3Entry
from viommu_amd_viommu.spec.page_requests import LAST, PAGE_REQUEST, GALogEntry, PPRLogEntry

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOWER_HALF = (1 << 128) - 1


def device_entry(kind: str, raw: bytes) -> Decoded:
    """Explain a device table entry."""
    entry = DTE.decode(raw)
    return Decoded(kind, "DTE", entry, _device_entry(entry), tuple(_complaints(entry)))


def _device_entry(entry: DTE) -> str:
    if not entry.V:
        return "The entry is not valid: the device's DMA passes untranslated."
    if not entry.TV:
        return f"The device's DMA is blocked (DomainID {entry.DomainID:#x})."
    stages = []
    if entry.GV:
        pasid = ", PASID 0 for requests without one" if entry.GIOV else ""
        stages.append(f"guest tables found by {entry.GLX + 1}-level GCR3 tables at {entry.GCR3:#x}{pasid}")
    if entry.Mode:
        stages.append(f"{entry.Mode}-level host tables at {entry.HostPageTableRoot:#x}")
    how = f"is translated by {' over '.join(stages)}" if stages else "passes untranslated"
    granted = rights(read=entry.IR, write=entry.IW)
    return f"The device's DMA {how}, in DomainID {entry.DomainID:#x}, with {granted} allowed."


def _complaints(entry: DTE) -> Iterator[str]:
    """IV tells whether the upper half means anything, V whether the lower one does."""
    if not entry.V:
        return
    yield from reserved(entry, entry.reserved_mask if entry.IV else entry.reserved_mask & _LOWER_HALF)
    if entry.Mode == 7:
        yield "Mode 7 is reserved"
    if entry.GV and entry.GLX == 3:
        yield "GLX 3 is reserved"
    for name in ("HAD", "GuestPagingMode") if entry.GV or entry.Mode else ():
        if not isinstance(getattr(entry, name), IntEnum):
            yield f"{name} {getattr(entry, name)} is reserved"
    if entry.IV and not isinstance(entry.IntCtl, IntEnum):
        yield f"IntCtl {entry.IntCtl} is reserved"
    if not isinstance(entry.IoCtl, IntEnum):
        yield f"IoCtl {entry.IoCtl} is reserved"


def gcr3_entry(kind: str, raw: bytes) -> Decoded:
    """Explain an entry of a GCR3 table."""
    entry = GCR3Entry.decode(raw)
    meaning = (
        f"Leads to {entry.Address:#x}: the next GCR3 table or, at the last level, the root of guest tables."
        if entry.V
        else "Not valid: the PASIDs behind it have no guest tables."
    )
    return Decoded(kind, "GCR3Entry", entry, meaning)


def page_request(kind: str, raw: bytes) -> Decoded:
    """Explain an entry of the PPR log."""
    entry = PPRLogEntry.decode(raw)
    wants = [name for name, wanted in (("read", entry.READ), ("write", entry.WRITE), ("execute", entry.EXEC)) if wanted]
    pasid = f", PASID {entry.PASID:#x}" if entry.GN else ""
    last = "the last of" if entry.Tag & LAST else "one of"
    meaning = (
        f"{device(entry.DeviceID).capitalize()}{pasid} asks for the page of {entry.Address:#x}, to "
        f"{' and '.join(wants) or 'do nothing'}; {last} group {entry.Tag & LAST - 1:#x}."
    )
    unknown = () if entry.Type == PAGE_REQUEST else (f"Type {entry.Type} is no page request; {PAGE_REQUEST} is",)
    return Decoded(kind, "PPRLogEntry", entry, meaning, (*reserved(entry), *unknown))


def guest_apic_entry(kind: str, raw: bytes) -> Decoded:
    """Explain an entry of the guest virtual APIC log."""
    entry = GALogEntry.decode(raw)
    meaning = f"An interrupt of {device(entry.DeviceID)} came for GATag {entry.GATag:#x}, whose vCPU was not running."
    return Decoded(kind, "GALogEntry", entry, meaning, reserved(entry))
