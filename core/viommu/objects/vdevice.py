"""VDEVICE: a device's id on a vIOMMU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from attrs import define

from viommu.kernel_errors import Exists, Invalid
from viommu.objects.table import Object

if TYPE_CHECKING:
    from viommu.objects.context import Context
    from viommu.objects.device import Device
    from viommu.objects.viommu import Viommu

__all__ = [
    "Vdevice",
]


@define(eq=False, kw_only=True, repr=False)
class Vdevice(Object):
    """A device as the guest knows it. ``data`` is the driver's own."""

    kind: ClassVar[str] = "VDEVICE"

    context: Context
    viommu: Viommu
    device: Device
    virt_id: int
    data: Any = None

    def connect(self) -> None:
        """Let the vIOMMU know the device by its id. Raises Invalid, Exists, or what the driver raises."""
        if self.viommu.iommu is not self.device.physical.iommu:
            raise Invalid(self.device.title, "IOMMU", bound=f"that of {self.viommu.title}")
        if self.device.vdevice is not None:
            raise Exists(self.device.title, "vDEVICE", self.device.vdevice.id, "none, a device has one at most")
        if self.virt_id in self.viommu.vdevices:
            raise Exists(self.viommu.title, "virt_id", self.virt_id, "not taken")
        self.viommu.vdevices[self.virt_id] = None
        try:
            self.viommu.iommu.driver.ask("viommu_vdevice_init", vdevice=self)
        except BaseException:
            del self.viommu.vdevices[self.virt_id]
            raise
        self.viommu.vdevices[self.virt_id] = self
        self.device.vdevice = self
        self.device.hold()
        self.viommu.hold()
        self.built = True

    def destroy(self) -> None:
        """Let the vIOMMU forget the id."""
        self.viommu.iommu.driver.ask("viommu_vdevice_destroy", vdevice=self)
        if self.viommu.fault is not None:
            self.viommu.fault.answer_for(self)
        del self.viommu.vdevices[self.virt_id]
        self.device.vdevice = None
        self.device.drop()
        self.viommu.drop()

    def bury(self) -> None:
        """Destroy it because its device goes: its id never names anything again."""
        self.context.table.bury(self)
        self.users = 0
        self.destroy()
