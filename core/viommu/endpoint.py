"""Devices of a machine, as devices: they send DMA."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from attrs import define, field

from viommu._engine import Front, hits_first
from viommu.errors import BadValue
from viommu.faults import Access
from viommu.kernel_errors import Busy
from viommu.objects.physical import Group, PhysicalDevice

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from viommu.backing import BufferLike
    from viommu.devices import Device
    from viommu.faults import Fault
    from viommu.instance.dma import BusAbort
    from viommu.instance.dma_copy import CopyStopped
    from viommu.instance.iommu import Iommu
    from viommu.objects.physical import PhysicalIommu
    from viommu.ops import DeviceFeatures
    from viommu.platform import Completion
    from viommu.translation import Outcome, Translation

    AtsOutcome = Translation | Fault | Completion


__all__ = ["Endpoint"]


@define(eq=False, repr=False)
class Endpoint(Front):
    """One device behind an IOMMU. Made by `viommu.Machine.add_device`.

    ``physical`` is what iommufd binds; ``ats`` is the device's own TLB and page requests, where it has ATS.
    """

    iommu: Iommu
    physical: PhysicalDevice
    ats: Device | None = field(default=None)

    def __attrs_post_init__(self) -> None:
        self.iommu.answer_for(self, self.requester)

    @classmethod
    def add(
        cls,
        iommu: Iommu,
        host: PhysicalIommu,
        requester: int,
        features: DeviceFeatures,
        group: Group | None,
        name: str | None,
    ) -> Endpoint:
        """Put a device behind an IOMMU, and tell its driver. Raises OutOfRange, Busy, KernelError."""
        iommu.check_requester(requester)
        if requester in host.devices:
            raise Busy(iommu.name, "requester", requester, "not taken by another device")
        physical = PhysicalDevice(
            name or f"device {requester:#x}", host, requester, group=group or Group(), features=features
        )
        made = cls(iommu, physical, iommu.device(requester) if features.ats else None)
        host.devices[requester] = physical
        try:
            host.driver.ask("viommu_probe_device", device=physical)
        except BaseException:
            made._forget()
            raise
        return made

    def __repr__(self) -> str:
        return f"<Endpoint {self.physical.name!r} behind {self.iommu.name}>"

    @property
    def requester(self) -> int:
        """Its StreamID, DeviceID or source-id."""
        return self.physical.requester

    @hits_first
    def translate(self, iova: int, access: Access = Access.READ, pasid: int | None = None) -> Outcome:
        """Send one access; what it comes to. Raises as `viommu.instance.iommu.Iommu.translate`."""
        return self.iommu.translate(self.requester, iova, access, pasid)

    @overload
    def dma_read(self, iova: int, length: int, pasid: int | None = None) -> bytes | Fault | BusAbort: ...
    @overload
    def dma_read(
        self, iova: int, length: int, pasid: int | None = None, *, out: BufferLike
    ) -> Fault | BusAbort | None: ...
    def dma_read(
        self, iova: int, length: int, pasid: int | None = None, *, out: BufferLike | None = None
    ) -> bytes | Fault | BusAbort | None:
        """Read memory, into ``out`` where it is given. Raises as `viommu.instance.iommu.Iommu.dma_read`."""
        if out is not None:
            return self.iommu.dma_read(self.requester, iova, length, pasid, out=out)
        return self.iommu.dma_read(self.requester, iova, length, pasid)

    def dma_write(self, iova: int, data: Buffer, pasid: int | None = None) -> Fault | BusAbort | None:
        """Write memory; None where all of it was written. Raises as `translate`."""
        return self.iommu.dma_write(self.requester, iova, data, pasid)

    def dma_copy(
        self,
        source: int,
        target: int,
        length: int,
        source_pasid: int | None = None,
        target_pasid: int | None = None,
        *,
        times: int = 1,
    ) -> CopyStopped | None:
        """Copy memory to memory; None where all was copied. As `viommu.instance.iommu.Iommu.dma_copy`."""
        return self.iommu.dma_copy(self.requester, source, target, length, source_pasid, target_pasid, times=times)

    @property
    def with_ats(self) -> Device:
        """The device's own TLB and page requests. Raises BadValue where it was added without ``ats``."""
        if self.ats is None:
            raise BadValue("device", self.physical.name, "one with ats=True, which alone has a TLB and asks for pages")
        return self.ats

    def translate_by_ats(self, iova: int, access: Access = Access.READ, pasid: int | None = None) -> AtsOutcome:
        """Send one access by the device's own TLB, which asks for what it lacks. Raises as `translate`, BadValue."""
        return self.with_ats.translate(iova, access, pasid)

    def request_page(
        self, iova: int, access: Access = Access.READ, pasid: int | None = None, *, group: int = 0, last: bool = True
    ) -> None:
        """Ask for a page; ``with_ats.responses`` receives the answer to the group. Raises as `translate`, BadValue."""
        self.with_ats.request_page(iova, access, pasid, group=group, last=last)

    def reset(self) -> None:
        """Reset the function: its own TLB is empty, attachments stay."""
        if self.ats is not None:
            self.ats.tlb.clear()
        self.physical.iommu.driver.ask("viommu_reset", device=self.physical)

    def remove(self) -> None:
        """Take the device from the machine. Raises Busy while an open file owns it."""
        if self.physical.owner is not None:
            raise Busy(self.physical.name, "owner", bound="none; unbind it first")
        self.physical.iommu.driver.ask("viommu_release_device", device=self.physical)
        self._forget()

    def _forget(self) -> None:
        self.physical.group.members.discard(self.physical)
        del self.physical.iommu.devices[self.requester]
        self.iommu.forget_device(self.requester)
