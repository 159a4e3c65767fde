"""VIOMMU: a slice of one physical IOMMU for a guest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from attrs import define, field

from viommu.objects.table import Object

if TYPE_CHECKING:
    from viommu.objects.context import Context
    from viommu.objects.hwpt import PagingHwpt
    from viommu.objects.mmap import Region, Registers
    from viommu.objects.physical import PhysicalDevice, PhysicalIommu
    from viommu.objects.table import Object as AnyObject
    from viommu.objects.vdevice import Vdevice
    from viommu.objects.veventq import VeventQueue


@define(eq=False, kw_only=True)
class Viommu(Object):
    """A vIOMMU, standing on a nesting parent. ``data`` is the driver's own.

    ``vdevices`` are known by their virtual id once the driver has initialised them.
    """

    kind: ClassVar[str] = "VIOMMU"

    context: Context
    type: int
    iommu: PhysicalIommu
    parent: PagingHwpt
    data: Any = None
    vdevices: dict[int, Vdevice | None] = field(factory=dict)  # None: the id is reserved
    queues: dict[int, VeventQueue] = field(factory=dict)  # by type

    def destroy(self) -> None:
        """Take it down, then let go of the parent."""
        self.iommu.driver.ask("viommu_destroy", viommu=self)
        self.parent.drop()

    def find_device(self, virt_id: int) -> PhysicalDevice | None:
        """Give the device of a virtual id."""
        vdevice = self.vdevices.get(virt_id)
        return None if vdevice is None else vdevice.device.physical

    def virt_id_of(self, device: PhysicalDevice) -> int | None:
        """Give a device's virtual id on this vIOMMU; None where it has none."""
        owner = device.owner
        vdevice = None if owner is None else owner.vdevice
        return None if vdevice is None or vdevice.viommu is not self else vdevice.virt_id

    def offer_registers(self, registers: Registers, length: int, owner: AnyObject | None = None) -> Region:
        """Let user space map registers; the region's offset is for mmap. Raises Invalid."""
        return self.context.offsets.add(owner or self, registers, length)

    def withdraw_registers(self, region: Region) -> None:
        """Take registers back, which nobody maps any more."""
        self.context.offsets.remove(region)
