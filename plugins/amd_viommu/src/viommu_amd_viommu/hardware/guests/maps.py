"""The maps from a guest's ids to the host's: tables in the IOMMU's private address space, and what is cached of them.

Software changes an entry by a strobe of VF control MMIO, never in memory. Hardware that has seen every strobe need not
read its tables; it keeps them for software that reads.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from attrs import define, field

from viommu.commands import CommandTable
from viommu_amd_viommu.spec.guest_maps import (
    DEVICE_MAP_SIZE,
    DEVICE_MAPS,
    DOMAIN_MAP_SIZE,
    DOMAIN_MAPS,
    DeviceMapEntry,
    DomainMapEntry,
)
from viommu_amd_viommu.spec.inferred import NO_DEVICE

if TYPE_CHECKING:
    from viommu_amd_viommu.hardware.guests.addresses import TranslatedMemory


@define(eq=False, repr=False)
class IdMaps:
    """The maps of one guest, in ``memory`` (private). ``devices`` and ``domains``: from the guest's ids to the host's.

    ``domain_table`` and ``device_table`` are the same for the engine; ``every_device`` has the host's DeviceIDs of all.
    """

    memory: TranslatedMemory
    guest: int
    devices: dict[int, int] = field(factory=dict)
    domains: dict[int, int] = field(factory=dict)
    host_domains: Counter[int] = field(factory=Counter)
    domain_table: CommandTable = field(factory=CommandTable)
    device_table: CommandTable = field(factory=CommandTable)
    every_device: CommandTable = field(factory=CommandTable)

    def map_device(self, guest_id: int, host_id: int, *, valid: bool) -> bool:
        """Let a guest's DeviceID stand for the host's; False where the map is not in memory."""
        entry = DeviceMapEntry(Valid=valid, HostDeviceID=host_id)
        written = self.memory.write(_place(DEVICE_MAPS, DEVICE_MAP_SIZE, self.guest, guest_id, entry), entry.encode())
        old, new = self.devices.get(guest_id), host_id if written and valid and host_id != NO_DEVICE else None
        if new is not None:
            self.devices[guest_id] = new
            self.device_table.add(guest_id, new)
            self.every_device.add(0, new)
        elif old is not None:
            del self.devices[guest_id]
        if old is not None and old != new:
            self.device_table.remove(guest_id, old)
            if old not in tuple(self.devices.values()):
                self.every_device.remove(0, old)
        return written

    def map_domain(self, guest_id: int, host_id: int, *, valid: bool) -> bool:
        """Let a guest's DomainID stand for the host's; False where the map is not in memory.

        A command that comes meanwhile finds the old one, the new one or both, but never none.
        """
        entry = DomainMapEntry(Valid=valid, HostDomainID=host_id)
        written = self.memory.write(_place(DOMAIN_MAPS, DOMAIN_MAP_SIZE, self.guest, guest_id, entry), entry.encode())
        old, new = self.domains.get(guest_id), host_id if written and valid else None
        if new is not None:
            self.domains[guest_id] = new
            self.domain_table.add(guest_id, new)
            self.host_domains[new] += 1
        elif old is not None:
            del self.domains[guest_id]
        if old is not None:
            if old != new:
                self.domain_table.remove(guest_id, old)
            self.host_domains[old] -= 1
            if not self.host_domains[old]:
                del self.host_domains[old]
        return written

    def guest_domain(self, host_id: int) -> int:
        """Give a guest's DomainID of the host's; 0 where there is none."""
        return next((guest for guest, host in tuple(self.domains.items()) if host == host_id), 0)


def _place(base: int, size: int, guest: int, number: int, entry: DeviceMapEntry | DomainMapEntry) -> int:
    return base + guest * size + number * entry.size
