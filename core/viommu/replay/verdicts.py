"""What becomes of an access, in the words of captures, and how two verdicts compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen

from viommu.addresses import PAGE_SIZE
from viommu.as_json import letters
from viommu.captures.rows import Verdict, same_fault
from viommu.faults import FaultKind

if TYPE_CHECKING:
    from viommu.captures.rows import RecordedRow
    from viommu.faults import Fault, Report


@frozen
class OurVerdict(Verdict):
    """What our model makes of an access. ``hole`` is where it found no memory, if that is what ended it."""

    kind: FaultKind = FaultKind.NONE
    hole: int | None = None


def reported(report: Report, fault: Fault | None = None) -> OurVerdict:
    """Say a driver's report of a fault in the words of captures."""
    kind, hole = (FaultKind.NONE, None) if fault is None else (fault.kind, hole_of(fault))
    return OurVerdict(report.outcome, fault=report.reason, record=report.record, kind=kind, hole=hole)


def hole_of(fault: Fault) -> int | None:
    """Give the address at which a walk or a configuration read found no memory; None where that was not it."""
    refusal = fault.refusal
    if refusal is None:
        return fault.entry_address if fault.kind is FaultKind.EXTERNAL_ABORT else None
    if refusal.walk is not None:
        return refusal.walk.entry_address if refusal.walk.kind == FaultKind.EXTERNAL_ABORT else None
    return refusal.address


def differences(row: RecordedRow, ours: Verdict) -> tuple[str, ...]:
    """Name what differs, of all that was recorded; () where we agree.

    An access that was recorded as ``ok`` may have passed untranslated; its page size says so, if it is recorded.
    A record counts where the access was recorded as refused by a fault: else it is some other access's.
    """
    recorded = row.recorded
    translated = recorded.outcome in {"ok", "bypass"}
    if ours.outcome != recorded.outcome and not (recorded.outcome == "ok" and ours.outcome == "bypass"):
        return ("outcome",)
    expected_pa = row.asked.iova if recorded.pa is None and recorded.outcome == "bypass" else recorded.pa
    counted = recorded.record if recorded.outcome == "fault" else None
    checks = (
        ("pa", translated and expected_pa is not None and ours.pa != expected_pa),
        ("page_size", translated and not _same_page_size(recorded.page_size, ours.page_size)),
        ("fault", bool(recorded.fault) and not same_fault(recorded.fault, ours.fault)),
        ("record", counted is not None and not _same_under_mask(counted, row.record_mask, ours.record)),
    )
    return tuple(name for name, wrong in checks if wrong)


def _same_page_size(recorded: int | None, ours: int | None) -> bool:
    """Compare page sizes. An untranslated access has none; a recorder that works in pages calls it one of 4 KiB."""
    return recorded is None or recorded == ours or (ours == 0 and recorded == PAGE_SIZE)


def _same_under_mask(recorded: bytes, mask: bytes | None, ours: bytes | None) -> bool:
    if ours is None or len(ours) != len(recorded):
        return False
    counted = int.from_bytes(mask, "little") if mask is not None else -1
    return not (int.from_bytes(recorded, "little") ^ int.from_bytes(ours, "little")) & counted


def row_to_json(row: RecordedRow) -> dict[str, Any]:
    """Give the access of a row as JSON holds it."""
    asked = row.asked
    return {
        "row": row.number,
        "rid": hex(asked.requester),
        "pasid": None if asked.pasid is None else hex(asked.pasid),
        "iova": hex(asked.iova),
        "access": letters(asked.access),
    }


def verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    """Give a verdict as JSON holds it; what it does not say is left out."""
    shown = {
        "outcome": verdict.outcome,
        "pa": None if verdict.pa is None else hex(verdict.pa),
        "page_size": None if verdict.page_size is None else hex(verdict.page_size),
        "fault": verdict.fault or None,
        "record": None if verdict.record is None else verdict.record.hex(),
    }
    return {name: value for name, value in shown.items() if value is not None}
