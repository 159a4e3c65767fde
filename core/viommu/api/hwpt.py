"""A paging HWPT for Python: a page table that follows an IOAS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from attrs import define

from viommu.addresses import PAGE_SIZE
from viommu.api.buffers import address_of
from viommu.api.handle import Handle
from viommu.api.hwpt_calls import alloc_hwpt
from viommu.api.nested import NestedHwpt
from viommu.api.viommu import alloc_viommu
from viommu.errors import OutOfRange
from viommu.iommufd import uapi
from viommu.iommufd.uapi import DirtyFlags, HwptFlags

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viommu.api.buffers import Data
    from viommu.api.device import Device
    from viommu.api.events import FaultQueue
    from viommu.api.viommu import Viommu

MOST_PAGES = 1 << 32


@define(eq=False, repr=False)
class Hwpt(Handle):
    """A page table that follows ``ioas``."""

    ioas: Handle
    nest_parent: bool

    def _told(self) -> str:
        return f"{', a nesting parent,' if self.nest_parent else ''} on {self.ioas.label}"

    def hwpt_alloc(
        self,
        device: Device,
        data: Data,
        *,
        data_type: int | None = None,
        fault: FaultQueue | None = None,
        pasid: bool = False,
    ) -> NestedHwpt:
        """Make a nested HWPT directly on this one (VT-d). Raises Invalid, Unsupported, BadValue."""
        flags = HwptFlags.PASID if pasid else HwptFlags(0)
        number = alloc_hwpt(self, device, flags=flags, data=data, data_type=data_type, fault=fault)
        return NestedHwpt(self.iommufd, number, self)

    def viommu_alloc(self, device: Device, kind: int, data: Data | None = None, *, kvm_fd: int | None = None) -> Viommu:
        """Make a vIOMMU of a type on this one. The driver's answer, if it has one, is its ``data``.

        ``kvm_fd``: the virtual machine whose VMID it shares, under the policy that KVM owns VMIDs. Raises KernelError.
        """
        return alloc_viommu(self, device, kind, data, kvm_fd)

    def set_dirty_tracking(self, *, enable: bool) -> None:
        """Switch dirty tracking; what was written before is forgotten. Raises Unsupported."""
        self.iommufd.call(uapi.HwptSetDirtyTracking.of(hwpt_id=self.id, flags=int(enable)))

    def dirty_bitmap(
        self, iova: int, length: int, *, page_size: int = PAGE_SIZE, clear: bool = True
    ) -> NDArray[np.bool_]:
        """Say which pages of [iova, iova + length) DMA wrote: True for each that it did.

        Raises Invalid, Unsupported, Overflow; OutOfRange where there are too many pages.
        """
        pages = length // page_size if page_size else 0
        if not 0 <= pages <= MOST_PAGES:
            raise OutOfRange("pages of a dirty bitmap", pages, MOST_PAGES)
        words = np.zeros(-(-max(pages, 1) // 64), np.uint64)
        self.iommufd.call(
            uapi.HwptGetDirtyBitmap.of(
                hwpt_id=self.id,
                flags=0 if clear else DirtyFlags.NO_CLEAR,
                iova=iova,
                length=length,
                page_size=page_size,
                data=address_of(words.view(np.uint8)),
            )
        )
        return np.unpackbits(words.view(np.uint8), count=pages, bitorder="little").astype(np.bool_)
