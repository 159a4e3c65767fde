"""Page requests: what Linux refuses itself, and what it passes on to a FAULT (Linux: drivers/iommu/amd/ppr.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.kernel_errors import KernelError
from viommu.objects.fault import report_fault
from viommu.ops import PageFault
from viommu_amd_viommu.host import requests
from viommu_amd_viommu.spec.commands import PPRStatus
from viommu_amd_viommu.spec.page_requests import LAST, PAGE_REQUEST, PPRLogEntry

if TYPE_CHECKING:
    from viommu_amd_viommu.host.device import HostDevice
    from viommu_amd_viommu.host.unit import Unit

READ, WRITE, EXECUTE, PRIVILEGED = 1, 2, 4, 8


def service(unit: Unit) -> None:
    """Take what lies in the PPR log. Where entries were lost, groups whose end may be among them are forgotten."""
    before = unit.request_log.overflows
    for raw in unit.request_log.take():
        take(unit, raw)
    if unit.request_log.overflows != before:
        for device in tuple(unit.devices.values()):
            device.physical.partial_faults.clear()


def take(unit: Unit, raw: bytes) -> None:
    """Take one entry of the PPR log."""
    entry = PPRLogEntry.decode(raw)
    if entry.Type != PAGE_REQUEST:
        return
    device = unit.devices.get(entry.DeviceID)
    if device is None or _is_wrong(device, entry):
        _answer(unit, entry.DeviceID, entry.PASID if entry.GN else None, entry.Tag, PPRStatus.INVALID_REQUEST)
        return
    try:
        report_fault(device.physical, _fault_of(entry))
    except KernelError:  # nobody listens: the group was answered already
        return


def respond(device: HostDevice, fault: PageFault, *, success: bool) -> None:
    """Answer a group, also from within an interrupt handler: then right after it."""
    status = PPRStatus.SUCCESS if success else PPRStatus.INVALID_REQUEST
    _answer(device.unit, device.id, fault.pasid, fault.grpid, status)


def _answer(unit: Unit, device: int, pasid: int | None, tag: int, status: PPRStatus) -> None:
    answer = requests.page_response(device, pasid, tag & LAST - 1, status)
    unit.queue.leave(lambda: [answer])


def _is_wrong(device: HostDevice, entry: PPRLogEntry) -> bool:
    """Say whether Linux refuses a request: without PASID, of PASID 0, beyond the device's PASIDs, malformed."""
    return not entry.GN or bool(entry.RSVD) or not 0 < entry.PASID < device.pasids


def _fault_of(entry: PPRLogEntry) -> PageFault:
    perm = entry.READ * READ | entry.WRITE * WRITE | entry.EXEC * EXECUTE | (not entry.US) * PRIVILEGED
    return PageFault(
        addr=entry.Address,
        perm=perm,
        grpid=entry.Tag & LAST - 1,
        pasid=entry.PASID,
        last=bool(entry.Tag & LAST),
    )
