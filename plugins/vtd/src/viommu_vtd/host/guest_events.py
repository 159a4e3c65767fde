"""Which faults of a device are a guest's own, and how it is told of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.kernel_errors import KernelError
from viommu.objects.veventq import report_event
from viommu_vtd.host.extensions import TYPE, VeventVtd
from viommu_vtd.host.guest_unit import GuestUnit
from viommu_vtd.spec.faults import FSTS, FaultReason
from viommu_vtd.spec.queue_registers import ICS

if TYPE_CHECKING:
    from viommu.objects.viommu import Viommu
    from viommu_vtd.host.unit import Unit
    from viommu_vtd.spec.faults import FRCD

F = FaultReason

OWN = frozenset(
    {
        F.PASID_DIRECTORY_NOT_PRESENT, F.PASID_ENTRY_NOT_PRESENT, F.SUPERVISOR_DISABLED, F.FS_ENTRY_ACCESS,
        F.FS_NOT_PRESENT, F.FS_RESERVED, F.FS_TOP_ENTRY_ACCESS, F.FS_NOT_CANONICAL, F.FS_USER_DENIED,
        F.FS_EXECUTE_DENIED, F.SM_WRITE_DENIED, F.SM_READ_DENIED, F.SM_INTERRUPT_RANGE, F.FS_UPDATE_FAILED,
    }
)  # fmt: skip
"""Reasons that lie in what the guest wrote, or left out."""

IN_THE_GUESTS_WORDS = {
    F.FS_TABLE_BEYOND_SS: F.FS_ENTRY_ACCESS,
    F.FS_TOP_READ_DENIED_BY_SS: F.FS_TOP_ENTRY_ACCESS,
    F.FS_READ_DENIED_BY_SS: F.FS_ENTRY_ACCESS,
    F.FS_UPDATE_DENIED_BY_SS: F.FS_UPDATE_FAILED,
}
"""A table where the guest has no memory: it knows nothing of second stage, to it an access failed."""


def tell_fault(unit: Unit, record: FRCD) -> None:
    """Tell the guest whose device it is, if a guest has it and the fault is its own."""
    viommu = _viommu_of(unit, record.SID)
    reason = IN_THE_GUESTS_WORDS.get(record.FR, record.FR)  # type: ignore[call-overload]
    if viommu is None or reason not in OWN:
        return
    device = unit.devices[record.SID].physical
    told = record.replace(SID=viommu.virt_id_of(device) or 0, FR=reason)
    tell(viommu, FSTS(PPF=1), ICS(), told.encode())


def tell(viommu: Viommu, status: FSTS, completion: ICS, record: bytes = b"") -> None:
    """Report an event; where the guest's VMM has no queue for it, it is lost."""
    event = VeventVtd.of(fsts=int(status), ics=int(completion), record=record)
    try:
        report_event(viommu, TYPE, event.encode())
    except KernelError:
        return


def _viommu_of(unit: Unit, source: int) -> Viommu | None:
    device = unit.devices.get(source)
    vdevice = None if device is None else device.physical.vdevice
    if vdevice is None or not isinstance(vdevice.viommu.data, GuestUnit):
        return None
    return vdevice.viommu
