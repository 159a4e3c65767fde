"""Outcomes as JSON holds them, in the words of captures: numbers are text in hexadecimal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from viommu.faults import Access, Fault, FaultKind, Refusal, Report
from viommu.translation import Translation

if TYPE_CHECKING:
    from viommu._engine import Result
    from viommu.translation import Outcome


def letters(rights: Access) -> str:
    """Write rights as captures do: ``rwx``, each where it is granted, and ``p`` for privileged."""
    return "".join(
        letter
        for letter, right in zip("rwxp", (Access.READ, Access.WRITE, Access.EXECUTE, Access.PRIVILEGED), strict=True)
        if rights & right
    )


def outcome_name(outcome: Outcome, report: Report | None) -> str:
    """Say what became of an access in the words of captures: ``ok``, ``bypass``, ``fault`` or ``abort``."""
    if isinstance(outcome, Translation):
        return "bypass" if outcome.untranslated else "ok"
    return "fault" if report is None else report.outcome


def outcome_to_json(outcome: Outcome, report: Report | None) -> dict[str, Any]:
    """Give a translation, or a fault and its record, as JSON holds it."""
    shown: dict[str, Any] = {"outcome": outcome_name(outcome, report)}
    if isinstance(outcome, Translation):
        return shown | {
            "pa": hex(outcome.pa),
            "page_size": hex(outcome.page_size),
            "rights": letters(outcome.rights),
            "ipa": hex(outcome.ipa),
            "attrs1": hex(outcome.attrs1),
            "attrs2": hex(outcome.attrs2),
        }
    if report is not None:
        shown |= {"fault": report.reason, "record": None if report.record is None else report.record.hex()}
    return shown | fault_to_json(outcome)


def fault_to_json(fault: Fault) -> dict[str, Any]:
    """Give the neutral fault as JSON holds it."""
    shown: dict[str, Any] = {"kind": fault.kind.name}
    if fault.refusal is not None:
        return shown | {"refusal": _refusal_to_json(fault.refusal)}
    return shown | {
        "stage": int(fault.stage),
        "level": fault.level,
        "class": fault.fault_class.name,
        "ipa": hex(fault.ipa),
        "entry_address": hex(fault.entry_address),
        "entry_value": f"{fault.entry_value:#018x}",
        "missing": letters(fault.missing),
        "for_update": fault.for_update,
    }


def _refusal_to_json(refusal: Refusal) -> dict[str, Any]:
    shown: dict[str, Any] = {"reason": refusal.reason, "code": hex(refusal.code), "silent": refusal.silent}
    if refusal.address is not None:
        shown["address"] = hex(refusal.address)
    if refusal.walk is not None:
        shown["walk"] = _result_to_json(refusal.walk)
    if refusal.suppressed:
        shown["suppressed"] = True
    return {**shown, "detail": refusal.detail} if refusal.detail else shown


def _result_to_json(result: Result) -> dict[str, Any]:
    return {
        "kind": FaultKind(result.kind).name,
        "stage": result.stage,
        "level": result.level,
        "ipa": hex(result.ipa),
        "entry_address": hex(result.entry_address),
    }
