"""A guest's IOMMU, as the host keeps it: its parent, its DomainIDs, its devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu_amd_viommu.host.guest_domains import GuestDomains

if TYPE_CHECKING:
    from viommu.objects.viommu import Viommu
    from viommu_amd_viommu.host.device import HostDevice
    from viommu_amd_viommu.host.paging import HostTables
    from viommu_amd_viommu.host.unit import Unit


@define(eq=False)
class GuestIommu:
    """The driver's side of a vIOMMU."""

    unit: Unit
    viommu: Viommu
    parent: HostTables
    domains: GuestDomains = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.domains = GuestDomains(self.unit.ids)

    def virtual_id(self, device: HostDevice) -> int | None:
        """Give the DeviceID by which the guest knows a device; None where it does not."""
        return self.viommu.virt_id_of(device.physical)

    def host_device(self, virtual_id: int) -> HostDevice | None:
        """Give the device that the guest knows by a DeviceID."""
        physical = self.viommu.find_device(virtual_id)
        return None if physical is None else self.unit.devices.get(physical.requester)

    def host_devices(self) -> list[HostDevice]:
        """Give all devices that the guest knows."""
        found = (self.host_device(virtual_id) for virtual_id in self.viommu.vdevices)
        return [device for device in found if device is not None]
