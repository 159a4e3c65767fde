"""What the event log would say of a refused access (AMD 48882, 2.5).

Suppression is told as far as it keeps no state: DTE.SA silences page faults; DTE.SE lets the first one through, and
which one is the first is the log's to know.

Bits whose place or meaning only one source states are written as it has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.faults import Access, FaultKind, Report
from viommu_amd_viommu.hardware.attribution import Attribution
from viommu_amd_viommu.hardware.refusals import NOT_PRESENT, Cause, EventRefusal, cause_of
from viommu_amd_viommu.spec.events import (
    DevTabHardwareError,
    EventCode,
    HardwareErrorType,
    IllegalDevTableEntry,
    InvalidDeviceRequest,
    IoPageFault,
    PageTabHardwareError,
)

if TYPE_CHECKING:
    from viommu.faults import Fault
    from viommu_amd_viommu.spec.events import EventEntry


@frozen
class Incident:
    """What went wrong, and for whom.

    ``address`` is what could not be accessed (bytes), where that is it. ``invalid`` is the Type of
    INVALID_DEVICE_REQUEST. ``translation_request``: the device had sent an ATS translation request (TR).
    """

    code: EventCode
    attribution: Attribution
    cause: Cause = NOT_PRESENT
    address: int = 0
    error: HardwareErrorType = HardwareErrorType.MASTER_ABORT
    invalid: int = 0
    translation_request: bool = False


def report(fault: Fault) -> Report:
    """The event of a refused access."""
    incident = incident_of(fault)
    return silent(incident) if suppressed(incident) else told(event_of(fault, incident))


def suppressed(incident: Incident) -> bool:
    """Whether the device's entry keeps it out of the log (DTE.SA)."""
    return incident.code is EventCode.IO_PAGE_FAULT and bool(incident.attribution.SA)


def silent(incident: Incident) -> Report:
    """The access is refused and nothing is written down."""
    return Report("abort", incident.code.name)


def told(event: EventEntry) -> Report:
    """The access is refused, and this says so."""
    return Report("fault", EventCode(event.EventCode).name, event.encode())


def incident_of(fault: Fault) -> Incident:
    """A hole does not answer (master abort); memory that refuses a store does, with an error."""
    if isinstance(fault.refusal, EventRefusal):
        refusal = fault.refusal
        return Incident(
            EventCode(refusal.code),
            refusal.attribution,
            refusal.cause,
            refusal.address or 0,
            invalid=refusal.invalid,
        )
    whose = Attribution.decode(fault.driver_bits)
    if fault.kind is FaultKind.EXTERNAL_ABORT:
        return Incident(EventCode.PAGE_TAB_HW_ERROR, whose, address=fault.entry_address)
    if fault.kind is FaultKind.UPDATE_FAILED:
        error = HardwareErrorType.TARGET_ABORT
        return Incident(EventCode.PAGE_TAB_HW_ERROR, whose, address=fault.entry_address, error=error)
    return Incident(EventCode.IO_PAGE_FAULT, whose, cause_of(fault.kind))


def event_of(fault: Fault, incident: Incident) -> EventEntry:
    """The log entry."""
    match incident.code:
        case EventCode.ILLEGAL_DEV_TABLE_ENTRY:
            return _illegal_entry(fault, incident)
        case EventCode.DEV_TAB_HW_ERROR:
            return _device_table_error(fault, incident)
        case EventCode.PAGE_TAB_HW_ERROR:
            return _page_table_error(fault, incident)
        case EventCode.INVALID_DEVICE_REQUEST:
            return _invalid_request(fault, incident)
        case _:
            return _page_fault(fault, incident)


def _illegal_entry(fault: Fault, incident: Incident) -> IllegalDevTableEntry:
    return IllegalDevTableEntry(
        EventCode=incident.code,
        DeviceID=fault.requester,
        PASID=fault.pasid or 0,
        GN=fault.pasid is not None,
        RW=_writes(fault),
        RZ=incident.cause.reserved,
        TR=incident.translation_request,
        Address=fault.iova & ~3,
    )


def _page_fault(fault: Fault, incident: Incident) -> IoPageFault:
    """The address is the device's own, whichever stage refused."""
    pasid = _guest_pasid(fault, incident)
    guest = pasid is not None
    return IoPageFault(
        EventCode=incident.code,
        DeviceID=fault.requester,
        PASIDHigh=(pasid or 0) >> 16,
        DomainIDOrPASID=_tag(pasid, incident),
        GN=guest,
        NX=guest and Access.EXECUTE in fault.access,
        US=guest and Access.PRIVILEGED not in fault.access,
        PR=incident.cause.present,
        RW=_writes(fault),
        PE=incident.cause.denied,
        RZ=incident.cause.reserved,
        Address=fault.iova,
    )


def _device_table_error(fault: Fault, incident: Incident) -> DevTabHardwareError:
    return DevTabHardwareError(
        EventCode=incident.code,
        DeviceID=fault.requester,
        RW=_writes(fault),
        TR=incident.translation_request,
        Type=incident.error,
        Address=incident.address,
    )


def _page_table_error(fault: Fault, incident: Incident) -> PageTabHardwareError:
    pasid = _guest_pasid(fault, incident)
    return PageTabHardwareError(
        EventCode=incident.code,
        DeviceID=fault.requester,
        PASIDHigh=(pasid or 0) >> 16,
        DomainIDOrPASID=_tag(pasid, incident),
        GN=pasid is not None,
        RW=_writes(fault),
        TR=incident.translation_request,
        Type=incident.error,
        Address=incident.address & ~7,
    )


def _invalid_request(fault: Fault, incident: Incident) -> InvalidDeviceRequest:
    return InvalidDeviceRequest(
        EventCode=incident.code,
        DeviceID=fault.requester,
        PASID=fault.pasid or 0,
        GN=fault.pasid is not None,
        US=fault.pasid is not None and Access.PRIVILEGED not in fault.access,
        TR=incident.translation_request,
        Type=incident.invalid,
        Address=fault.iova,
    )


def _writes(fault: Fault) -> bool:
    return Access.WRITE in fault.access


def _guest_pasid(fault: Fault, incident: Incident) -> int | None:
    return 0 if fault.pasid is None and incident.attribution.Guest else fault.pasid


def _tag(pasid: int | None, incident: Incident) -> int:
    """PASID[15:0] or, where host tables alone were used, the DomainID."""
    return incident.attribution.DomainID if pasid is None else pasid & 0xFFFF
