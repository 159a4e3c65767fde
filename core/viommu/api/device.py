"""DEVICE for Python: a device that an open file owns."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, overload

import numpy as np
from attrs import define, frozen

from viommu.api.buffers import address_of
from viommu.api.handle import Handle
from viommu.faults import Access
from viommu.iommufd import uapi
from viommu.iommufd.uapi import HwCapabilities, HwInfoFlags
from viommu.iommufd.uapi_struct import UapiStruct
from viommu.objects.device import Device as BoundDevice

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from viommu.backing import BufferLike
    from viommu.endpoint import Endpoint
    from viommu.faults import Fault
    from viommu.instance.dma import BusAbort
    from viommu.translation import Outcome

S = TypeVar("S", bound=UapiStruct)

RID = 0
"""The PASID that stands for DMA without one."""

LONGEST_INFO = 4096


@frozen
class HwInfo:
    """What GET_HW_INFO says: ``data`` of a type, which holds the vendor's registers, and what the device can."""

    data_type: int
    data: bytes
    max_pasid_lg2: int
    capabilities: HwCapabilities

    def registers(self, struct: type[S]) -> S:
        """Read ``data`` as a structure of the uAPI; zeros where it is shorter."""
        return struct.decode(self.data[: struct.total].ljust(struct.total, b"\0"))


@define(eq=False, repr=False)
class Device(Handle):
    """A device that is bound to the open file. DMA of it goes through what it is attached to.

    `attach`, `replace` and `detach` do what VFIO does for its user; `destroy` unbinds.
    """

    endpoint: Endpoint

    def _told(self) -> str:
        hwpt = self._bound.attached_to() if self.is_alive else None
        return f" {self.endpoint.physical.name!r}, {'attached to ' + hwpt.title if hwpt else 'blocked'}"

    @property
    def _bound(self) -> BoundDevice:
        return self.iommufd.found(self.id, BoundDevice)

    # --- what governs its DMA

    def attach(self, target: Handle, *, pasid: int = RID) -> int:
        """Let an IOAS or a HWPT govern DMA; the id of the HWPT. Raises KernelError; then it is not attached."""
        with self.iommufd.file.context.lock:
            return self._bound.attach(target.id, pasid).id

    def replace(self, target: Handle, *, pasid: int = RID) -> int:
        """Let another govern DMA, with no moment in between. Raises KernelError; then the old one still does."""
        with self.iommufd.file.context.lock:
            return self._bound.replace(target.id, pasid).id

    def detach(self, *, pasid: int = RID) -> None:
        """Block DMA, or that of one PASID."""
        with self.iommufd.file.context.lock:
            self._bound.detach(pasid)

    def destroy(self) -> None:
        """Detach the device from everything, and give it back."""
        with self.iommufd.file.context.lock:
            bound = self._bound
            for pasid in tuple(bound.group.attachments):
                bound.detach(pasid)
            bound.unbind()
        self.is_alive = False

    # --- what it is

    def hw_info(self, data_type: int = 0) -> HwInfo:
        """Ask for the hardware's registers (0: of the usual type). Raises Unsupported."""
        room = np.zeros(LONGEST_INFO, np.uint8)
        after = self.iommufd.call(
            uapi.HwInfo.of(
                flags=HwInfoFlags.INPUT_TYPE if data_type else 0,
                dev_id=self.id,
                data_len=room.size,
                data_uptr=address_of(room),
                data_type=data_type,
            )
        )
        data = room[: min(after.data_len, LONGEST_INFO)].tobytes()
        return HwInfo(after.data_type, data, after.out_max_pasid_log2, HwCapabilities(after.out_capabilities))

    # --- what it does

    def translate(self, iova: int, access: Access = Access.READ, pasid: int | None = None) -> Outcome:
        """Send one access (`viommu.endpoint.Endpoint.translate`)."""
        return self.endpoint.translate(iova, access, pasid)

    def request_page(
        self, iova: int, access: Access = Access.READ, pasid: int | None = None, *, group: int = 0, last: bool = True
    ) -> None:
        """Ask for a page, as PRI has it (`viommu.endpoint.Endpoint.request_page`)."""
        self.endpoint.request_page(iova, access, pasid, group=group, last=last)

    @overload
    def dma_read(self, iova: int, length: int, pasid: int | None = None) -> bytes | Fault | BusAbort: ...
    @overload
    def dma_read(
        self, iova: int, length: int, pasid: int | None = None, *, out: BufferLike
    ) -> Fault | BusAbort | None: ...
    def dma_read(
        self, iova: int, length: int, pasid: int | None = None, *, out: BufferLike | None = None
    ) -> bytes | Fault | BusAbort | None:
        """Read memory as the device does, into ``out`` where it is given (`viommu.instance.iommu.Iommu.dma_read`).

        What tables refuse is a value, as hardware tells no program of it.
        """
        if out is not None:
            return self.endpoint.dma_read(iova, length, pasid, out=out)
        return self.endpoint.dma_read(iova, length, pasid)

    def dma_write(self, iova: int, data: Buffer, pasid: int | None = None) -> Fault | BusAbort | None:
        """Write memory as the device does; None where all of it was written."""
        return self.endpoint.dma_write(iova, data, pasid)
