"""Event records of refused accesses (IHI 0070, 7.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.faults import Access, FaultClass, FaultKind, Report, Stage
from viommu_smmuv3_cmdqv.hardware.faults import TRANSLATION_EVENTS, event_of
from viommu_smmuv3_cmdqv.recording import Recording
from viommu_smmuv3_cmdqv.spec.events import (
    RECORDS,
    EventId,
    OperationClass,
    TranslationRecord,
    WalkAbortRecord,
)
from viommu_smmuv3_cmdqv.translate import INSTRUCTION, PRIVILEGED

if TYPE_CHECKING:
    from viommu.faults import Fault, Refusal
    from viommu.formats import Result

CLASS_OF = {
    FaultClass.INPUT: OperationClass.IN,
    FaultClass.TABLE: OperationClass.TT,
    FaultClass.CONFIGURATION: OperationClass.CD,
}
DWORD3_ADDRESS = (1 << 52) - 1
"""What the last doubleword of a record can hold of an address."""


def report(fault: Fault, stall_tag: int | None) -> Report:
    """The report of a refused access; ``stall_tag`` is the one that it gets if it stalls, None: it cannot."""
    if fault.refusal is not None:
        return _refusal(fault, fault.refusal, stall_tag)
    return _fault(fault, stall_tag)


def _fault(fault: Fault, stall_tag: int | None) -> Report:
    """The report of an access that a walk, or bypass, refused."""
    event, recording = event_of(fault.kind, fault.stage), Recording.decode(fault.driver_bits)
    if event is EventId.F_WALK_EABT:
        return _recorded(event, _walk_abort(fault, recording))
    if recording.silent(fault.stage):
        return Report("abort", event.name)
    return _translation(event, fault, recording, stall_tag)


def _refusal(fault: Fault, refusal: Refusal, stall_tag: int | None) -> Report:
    """The report of an access that never came to its own walk."""
    if refusal.silent:
        return Report("abort", refusal.reason)
    event = EventId(refusal.code)
    if refusal.walk is not None:
        return _cd_behind_stage2(event, fault, refusal.walk, stall_tag)
    values: dict[str, int] = {"ID": event, "SID": fault.requester}
    layout = RECORDS[event]
    if "SSID" in layout.fields:
        values["SSID"] = fault.pasid or 0
    if "SSV" in layout.fields:
        values["SSV"] = fault.pasid is not None
    if "FetchAddr" in layout.fields:
        values["FetchAddr"] = _fetch_address(refusal.address or 0)
    if "RnW" in layout.fields:
        values["RnW"] = Access.WRITE not in fault.access
    if "InputAddr" in layout.fields:
        values["InputAddr"] = fault.iova & layout.fields["InputAddr"].maximum
    return _recorded(event, layout(**values).encode())


def _cd_behind_stage2(event: EventId, fault: Fault, result: Result, stall_tag: int | None) -> Report:
    recording = Recording.decode(result.driver_bits)
    access = _access(fault, recording)
    if event not in TRANSLATION_EVENTS:
        aborted = WalkAbortRecord(
            ID=event, S2=1, CLASS=OperationClass.CD, FetchAddr=_fetch_address(result.entry_address), **access
        )
        return _recorded(event, aborted.encode())
    if recording.silent(Stage.STAGE2):
        return Report("abort", event.name)
    refused = TranslationRecord(ID=event, S2=1, CLASS=OperationClass.CD, IPA=_page_address(result.ipa), **access)
    return _may_stall(refused, event, stall_tag if recording.stalls(Stage.STAGE2) else None)


def _recorded(event: EventId, record: bytes) -> Report:
    return Report("fault", event.name, record)


def _may_stall(record: TranslationRecord, event: EventId, stall_tag: int | None) -> Report:
    """The report of a translation fault; ``stall_tag`` None: it ends the access."""
    if stall_tag is None:
        return _recorded(event, record.encode())
    return Report("stall", event.name, record.replace(STALL=1, STAG=stall_tag).encode(), stall_tag)


def _walk_abort(fault: Fault, recording: Recording) -> bytes:
    stage2 = fault.stage is Stage.STAGE2
    return WalkAbortRecord(
        ID=EventId.F_WALK_EABT,
        S2=stage2,
        # Alone among the events, an abort of a stage-1 fetch is of class TT although stage 2 is not at fault.
        CLASS=CLASS_OF[fault.fault_class] if stage2 else OperationClass.TT,
        FetchAddr=_fetch_address(fault.entry_address),
        **_access(fault, recording),
    ).encode()


def _operation(fault: Fault, *, nested: bool) -> OperationClass:
    """The class of a translation fault: in stage 1 always IN, with one exception that recordings show.

    With stage 2 behind it, a next table beyond the output size is refused as the input of that table's fetch.
    """
    if fault.stage is Stage.STAGE2:
        return CLASS_OF[fault.fault_class]
    if nested and fault.kind is FaultKind.ADDRESS_SIZE and _is_table(fault):
        return OperationClass.TT
    return OperationClass.IN


def _is_table(fault: Fault) -> bool:
    """Whether the offending entry points to a table (VMSAv8-64: type 3 above the last level)."""
    return fault.level > 0 and fault.entry_value & 3 == 3


def _translation(event: EventId, fault: Fault, recording: Recording, stall_tag: int | None) -> Report:
    stage2 = fault.stage is Stage.STAGE2
    operation = _operation(fault, nested=bool(recording.NESTED))
    table_permission = event is EventId.F_PERMISSION and operation is OperationClass.TT
    record = TranslationRecord(
        ID=event,
        S2=stage2,
        CLASS=operation,
        TTRnW=table_permission and not fault.for_update,
        IPA=_page_address(fault.ipa) if stage2 else 0,
        **_access(fault, recording),
    )
    return _may_stall(record, event, stall_tag if recording.stalls(fault.stage) else None)


def _access(fault: Fault, recording: Recording) -> dict[str, int]:
    """Who asked, and for what, after the STE's overrides. A write is data, whatever else it says.

    Recordings tell the fetch of what configuration points at, a CD or the table that a CD names, as the read
    that it is, even where a write caused it.
    """
    write = Access.WRITE in fault.access
    configuration_fetch = fault.refusal is not None or (fault.for_top and not fault.for_update)
    return {
        "SID": fault.requester,
        "SSV": fault.pasid is not None,
        "SSID": fault.pasid or 0,
        "PnU": PRIVILEGED.get(recording.PRIVCFG, Access.PRIVILEGED in fault.access),
        "InD": INSTRUCTION.get(recording.INSTCFG, Access.EXECUTE in fault.access) and not write,
        "RnW": configuration_fetch or not write,
        "InputAddr": fault.iova,
    }


def _fetch_address(address: int) -> int:
    return address & DWORD3_ADDRESS & ~0x7


def _page_address(ipa: int) -> int:
    return ipa & DWORD3_ADDRESS & ~0xFFF
