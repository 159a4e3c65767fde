"""ATS: which devices may ask for translations, and send what they were given (VT-d 4.1, 7.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.faults import Refusal
from viommu.platform import Completion, RequestKind
from viommu_vtd.hardware import legacy, scalable
from viommu_vtd.spec.faults import FaultReason
from viommu_vtd.spec.registers import TranslationTableMode
from viommu_vtd.spec.root_context import TranslationType

if TYPE_CHECKING:
    from viommu.faults import ConfigurationLog
    from viommu.formats import Context
    from viommu_vtd.hardware.live.admissions import Admissions
    from viommu_vtd.hardware.live.state import State
    from viommu_vtd.hardware.model import VtdHardware
    from viommu_vtd.hardware.search import Search
    from viommu_vtd.spec.root_context import ScalableContextEntry

F = FaultReason

NOT_PRESENT = frozenset(
    {
        F.ROOT_NOT_PRESENT, F.CONTEXT_NOT_PRESENT, F.TRANSLATION_REQUEST_BLOCKED, F.PASID_IN_LEGACY_MODE,
        F.ABORT_DMA_MODE, F.SM_ROOT_NOT_PRESENT, F.SM_CONTEXT_NOT_PRESENT, F.DEVICE_TLB_DISABLED, F.PASID_DISABLED,
        F.PASID_TOO_LARGE, F.PASID_DIRECTORY_NOT_PRESENT, F.PASID_ENTRY_NOT_PRESENT, F.SUPERVISOR_DISABLED,
    }
)  # fmt: skip
"""Faults of a translation request that end it as an unsupported request, and are recorded."""

NO_RIGHTS = frozenset(
    {
        F.ADDRESS_BEYOND_MGAW, F.WRITE_DENIED, F.READ_DENIED, F.INTERRUPT_RANGE, F.FS_NOT_PRESENT,
        F.FS_TABLE_BEYOND_SS, F.FS_TOP_READ_DENIED_BY_SS, F.FS_READ_DENIED_BY_SS, F.FS_UPDATE_DENIED_BY_SS,
        F.SS_NOT_PRESENT, F.FS_NOT_CANONICAL, F.FS_USER_DENIED, F.FS_EXECUTE_DENIED, F.ADDRESS_BEYOND_HOST,
        F.ADDRESS_BEYOND_SS, F.SM_WRITE_DENIED, F.SM_READ_DENIED, F.SM_INTERRUPT_RANGE,
    }
)  # fmt: skip
"""Faults that a translation request may run into without harm: it succeeds without rights, and nothing is recorded."""


@frozen
class TranslatedRefusal(Refusal):
    """The refusal of a request whose address ATS gave."""


def completion(reason: FaultReason) -> Completion:
    """How a translation request that met a fault ends. What is broken, and not just absent, aborts it."""
    if reason in NO_RIGHTS:
        return Completion.NO_ACCESS
    return Completion.UNSUPPORTED_REQUEST if reason in NOT_PRESENT else Completion.COMPLETER_ABORT


def admit(
    state: State,
    admissions: Admissions,
    requester: int,
    pasid: int | None,
    kind: RequestKind,
    log: ConfigurationLog,
) -> Context | Refusal | None:
    """Answer `viommu.hookspecs.LiveHardware.admit`. ``admissions`` are those of `judge`."""
    translation = state.translation
    if not translation.unit.status.TES:
        # Without remapping nothing gives translations, nor believes those that a device says it has.
        return Refusal("ATS while translation is off", silent=True, detail="GSTS.TES is 0")
    refusal, silenced = admissions.refusal(translation, requester, pasid, log)
    if kind is not RequestKind.TRANSLATED:
        return refusal
    if refusal is not None:
        return TranslatedRefusal(
            refusal.reason,
            refusal.code,
            address=refusal.address,
            suppressed=refusal.suppressed,
            detail=refusal.detail,
        )
    return translation.translated(silenced=silenced)


def judge(translation: VtdHardware, search: Search, requester: int, pasid: int | None) -> Refusal | None:
    """Why this device may not use ATS; None where it may."""
    mode_wrong = translation.mode_refusal(search)
    if mode_wrong is not None:
        return mode_wrong
    if translation.mode == TranslationTableMode.SCALABLE:
        return _scalable_refusal(search, requester, pasid)
    if pasid is not None:
        return search.refuse(F.PASID_IN_LEGACY_MODE, "a request with PASID in legacy mode")
    entry = legacy.context_entry(search, requester)
    if isinstance(entry, Refusal):
        return entry
    if entry.TT == TranslationType.ALL and translation.unit.ecap.DT:
        return None
    if entry.TT in {TranslationType.UNTRANSLATED, TranslationType.PASS_THROUGH}:
        return search.refuse(F.TRANSLATION_REQUEST_BLOCKED, f"TT is {entry.TT:d}: ATS is not allowed")
    return search.refuse(F.CONTEXT_INVALID, f"TT {entry.TT:d} is not one that hardware has")


def _scalable_refusal(search: Search, requester: int, pasid: int | None) -> Refusal | None:
    entry = scalable.context_entry(search, requester)
    if isinstance(entry, Refusal):
        return entry
    if not entry.DTE:
        return search.refuse(F.DEVICE_TLB_DISABLED, "DTE is 0: ATS is not allowed")
    return pasid_refusal(search, entry, pasid)


def pasid_refusal(search: Search, entry: ScalableContextEntry, pasid: int | None) -> Refusal | None:
    """Why a device may not use this PASID; None where it may."""
    number = scalable.pasid_number(search, entry, pasid)
    return number if isinstance(number, Refusal) else None
