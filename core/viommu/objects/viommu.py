"""VIOMMU: a slice of one physical IOMMU for a guest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from attrs import define, field

from viommu.kernel_errors import Exists, Invalid
from viommu.objects.table import Object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.objects.context import Context
    from viommu.objects.fault import FaultQueue
    from viommu.objects.hwpt import PagingHwpt
    from viommu.objects.mmap import Region, Registers
    from viommu.objects.physical import PhysicalDevice, PhysicalIommu
    from viommu.objects.table import Object as AnyObject
    from viommu.objects.vdevice import Vdevice
    from viommu.objects.veventq import VeventQueue
    from viommu.objects.vm import VirtualMachine
    from viommu.register_watch import SharedWord

__all__ = [
    "Viommu",
]


@define(eq=False, kw_only=True, repr=False)
class Viommu(Object):
    """A vIOMMU, standing on a nesting parent. ``data`` is the driver's own.

    ``vdevices`` are known by their virtual id once the driver has initialised them. ``stage2`` None: it is empty, under
    the policy ``late_stage2``. ``fault``: where page requests of its vDEVICEs go, under ``viommu_page_requests``.
    ``vm``: the virtual machine whose VMID it shares, where one was given.
    """

    kind: ClassVar[str] = "VIOMMU"

    context: Context
    type: int
    iommu: PhysicalIommu
    stage2: PagingHwpt | None
    data: Any = None
    fault: FaultQueue | None = None
    vm: VirtualMachine | None = None
    vdevices: dict[int, Vdevice | None] = field(factory=dict)  # None: the id is reserved
    queues: dict[int, VeventQueue] = field(factory=dict)  # by type

    @property
    def parent(self) -> PagingHwpt:
        """What it stands on. Raises Invalid while it is empty."""
        if self.stage2 is None:
            raise Invalid(self.title, "stage 2", bound="set first (VIOMMU_SET_STAGE2)")
        return self.stage2

    def take_hold(self) -> None:
        """Hold what it was made with, now that the driver has made it."""
        if self.stage2 is not None:
            self.stage2.hold()
        if self.vm is not None:
            self.vm.users += 1

    def destroy(self) -> None:
        """Take it down, then let go of what it holds."""
        self.iommu.driver.ask("viommu_destroy", viommu=self)
        for held in (self.stage2, self.fault):
            if held is not None:
                held.drop()
        if self.vm is not None:
            self.vm.users -= 1

    def take_stage2(self, parent: PagingHwpt) -> None:
        """Stand on a parent from now on. Raises Exists where it stands on one, Invalid, or what the driver raises."""
        if self.stage2 is not None:
            raise Exists(self.title, "stage 2", self.stage2.id, "none yet, it is set once")
        check_parent(parent)
        self.iommu.driver.ask("viommu_set_stage2", viommu=self, parent=parent.domain)
        parent.hold()
        self.stage2 = parent

    def take_fault(self, fault: FaultQueue) -> None:
        """Let page requests of its vDEVICEs go to a FAULT. Raises Exists where they go to one."""
        if self.fault is not None:
            raise Exists(self.title, "FAULT", self.fault.id, "none yet, it is set once")
        fault.hold()
        self.fault = fault

    def find_device(self, virt_id: int) -> PhysicalDevice | None:
        """Give the device of a virtual id."""
        vdevice = self.vdevices.get(virt_id)
        return None if vdevice is None else vdevice.device.physical

    def virt_id_of(self, device: PhysicalDevice) -> int | None:
        """Give a device's virtual id on this vIOMMU; None where it has none."""
        vdevice = device.vdevice
        return None if vdevice is None or vdevice.viommu is not self else vdevice.virt_id

    def offer_registers(
        self,
        registers: Registers,
        length: int,
        owner: AnyObject | None = None,
        words: Sequence[SharedWord] = (),
    ) -> Region:
        """Let user space map registers; the region's offset is for mmap. Raises Invalid.

        ``words``: what registers there are, if a program's mapping may be shared memory that is watched for stores
        (`viommu.register_watch.SharedWord` says of which that is true). Without them, each access traps.
        """
        return self.context.offsets.add(owner or self, registers, length, words, self.iommu.watch)

    def withdraw_registers(self, region: Region) -> None:
        """Take registers back, which nobody maps any more."""
        self.context.offsets.remove(region)


def check_parent(parent: PagingHwpt) -> None:
    """Refuse a HWPT that nothing can stand on. Raises Invalid."""
    if not parent.nest_parent:
        raise Invalid(parent.title, "flags", bound="allocated with NEST_PARENT")
