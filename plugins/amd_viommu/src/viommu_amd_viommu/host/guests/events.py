"""Which events are a guest's own, and how it is told of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.kernel_errors import KernelError
from viommu.objects.veventq import report_event
from viommu_amd_viommu.host.extensions import TYPE, VeventAmd
from viommu_amd_viommu.host.guests.iommu import GuestIommu
from viommu_amd_viommu.spec.events import (
    InvalidDeviceRequest,
    InvalidPprRequest,
    IoPageFault,
)

if TYPE_CHECKING:
    from viommu.objects.viommu import Viommu
    from viommu_amd_viommu.host.unit import Unit
    from viommu_amd_viommu.spec.events import AnyEvent

OWN = (IoPageFault, InvalidDeviceRequest, InvalidPprRequest)
"""Events that a device of the guest's sets off by what the guest wrote, or by what the device does.

A host's tables that refuse are told as the guest's do: hardware does not say which stage it was.
"""


def tell(unit: Unit, event: AnyEvent) -> None:
    """Tell the guest whose device an event is about, if a guest has it."""
    if not isinstance(event, OWN):
        return
    viommu = _viommu_of(unit, event.DeviceID)
    if viommu is None:
        return
    guest: GuestIommu = viommu.data
    told = event.replace(DeviceID=viommu.virt_id_of(unit.devices[event.DeviceID].physical) or 0)
    if isinstance(told, IoPageFault) and not told.GN:
        told = told.replace(DomainIDOrPASID=guest.domains.guest_id(told.DomainIDOrPASID))
    report(viommu, told)


def report(viommu: Viommu, event: AnyEvent) -> None:
    """Report an event; where nobody has made a queue for it, it is lost."""
    try:
        report_event(viommu, TYPE, VeventAmd.of(event=event.encode()).encode())
    except KernelError:
        return


def _viommu_of(unit: Unit, device: int) -> Viommu | None:
    found = unit.devices.get(device)
    vdevice = None if found is None else found.physical.vdevice
    if vdevice is None or not isinstance(vdevice.viommu.data, GuestIommu):
        return None
    return vdevice.viommu
