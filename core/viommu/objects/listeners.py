"""Who takes the page requests of a device: an attachment (mainline), or a vIOMMU (policies)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.objects.hwpt import NestedHwpt

if TYPE_CHECKING:
    from viommu.objects.device import Attachment
    from viommu.objects.fault import FaultQueue
    from viommu.objects.physical import PhysicalDevice
    from viommu.objects.vdevice import Vdevice


@frozen(eq=False)
class Listener:
    """A queue that takes page requests, what brings them there, and the device id that records name."""

    queue: FaultQueue
    source: Attachment | Vdevice
    dev_id: int


def find_listener(device: PhysicalDevice, pasid: int | None) -> Listener | None:
    """Find who takes page requests of (device, PASID)."""
    attachment = _attachment_of(device, pasid)
    if attachment is not None and attachment.hwpt.fault is not None:
        return Listener(attachment.hwpt.fault, attachment, attachment.dev_id)
    return _viommu_of(device, attachment)


def _attachment_of(device: PhysicalDevice, pasid: int | None) -> Attachment | None:
    """Give the attachment that governs the PASID.

    Guests manage PASIDs of some hardware themselves, by tables that only a nested HWPT of the RID leads to.
    """
    attachments = device.group.attachments
    found = attachments.get(pasid or 0)
    if found is None and pasid is not None and _guest_has_pasids(device):
        found = attachments.get(0)
    return found


def _guest_has_pasids(device: PhysicalDevice) -> bool:
    if device.iommu.policy.fault_by_virtual_id and device.vdevice is not None:
        return True
    rid = device.group.attachments.get(0)
    return rid is not None and isinstance(rid.hwpt, NestedHwpt) and device.facts.user_pasid_table


def _viommu_of(device: PhysicalDevice, attachment: Attachment | None) -> Listener | None:
    """Give the FAULT of the device's vIOMMU: found by what is attached, or by the vDEVICE where the policy says so."""
    vdevice, policy = device.vdevice, device.iommu.policy
    if vdevice is None or vdevice.viommu.fault is None:
        return None
    if not policy.fault_by_virtual_id and not _stands_on(attachment, vdevice):
        return None
    return Listener(vdevice.viommu.fault, vdevice, vdevice.device.id)


def _stands_on(attachment: Attachment | None, vdevice: Vdevice) -> bool:
    if attachment is None:
        return False
    hwpt = attachment.hwpt
    return isinstance(hwpt, NestedHwpt) and hwpt.viommu is vdevice.viommu
