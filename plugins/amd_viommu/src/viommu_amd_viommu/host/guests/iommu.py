"""A guest's IOMMU, as the host keeps it: its parent, its DomainIDs, its devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.kernel_errors import Invalid
from viommu_amd_viommu.host.entries import HardwareGuest
from viommu_amd_viommu.host.guests.domains import GuestDomains

if TYPE_CHECKING:
    from viommu.objects.mmap import Region
    from viommu.objects.viommu import Viommu
    from viommu_amd_viommu.host.device import HostDevice
    from viommu_amd_viommu.host.guests.hardware_slice import GuestSlice
    from viommu_amd_viommu.host.guests.queues import GuestQueues
    from viommu_amd_viommu.host.paging import HostTables
    from viommu_amd_viommu.host.unit import Unit


@define(eq=False, repr=False)
class GuestIommu:
    """The driver's side of a vIOMMU. ``slice``: what hardware has of it, where hardware runs it.

    ``regions`` are the registers that user space may map.
    """

    unit: Unit
    viommu: Viommu
    slice: GuestSlice | None = None
    queues: GuestQueues | None = None
    regions: list[Region] = field(factory=list)
    known: dict[HostDevice, int] = field(factory=dict)
    """Devices that the guest has, with the DeviceID by which it knows each."""
    _parent: HostTables | None = None
    domains: GuestDomains = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.domains = GuestDomains(self.viommu.title, self.unit.ids)

    @property
    def parent(self) -> HostTables:
        """The host tables that it stands on. Raises Invalid while it stands on none."""
        if self._parent is None:
            raise Invalid(self.viommu.title, "stage 2", bound="given first")
        return self._parent

    def stand_on(self, parent: HostTables) -> None:
        """Let it stand on host tables. Raises NoSpace."""
        if self.slice is not None:
            self.slice.stand_on(parent)
        self._parent = parent

    def take_domain(self, guest_id: int) -> None:
        """Let a DomainID of the guest's stand for one of the host's, once more. Raises NoSpace."""
        domain = self.domains.take(guest_id)
        if self.slice is not None:
            self.slice.map_domain(guest_id, domain)

    def give_back_domain(self, guest_id: int) -> None:
        """Once less. Hardware is told before the host's id may be somebody else's."""
        if self.slice is not None and self.domains.is_last(guest_id):
            self.slice.unmap_domain(guest_id)
        self.domains.give_back(guest_id)

    def connect(self, device: HostDevice, virtual_id: int) -> None:
        """Let the guest have a device."""
        self.known[device] = virtual_id
        if self.slice is not None:
            self.slice.map_device(virtual_id, device.id)
            device.update_entry()

    def disconnect(self, device: HostDevice) -> None:
        """Let it have the device no more. What is attached still translates; its events are the host's now."""
        virtual_id = self.known.pop(device)
        if self.slice is not None:
            self.slice.unmap_device(virtual_id)
            device.update_entry()

    def hardware_guest(self, device: HostDevice) -> HardwareGuest | None:
        """Say what a device's entry tells hardware of the guest; None where software runs its IOMMU."""
        virtual_id = self.known.get(device)
        if self.slice is None or virtual_id is None:
            return None
        return HardwareGuest(self.slice.id, virtual_id)

    def host_device(self, virtual_id: int) -> HostDevice | None:
        """Give the device that the guest knows by a DeviceID."""
        return next((device for device, number in self.known.items() if number == virtual_id), None)
