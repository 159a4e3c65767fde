"""IOAS for Python: IOVAs, and the memory of this process behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from attrs import define, field

from viommu.api.buffers import address_of, seen
from viommu.api.handle import Handle
from viommu.api.hwpt import Hwpt
from viommu.api.hwpt_calls import alloc_hwpt
from viommu.iommufd import uapi
from viommu.iommufd.uapi import HwptFlags, IovaRange, MapFlags, OptionId, OptionOp
from viommu.kernel_errors import MessageTooLong
from viommu.objects.intervals import U64_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from viommu.api.buffers import Data
    from viommu.api.device import Device
    from viommu.api.events import FaultQueue
    from viommu.backing import BufferLike


@define(eq=False, repr=False)
class Ioas(Handle):
    """An I/O address space. What is mapped is kept alive until it is unmapped."""

    _mapped: dict[int, tuple[int, object]] = field(factory=dict, init=False)  # IOVA -> (length, what it is of)

    def _told(self) -> str:
        return f" with {len(self._mapped)} mappings"

    def map(self, buffer: BufferLike, iova: int | None = None, *, read: bool = True, write: bool = True) -> int:
        """Map memory of this process, for devices to ``read`` and ``write``; the IOVA (None: the kernel chooses it).

        Raises Invalid, AddressInUse, NoSpace, BadAddress, NoMemory, BadValue (a buffer with holes).
        """
        data = seen(buffer)
        cmd = uapi.IoasMap.of(
            flags=_flags(iova, read, write), ioas_id=self.id, user_va=address_of(data), length=data.size, iova=iova or 0
        )
        return self._kept(self.iommufd.call(cmd).iova, data.size, (buffer, data))

    def map_file(
        self, fd: int, start: int, length: int, iova: int | None = None, *, read: bool = True, write: bool = True
    ) -> int:
        """Map a stretch of a memfd, shared file or dma-buf; the IOVA. Raises as `map`, and BadFile."""
        cmd = uapi.IoasMapFile.of(
            flags=_flags(iova, read, write), ioas_id=self.id, fd=fd, start=start, length=length, iova=iova or 0
        )
        return self._kept(self.iommufd.call(cmd).iova, length, fd)

    def copy(
        self,
        source: Ioas,
        source_iova: int,
        length: int,
        iova: int | None = None,
        *,
        read: bool = True,
        write: bool = True,
    ) -> int:
        """Map what another IOAS maps, sharing its pins; the IOVA here. Raises as `map`, and NotThere."""
        cmd = uapi.IoasCopy.of(
            flags=_flags(iova, read, write),
            dst_ioas_id=self.id,
            src_ioas_id=source.id,
            length=length,
            dst_iova=iova or 0,
            src_iova=source_iova,
        )
        return self._kept(self.iommufd.call(cmd).dst_iova, length, source)

    def unmap(self, iova: int, length: int) -> int:
        """Unmap whole mappings; how many bytes went. Raises NotThere, Busy, Overflow."""
        done = self.iommufd.call(uapi.IoasUnmap.of(ioas_id=self.id, iova=iova, length=length)).length
        for start, (size, _) in tuple(self._mapped.items()):
            if iova <= start and start + size <= iova + length:
                del self._mapped[start]
        return done

    def unmap_all(self) -> int:
        """Unmap everything; how many bytes went. Raises Busy."""
        return self.unmap(0, U64_MAX)

    def ranges(self) -> list[tuple[int, int]]:
        """Give the closed ranges that are not reserved."""
        room = 8
        while True:
            found = np.zeros((room, 2), np.uint64)
            address = address_of(found.reshape(-1).view(np.uint8))
            cmd = uapi.IoasIovaRanges.of(ioas_id=self.id, num_iovas=room, allowed_iovas=address)
            try:
                return [(int(start), int(last)) for start, last in found[: self.iommufd.call(cmd).num_iovas]]
            except MessageTooLong:
                room *= 2

    @property
    def alignment(self) -> int:
        """What IOVAs and lengths have to be multiples of."""
        cmd = uapi.IoasIovaRanges.of(ioas_id=self.id)
        try:
            return self.iommufd.call(cmd).out_iova_alignment
        except MessageTooLong:
            return cmd.out_iova_alignment

    def allow(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Let IOVAs be chosen from these closed ranges alone (none: from all). Raises Invalid, AddressInUse."""
        raw = b"".join(IovaRange.of(start=start, last=last).encode() for start, last in ranges)
        listed = np.frombuffer(raw, np.uint8)
        address = address_of(listed) if raw else 0
        self.iommufd.call(
            uapi.IoasAllowIovas.of(ioas_id=self.id, num_iovas=len(raw) // IovaRange.total, allowed_iovas=address)
        )

    @property
    def huge_pages(self) -> bool:
        """Whether page tables may have large entries. Setting it raises Invalid where something is mapped."""
        return bool(self._option(OptionOp.GET, 0))

    @huge_pages.setter
    def huge_pages(self, enable: bool) -> None:
        self._option(OptionOp.SET, int(enable))

    def hwpt_alloc(
        self,
        device: Device,
        *,
        nest_parent: bool = False,
        dirty_tracking: bool = False,
        pasid: bool = False,
        fault: FaultQueue | None = None,
        data: Data | None = None,
        data_type: int | None = None,
    ) -> Hwpt:
        """Make a page table that follows this IOAS, for a device's IOMMU. Raises KernelError."""
        flags = HwptFlags(0)
        for wanted, flag in (
            (nest_parent, HwptFlags.NEST_PARENT),
            (dirty_tracking, HwptFlags.DIRTY_TRACKING),
            (pasid, HwptFlags.PASID),
        ):
            flags |= flag if wanted else 0
        number = alloc_hwpt(self, device, flags=flags, data=data, data_type=data_type, fault=fault)
        return Hwpt(self.iommufd, number, self, nest_parent)

    def destroy(self) -> None:
        """Unmap everything and destroy it. Raises Busy while something holds it; nothing is unmapped then."""
        super().destroy()
        self._mapped.clear()

    def _kept(self, iova: int, length: int, of: object) -> int:
        self._mapped[iova] = (length, of)
        return iova

    def _option(self, op: OptionOp, value: int) -> int:
        cmd = uapi.Option.of(option_id=OptionId.HUGE_PAGES, op=op, object_id=self.id, val64=value)
        return self.iommufd.call(cmd).val64


def _flags(iova: int | None, read: bool, write: bool) -> MapFlags:
    fixed = MapFlags(0) if iova is None else MapFlags.FIXED_IOVA
    return fixed | (MapFlags.READABLE if read else 0) | (MapFlags.WRITEABLE if write else 0)
