"""What the event log would say of a refused access (AMD 48882, 2.5).

Suppression is told as far as it keeps no state: DTE.SA silences page faults; DTE.SE lets the first one through, and
which one is the first is the log's to know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.faults import Access, FaultKind, Report
from viommu_amd_viommu.refusals import NOT_PRESENT, Cause, EventRefusal, cause_of
from viommu_amd_viommu.spec.events import (
    DevTabHardwareError,
    EventCode,
    HardwareErrorType,
    IllegalDevTableEntry,
    IoPageFault,
    PageTabHardwareError,
)
from viommu_amd_viommu.translate import guest_pasid

if TYPE_CHECKING:
    from viommu.faults import Fault
    from viommu_amd_viommu.spec.device_table import DTE
    from viommu_amd_viommu.spec.events import EventEntry


@frozen
class Incident:
    """What went wrong: the event's code, its cause flags, and what could not be accessed (bytes), where that is it."""

    code: EventCode
    cause: Cause = NOT_PRESENT
    address: int = 0
    error: HardwareErrorType = HardwareErrorType.MASTER_ABORT


class Unlogged:
    """A `viommu.faults.ConfigurationLog` that nobody reads."""

    def fetched(self, structure: type, address: int, raw: bytes | None, note: str = "") -> None:
        """Drop it."""

    def note(self, text: str) -> None:
        """Drop it."""


def report(fault: Fault, entry: DTE | None) -> Report:
    """The event of a refused access; ``entry`` is the device's, None where it has none that can be read."""
    incident = _incident(fault)
    if incident.code is EventCode.IO_PAGE_FAULT and entry is not None and entry.SA:
        return Report("abort", incident.code.name)
    return Report("fault", incident.code.name, _record(fault, incident, entry).encode())


def _incident(fault: Fault) -> Incident:
    """A hole does not answer (master abort); memory that refuses a store does, with an error."""
    if isinstance(fault.refusal, EventRefusal):
        refusal = fault.refusal
        return Incident(EventCode(refusal.code), refusal.cause, refusal.address or 0)
    if fault.kind is FaultKind.EXTERNAL_ABORT:
        return Incident(EventCode.PAGE_TAB_HW_ERROR, address=fault.entry_address)
    if fault.kind is FaultKind.UPDATE_FAILED:
        return Incident(EventCode.PAGE_TAB_HW_ERROR, address=fault.entry_address, error=HardwareErrorType.TARGET_ABORT)
    return Incident(EventCode.IO_PAGE_FAULT, cause_of(fault.kind))


def _record(fault: Fault, incident: Incident, entry: DTE | None) -> EventEntry:
    match incident.code:
        case EventCode.ILLEGAL_DEV_TABLE_ENTRY:
            return _illegal_entry(fault, incident)
        case EventCode.DEV_TAB_HW_ERROR:
            return _device_table_error(fault, incident)
        case EventCode.PAGE_TAB_HW_ERROR:
            return _page_table_error(fault, incident, entry)
        case _:
            return _page_fault(fault, incident, entry)


def _illegal_entry(fault: Fault, incident: Incident) -> IllegalDevTableEntry:
    return IllegalDevTableEntry(
        EventCode=incident.code,
        DeviceID=fault.requester,
        PASID=fault.pasid or 0,
        GN=fault.pasid is not None,
        RW=_writes(fault),
        RZ=incident.cause.reserved,
        Address=fault.iova & ~3,
    )


def _page_fault(fault: Fault, incident: Incident, entry: DTE | None) -> IoPageFault:
    """The address is the device's own, whichever stage refused."""
    pasid = guest_pasid(entry, fault.pasid)
    guest = pasid is not None
    return IoPageFault(
        EventCode=incident.code,
        DeviceID=fault.requester,
        PASIDHigh=(pasid or 0) >> 16,
        DomainIDOrPASID=_tag(pasid, entry),
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
        Type=incident.error,
        Address=incident.address,
    )


def _page_table_error(fault: Fault, incident: Incident, entry: DTE | None) -> PageTabHardwareError:
    pasid = guest_pasid(entry, fault.pasid)
    return PageTabHardwareError(
        EventCode=incident.code,
        DeviceID=fault.requester,
        PASIDHigh=(pasid or 0) >> 16,
        DomainIDOrPASID=_tag(pasid, entry),
        GN=pasid is not None,
        RW=_writes(fault),
        Type=incident.error,
        Address=incident.address & ~7,
    )


def _writes(fault: Fault) -> bool:
    return Access.WRITE in fault.access


def _tag(pasid: int | None, entry: DTE | None) -> int:
    """PASID[15:0] or, where host tables alone were used, the DomainID."""
    if pasid is not None:
        return pasid & 0xFFFF
    return entry.DomainID if entry is not None else 0
