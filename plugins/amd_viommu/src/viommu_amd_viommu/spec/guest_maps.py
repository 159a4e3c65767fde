"""What hardware keeps of guests' IOMMUs in memory: its private address space, and the maps of ids in it."""

from __future__ import annotations

from viommu.layout import Bit, Bits, Descriptor
from viommu_amd_viommu.spec.inferred import HOST_DOMAIN_BITS, VALID_BIT

MMIO_BASE, MMIO_SIZE = 0x0, 0x80_0000
"""Where hardware keeps the state of VF pages."""
DEVICE_MAPS, DEVICE_MAP_SIZE = 0x10_0000_0000, 0x10_0000
"""The maps of DeviceIDs: base, and bytes for each GuestID."""
DOMAIN_MAPS, DOMAIN_MAP_SIZE = 0x20_0000_0000, 0x8_0000
"""The maps of DomainIDs."""


class DeviceMapEntry(Descriptor, width=128):
    """A guest's DeviceID. Only the place of HostDeviceID is known, from one source."""

    Valid = Bit(VALID_BIT)
    HostDeviceID = Bits(39, 24)


class DomainMapEntry(Descriptor, width=64):
    """A guest's DomainID. Its layout is inferred."""

    Valid = Bit(VALID_BIT)
    HostDomainID = Bits(*HOST_DOMAIN_BITS)
