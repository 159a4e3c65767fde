"""Event log entries in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import Decoded
from viommu_amd_viommu.explain.causes import causes
from viommu_amd_viommu.explain.wording import device, reserved
from viommu_amd_viommu.spec import events as spec
from viommu_amd_viommu.spec.events import EVENTS, EventCode, HardwareErrorType, decode_event

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ALIASES = {
    EventCode.DEV_TAB_HW_ERROR: "DEV_TAB_HARDWARE_ERROR",
    EventCode.PAGE_TAB_HW_ERROR: "PAGE_TAB_HARDWARE_ERROR",
    EventCode.COMMAND_HW_ERROR: "COMMAND_HARDWARE_ERROR",
    EventCode.RMP_FAULT: "RMP_PAGE_FAULT",
}
"""Events by the names that the kernel logs."""

_FAILURES = {
    HardwareErrorType.MASTER_ABORT: ": nothing answered there",
    HardwareErrorType.TARGET_ABORT: ": memory refused",
    HardwareErrorType.DATA_ERROR: ": the data was corrupt",
}


def explain(kind: str, raw: bytes) -> Decoded:
    """Explain an entry of the event log."""
    event = decode_event(raw)
    if event.EventCode not in EVENTS:
        return Decoded(
            kind, f"event code {int(event.EventCode):#x}", event, "No event.", ("hardware logs no such code",)
        )
    code = EventCode(event.EventCode)
    alias = (ALIASES[code],) if code in ALIASES else ()
    return Decoded(kind, code.name, event, _WORDS[code](event), reserved(event), causes(event), alias)


def _who(event: spec.IoPageFault | spec.PageTabHardwareError) -> str:
    pasid = event.PASIDHigh << 16 | event.DomainIDOrPASID
    tag = f"PASID {pasid:#x}" if event.GN else f"DomainID {event.DomainIDOrPASID:#x}"
    return f"{device(event.DeviceID)} ({tag})"


def _page_fault(event: spec.IoPageFault) -> str:
    if event.I:
        return f"An interrupt of {_who(event)}, at {event.Address:#x}, was refused by interrupt remapping."
    access = "A write" if event.RW else "A translation request" if event.TR else "A read"
    return f"{access} of {event.Address:#x} by {_who(event)} was refused: {_why(event)}."


def _why(event: spec.IoPageFault) -> str:
    if not event.PR:
        return "no translation is present"
    if event.RZ:
        return "a page-table entry has reserved bits set"
    return "the translation grants no such access" if event.PE else "a page-table entry has an impossible encoding"


def _illegal_entry(event: spec.IllegalDevTableEntry) -> str:
    why = "reserved bits" if event.RZ else "an invalid level or place"
    pasid = f" (PASID {event.PASID:#x})" if event.GN else ""
    return f"The device table entry of {device(event.DeviceID)}{pasid} has {why}; it was used for {event.Address:#x}."


def _failed(event: spec.DevTabHardwareError | spec.PageTabHardwareError | spec.CommandHardwareError) -> str:
    failure = event.Type
    return _FAILURES[failure] if isinstance(failure, HardwareErrorType) else ""


def _invalid_request(event: spec.InvalidDeviceRequest) -> str:
    what = "translation request" if event.TR else "request"
    kinds: Mapping[int, str] = {
        one.value: one.name for one in (spec.InvalidTranslationRequest if event.TR else spec.InvalidAccess)
    }
    name = kinds.get(event.Type, f"type {event.Type}").lower().replace("_", " ")
    return f"{device(event.DeviceID).capitalize()} sent a {what} for {event.Address:#x} that it may not: {name}."


def _invalid_ppr(event: spec.InvalidPprRequest) -> str:
    pasid = f" (PASID {event.PASID:#x})" if event.GN else ""
    who = device(event.DeviceID)
    return (
        f"{who.capitalize()}{pasid} asked for the page of {event.Address:#x}, tag {event.Tag:#x}, and may ask for none."
    )


_WORDS: Mapping[EventCode, Callable[..., str]] = {
    EventCode.ILLEGAL_DEV_TABLE_ENTRY: _illegal_entry,
    EventCode.IO_PAGE_FAULT: _page_fault,
    EventCode.DEV_TAB_HW_ERROR: lambda e: (
        f"The device table entry of {device(e.DeviceID)} at {e.Address:#x} could not be read{_failed(e)}."
    ),
    EventCode.PAGE_TAB_HW_ERROR: lambda e: (
        f"A page-table entry at {e.Address:#x} could not be accessed for {_who(e)}{_failed(e)}."
    ),
    EventCode.ILLEGAL_COMMAND_ERROR: lambda e: f"The command at {e.Address:#x} is illegal; the command buffer halted.",
    EventCode.COMMAND_HW_ERROR: lambda e: (
        f"The command buffer halted at an access of {e.Address:#x} that failed{_failed(e)}."
    ),
    EventCode.IOTLB_INV_TIMEOUT: lambda e: (
        f"{device(e.DeviceID).capitalize()} did not answer the invalidation of the command at {e.Address:#x}."
    ),
    EventCode.INVALID_DEVICE_REQUEST: _invalid_request,
    EventCode.INVALID_PPR_REQUEST: _invalid_ppr,
    EventCode.EVENT_COUNTER_ZERO: lambda _: "A performance counter wrapped to zero.",
    EventCode.GUEST_EVENT_FAULT: lambda e: f"An event could not be given to guest {e.GuestID:#x}.",
    EventCode.VIOMMU_HW_ERROR: lambda e: (
        f"A structure of guest {e.GuestID:#x} at {e.Address:#x} could not be accessed."
    ),
    EventCode.RMP_FAULT: lambda e: f"{device(e.DeviceID).capitalize()} accessed {e.Address:#x} against the RMP.",
    EventCode.RMP_HW_ERROR: lambda e: f"An RMP access for {device(e.DeviceID)} at {e.Address:#x} failed.",
}
