"""One guest's share of the hardware that runs guests' IOMMUs (the published series: drivers/iommu/amd/viommu.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu_amd_viommu.host import entries, requests
from viommu_amd_viommu.host.tags import HostTag
from viommu_amd_viommu.spec.guest_maps import DEVICE_MAP_SIZE, DEVICE_MAPS, DOMAIN_MAP_SIZE, DOMAIN_MAPS
from viommu_amd_viommu.spec.guest_registers import (
    VF_CONTROL_REGISTERS,
    GuestCommandControl,
    GuestDeviceMap,
    GuestDomainMap,
    GuestEventControl,
    GuestMiscControl,
    GuestPprControl,
)
from viommu_amd_viommu.spec.inferred import NO_DEVICE

if TYPE_CHECKING:
    from viommu.layout import Descriptor
    from viommu_amd_viommu.host.guests.hardware import HardwareGuests
    from viommu_amd_viommu.host.paging import HostTables

OFFSETS = {layout: offset for offset, layout in VF_CONTROL_REGISTERS.items()}
QUEUES = (GuestCommandControl, GuestEventControl, GuestPprControl)


@define(eq=False, repr=False)
class GuestSlice:
    """A guest, by its GuestID. Without a parent it has registers and devices, and no memory to keep buffers in."""

    hardware: HardwareGuests
    id: int
    translating: int
    """The DeviceID whose entry is the guest's view of its memory."""
    parent: HostTables | None = None
    _domains: set[int] = field(factory=set)

    @classmethod
    def bring_up(cls, hardware: HardwareGuests) -> GuestSlice:
        """Take what a guest needs, and have its registers cleared. Raises NoSpace, NoMemory."""
        with hardware.unit.lock:
            guest = hardware.guests.take(hardware.unit.name)
            try:
                made = cls(hardware, guest, hardware.take_device())
            except BaseException:
                hardware.guests.give_back(guest)
                raise
            try:
                made._start()
            except BaseException:
                made._give_back()
                raise
            return made

    def _start(self) -> None:
        unit, space = self.hardware.unit, self.hardware.space
        space.add(self._device_map, DEVICE_MAP_SIZE)
        try:
            space.add(self._domain_map, DOMAIN_MAP_SIZE)
        except BaseException:
            space.remove(self._device_map)
            raise
        unit.execute([requests.reset_guest(self.id)])
        self.update_entry()
        self.write(GuestMiscControl(TranslateDeviceID=self.translating))

    def stand_on(self, parent: HostTables) -> None:
        """Let the guest have memory. Raises NoSpace."""
        unit = self.hardware.unit
        with unit.lock:
            parent.add_tags([HostTag(unit, parent.join(unit))])
            parent.slices.append(self)
            self.parent = parent
            self.update_entry()

    def update_entry(self) -> None:
        """Store the entry that leads to the guest's memory: blocked while it has none."""
        unit, parent = self.hardware.unit, self.parent
        entry = entries.blocked()
        if parent is not None:
            entry = entries.host_translated(parent.id_in(unit), parent.stage, ats=False)
        unit.table.replace(self.translating, entry)

    def tear_down(self) -> None:
        """Give everything back; nothing of the guest is attached."""
        with self.hardware.unit.lock:
            for layout in (*QUEUES, GuestMiscControl):
                self.write(layout())
            for guest_id in tuple(self._domains):
                self.write(GuestDomainMap(GuestDomainID=guest_id, Write=1))
            self._leave_parent()
            self.hardware.space.remove(self._device_map)
            self.hardware.space.remove(self._domain_map)
            self._give_back()

    def _leave_parent(self) -> None:
        unit, parent = self.hardware.unit, self.parent
        self.parent = None
        self.update_entry()
        if parent is not None:
            parent.slices.remove(self)
            parent.remove_tags([HostTag(unit, parent.id_in(unit))])
            parent.leave(unit)

    def _give_back(self) -> None:
        self.hardware.translating.discard(self.translating)
        self.hardware.guests.give_back(self.id)

    def write(self, value: Descriptor) -> None:
        """Write the VF control register that a layout stands for."""
        offset = self.hardware.control(self.id, OFFSETS[type(value)])
        self.hardware.unit.registers.mmio.write(offset, value.size, int(value))

    def map_device(self, guest_id: int, device: int) -> None:
        """Let a guest's DeviceID stand for a device."""
        self.write(GuestDeviceMap(Valid=1, HostDeviceID=device, GuestDeviceID=guest_id, Write=1))

    def unmap_device(self, guest_id: int) -> None:
        """Let a guest's DeviceID stand for none."""
        self.map_device(guest_id, NO_DEVICE)

    def map_domain(self, guest_id: int, domain: int) -> None:
        """Let a guest's DomainID stand for one of the host's."""
        self._domains.add(guest_id)
        self.write(GuestDomainMap(Valid=1, HostDomainID=domain, GuestDomainID=guest_id, Write=1))

    def unmap_domain(self, guest_id: int) -> None:
        """Let a guest's DomainID stand for the parent's, as it is no error to name one that is not in use."""
        if self.parent is not None:
            self.map_domain(guest_id, self.parent.id_in(self.hardware.unit))

    @property
    def _device_map(self) -> int:
        return DEVICE_MAPS + self.id * DEVICE_MAP_SIZE

    @property
    def _domain_map(self) -> int:
        return DOMAIN_MAPS + self.id * DOMAIN_MAP_SIZE
