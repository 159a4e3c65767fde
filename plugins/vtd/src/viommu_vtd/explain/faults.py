"""Fault records and page requests in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import Decoded
from viommu_vtd.explain.causes import REASONS
from viommu_vtd.explain.words import complaints, device, listed
from viommu_vtd.spec.faults import FRCD, AddressType, FaultReason
from viommu_vtd.spec.page_requests import PAGE_REQUEST, PageRequestDescriptor

if TYPE_CHECKING:
    from collections.abc import Mapping

INTERRUPTS = range(0x20, 0x30)
"""Reasons of interrupt remapping, whose records hold an index."""

INDEX_SHIFT = 48

KINDS: Mapping[tuple[int, int], str] = {
    (0, 0): "write", (0, 1): "page request", (1, 0): "read", (1, 1): "atomic operation",
}  # fmt: skip
"""By (T, T2)."""

WAYS: Mapping[int, str] = {
    AddressType.TRANSLATION_REQUEST: " (an ATS translation request)",
    AddressType.TRANSLATED: " (with an address that ATS gave)",
}


def decode_event(raw: bytes) -> Decoded:
    """Explain a fault recording register."""
    record = FRCD.decode(raw)
    told = list(complaints(record))
    if not record.F:
        told.append("F is 0: software has cleared this record, or hardware has not yet set it")
    known = isinstance(record.FR, FaultReason)
    what, causes = REASONS[FaultReason(record.FR)] if known else ("no reason that the specification names", ())
    name = FaultReason(record.FR).name if known else f"reason {record.FR:#x}"
    meaning = f"{_who(record)}: {what} ({record.FR:#x})."
    return Decoded("event", name, record, meaning, tuple(told), causes, aliases=(f"{record.FR:#x}",))


def _who(record: FRCD) -> str:
    if record.FR in INTERRUPTS:
        return f"An interrupt of {device(record.SID)}, index {record.FI >> INDEX_SHIFT:#x}, was refused"
    pasid = f", PASID {record.PASID:#x}" if record.PP else ""
    rights = [word for word, bit in (("privileged", record.PRIV), ("execute", record.EXE)) if bit]
    kind = " ".join([*rights, KINDS[record.T, record.T2]])
    article = "An" if kind[0] in "aeiou" else "A"
    return f"{article} {kind} of {device(record.SID)}{pasid} at {record.FI:#x}{WAYS.get(record.AT, '')} was refused"


def decode_page_request(raw: bytes) -> Decoded:
    """Explain a page request descriptor."""
    request = PageRequestDescriptor.decode(raw)
    told = list(complaints(request))
    if request.Type != PAGE_REQUEST:
        told.append(f"Type {request.Type:#x} is no page request")
    if request.PRIV and (request.RD or request.WR):
        told.append("PRIV is 1: Linux answers it as invalid")
    if request.EXE and request.RD:
        told.append("EXE is 1: Linux answers it as invalid")
    pasid = f", PASID {request.PASID:#x}" if request.PASIDP else ""
    who = f"{device(request.RID)}{pasid}"
    rights = [word for word, bit in (("read", request.RD), ("written", request.WR), ("executed", request.EXE)) if bit]
    if request.LPIG and not rights:
        meaning = f"{who} has stopped asking for pages (a stop marker, which is not answered)."
    else:
        last = ", the last of it" if request.LPIG else ""
        meaning = f"{who} asks for a page at {request.ADDR:#x} to be {listed(rights)}, in group {request.PRGI}{last}."
    return Decoded("page-request", "page request", request, meaning, tuple(told))
