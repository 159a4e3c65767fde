"""What stands behind DEVICE objects: IOMMU instances, devices and their groups, whatever opens them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define, field

if TYPE_CHECKING:
    from viommu.drivers import BoundDriver
    from viommu.objects.device import Attachment, Device
    from viommu.ops import DeviceFacts, PageFault


@define(eq=False)
class PhysicalIommu:
    """One IOMMU instance: the driver that owns it. ``data`` is the driver's, or the machine's, own."""

    name: str
    driver: BoundDriver
    data: Any = None


@define(eq=False)
class Group:
    """Devices that hardware cannot tell apart: all of them are attached to the same HWPT, PASID by PASID."""

    members: set[PhysicalDevice] = field(factory=set)
    attachments: dict[int, Attachment] = field(factory=dict)  # by PASID; 0 is the RID


@define(eq=False)
class PhysicalDevice:
    """A device behind an IOMMU. ``requester`` is its StreamID, DeviceID or source-id; ``data`` the driver's own.

    ``owner`` is the DEVICE object that it is bound to, in whichever open file.
    """

    name: str
    iommu: PhysicalIommu
    requester: int = 0
    data: Any = None
    group: Group = field(factory=Group)
    owner: Device | None = None
    partial_faults: list[PageFault] = field(factory=list)
    """Page requests that wait for the last one of their group."""

    def __attrs_post_init__(self) -> None:
        self.group.members.add(self)

    @property
    def facts(self) -> DeviceFacts:
        """What the driver says of it."""
        facts: DeviceFacts = self.iommu.driver.call("viommu_device_facts", device=self)
        return facts
