"""What stands behind DEVICE objects: IOMMU instances, devices and their groups, whatever opens them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from attrs import define, field

from viommu.memory import PhysicalMemory
from viommu.ops import DeviceFeatures
from viommu.policies import MAINLINE, Policy
from viommu.register_watch import RegisterWatch
from viommu.table_frames import TableFrames

if TYPE_CHECKING:
    from typing import Self

    from viommu.drivers import BoundDriver
    from viommu.objects.device import Attachment, Device
    from viommu.objects.vdevice import Vdevice
    from viommu.ops import DeviceFacts, PageFault

__all__ = [
    "Mmio",
    "NoHardware",
    "PhysicalDevice",
    "PhysicalIommu",
    "Port",
]


class Mmio(Protocol):
    """Registers: offsets and sizes in bytes, sizes 4 or 8."""

    def read(self, offset: int, size: int) -> int:
        """Read a register."""

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register, or ring a doorbell; what it sets off is done when this returns."""


class Port(Mmio, Protocol):
    """All that a host driver has of the hardware of one instance."""

    @property
    def memory(self) -> PhysicalMemory:
        """The machine's memory."""

    @property
    def frames(self) -> TableFrames:
        """Zeroed memory for tables and queues."""

    @property
    def mapped(self) -> Mmio:
        """The same registers for pages that user space maps: what goes through them is not the driver's doing."""


class NoHardware:
    """A `Port` with memory of its own, and without registers (bytes): what a mock stands on."""

    @cached_property
    def memory(self) -> PhysicalMemory:
        """Memory that nothing else is in."""
        return PhysicalMemory()

    @cached_property
    def frames(self) -> TableFrames:
        """Frames of that memory."""
        return TableFrames(self.memory)

    @property
    def mapped(self) -> Self:
        """Registers that are not there either."""
        return self

    def read(self, offset: int, size: int) -> int:  # noqa: ARG002
        """Read zero, as there is no register."""
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Do nothing."""


@define(eq=False, repr=False)
class PhysicalIommu:
    """One IOMMU instance: the driver that owns it, and how the driver reaches it. ``data`` is the driver's own.

    ``devices`` are those that are behind it, by requester. ``watch``: who watches registers that programs have mapped,
    the machine's.
    """

    name: str
    driver: BoundDriver
    data: Any = None
    port: Port = field(factory=NoHardware)
    policy: Policy = MAINLINE
    devices: dict[int, PhysicalDevice] = field(factory=dict)
    watch: RegisterWatch = field(factory=RegisterWatch)

    def __repr__(self) -> str:
        return f"<PhysicalIommu {self.name}, {len(self.devices)} devices>"


@define(eq=False)
class Group:
    """Devices that hardware cannot tell apart: all of them are attached to the same HWPT, PASID by PASID."""

    members: set[PhysicalDevice] = field(factory=set)
    attachments: dict[int, Attachment] = field(factory=dict)  # by PASID; 0 is the RID


@define(eq=False, repr=False)
class PhysicalDevice:
    """A device behind an IOMMU. ``requester`` is its StreamID, DeviceID or source-id; ``data`` the driver's own.

    ``features`` are what it can itself; ``facts`` what it can behind this IOMMU. ``owner`` is the DEVICE object that
    it is bound to, in whichever open file.
    """

    name: str
    iommu: PhysicalIommu
    requester: int = 0
    data: Any = None
    group: Group = field(factory=Group)
    owner: Device | None = None
    features: DeviceFeatures = field(factory=DeviceFeatures)
    partial_faults: list[PageFault] = field(factory=list)
    """Page requests that wait for the last one of their group."""

    def __attrs_post_init__(self) -> None:
        self.group.members.add(self)

    def __repr__(self) -> str:
        return f"<PhysicalDevice {self.name}, {self.requester:#x} behind {self.iommu.name}>"

    @property
    def vdevice(self) -> Vdevice | None:
        """What it is to a guest; None where no guest has it."""
        owner = self.owner  # faults come from any thread, while it may be unbound
        return None if owner is None else owner.vdevice

    @property
    def facts(self) -> DeviceFacts:
        """What the driver says of it."""
        facts: DeviceFacts = self.iommu.driver.call("viommu_device_facts", device=self)
        return facts
