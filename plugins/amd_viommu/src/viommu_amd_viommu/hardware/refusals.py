"""Why this hardware refuses an access before any page table is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.faults import FaultKind, Refusal
from viommu_amd_viommu.hardware.attribution import NOBODY, Attribution
from viommu_amd_viommu.spec.events import EventCode

if TYPE_CHECKING:
    from viommu.formats import Result


@frozen
class Cause:
    """The flags by which an event tells its causes apart.

    ``present``: what refused was marked present (PR). ``denied``: it lacks a right (PE). ``reserved``: a
    reserved bit is set (RZ).
    """

    present: bool = False
    denied: bool = False
    reserved: bool = False


NOT_PRESENT = Cause()
BAD_ENCODING = Cause(present=True)
DENIED = Cause(present=True, denied=True)
RESERVED = Cause(present=True, reserved=True)

_CAUSES = {
    FaultKind.PERMISSION: DENIED,
    FaultKind.RESERVED: RESERVED,
    FaultKind.MALFORMED: BAD_ENCODING,
    FaultKind.ADDRESS_SIZE: RESERVED,
}


def cause_of(kind: FaultKind) -> Cause:
    """How an IO_PAGE_FAULT tells of a page-table walk that ended so."""
    return _CAUSES.get(kind, NOT_PRESENT)


@frozen
class EventRefusal(Refusal):
    """A refusal, and what its event says besides: cause flags, whose access it was, and what is invalid about it."""

    cause: Cause = NOT_PRESENT
    attribution: Attribution = NOBODY
    invalid: int = 0


def page_fault(cause: Cause, detail: str, walk: Result | None = None) -> EventRefusal:
    """The access is not permitted. ``walk``: host tables refused a GCR3 table's guest-physical address."""
    return _refuse(EventCode.IO_PAGE_FAULT, detail, cause=cause, walk=walk)


def illegal_entry(cause: Cause, detail: str) -> EventRefusal:
    """The device table entry is one that hardware may not use."""
    return _refuse(EventCode.ILLEGAL_DEV_TABLE_ENTRY, detail, cause=cause)


def device_table_error(address: int) -> EventRefusal:
    """The device table entry could not be read."""
    return _refuse(EventCode.DEV_TAB_HW_ERROR, f"no memory at {address:#x}", address=address)


def page_table_error(address: int, walk: Result | None = None) -> EventRefusal:
    """A table that leads to the page tables could not be read."""
    return _refuse(EventCode.PAGE_TAB_HW_ERROR, f"no memory at {address:#x}", address=address, walk=walk)


def invalid_request(invalid: int, detail: str) -> EventRefusal:
    """A device may not make such a request; ``invalid`` is the event's Type."""
    return EventRefusal(
        EventCode.INVALID_DEVICE_REQUEST.name, EventCode.INVALID_DEVICE_REQUEST, detail=detail, invalid=invalid
    )


def _refuse(
    code: EventCode,
    detail: str,
    *,
    cause: Cause = NOT_PRESENT,
    address: int | None = None,
    walk: Result | None = None,
) -> EventRefusal:
    return EventRefusal(code.name, code, address=address, walk=walk, detail=detail, cause=cause)
