"""Devices as they come to an IOMMU and go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.kernel_errors import Busy
from viommu_amd_viommu.host import tags
from viommu_amd_viommu.host.device import HostDevice

if TYPE_CHECKING:
    from viommu.objects.physical import PhysicalDevice
    from viommu_amd_viommu.host.unit import Unit


def add(unit: Unit, physical: PhysicalDevice) -> HostDevice:
    """Let an IOMMU know a device, blocked. What it has counts where the IOMMU has it too. Raises Busy."""
    has, able = physical.features, unit.able
    pasids = min(1 << has.pasid_bits, able.most_pasids) if has.pasid_bits else 0
    device = HostDevice(
        physical,
        unit,
        physical.requester,
        ats=has.ats,
        page_requests=bool(has.ats and has.page_requests and able.page_requests and pasids),
        pasids=pasids,
    )
    with unit.lock:
        if unit.hardware is not None and unit.hardware.has_taken(device.id):
            raise Busy(unit.name, "DeviceID", device.id, "no DeviceID that the IOMMU uses itself")
        unit.devices[device.id] = device
        device.update_entry()
    return device


def remove(device: HostDevice) -> None:
    """Let its IOMMU forget a device; nothing is attached."""
    with device.unit.lock:
        device.unit.devices.pop(device.id, None)
        device.update_entry()


def was_reset(device: HostDevice) -> None:
    """Take note that a device's TLB is empty. Invalidating it is harmless, and what Linux does not know is so."""
    found = [tag for domain in device.attached.values() for tag in domain.tags if tags.is_of_device(tag, device.id)]
    tags.drop(found)
