"""Register regions that user space may map: offsets (bytes) of one open file, and who stays while they are mapped."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Protocol

from attrs import define, field

from viommu.addresses import PAGE_SIZE
from viommu.kernel_errors import Invalid

if TYPE_CHECKING:
    from viommu.objects.context import Context
    from viommu.objects.table import Object

__all__ = [
    "Region",
    "Registers",
]

MAP_SHARED, PROT_EXEC = 1, 4


class Registers(Protocol):
    """What lies behind a region: bytes that a driver's hardware shows."""

    def read(self, offset: int, length: int) -> bytes:
        """Give bytes of the region."""

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes in the region."""


@define(eq=False)
class Region:
    """A stretch of registers at an mmap offset. ``owner`` is held once for each mapping."""

    owner: Object
    offset: int
    length: int
    registers: Registers


@define(eq=False)
class RegisterMapping:
    """One mapping (VMA) of a region in some process, which holds the region's owner and the open file."""

    region: Region
    context: Context
    is_open: bool = True

    @classmethod
    def of(cls, context: Context, region: Region) -> RegisterMapping:
        """Map a region once more: mmap, fork, or a split."""
        context.keep()
        region.owner.hold()
        return cls(region, context)

    def again(self) -> RegisterMapping:
        """Give a second mapping of the same, as fork and split make one."""
        return self.of(self.context, self.region)

    def close(self) -> None:
        """Unmap."""
        if self.is_open:
            self.is_open = False
            self.region.owner.drop()
            self.context.release()

    def read(self, offset: int, length: int) -> bytes:
        """Give bytes."""
        self.context.activity.guest_reads += 1
        return self.region.registers.read(offset, length)

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes."""
        self.context.activity.guest_writes += 1
        self.region.registers.write(offset, data)


@define(eq=False)
class MmapOffsets:
    """Hands out offsets: the lowest free range, from one page on."""

    _regions: list[Region] = field(factory=list)  # ascending by offset

    def add(self, owner: Object, registers: Registers, length: int) -> Region:
        """Give a region its offset. Raises Invalid where the length is no whole number of pages."""
        if length <= 0 or length % PAGE_SIZE:
            raise Invalid(owner.title, "length of registers", length, "a whole number of pages")
        offset, index = PAGE_SIZE, 0
        for index, taken in enumerate([*self._regions, None]):  # noqa: B007
            if taken is None or offset + length <= taken.offset:
                break
            offset = taken.offset + taken.length
        region = Region(owner, offset, length, registers)
        self._regions.insert(index, region)
        return region

    def remove(self, region: Region) -> None:
        """Take an offset back."""
        self._regions.remove(region)

    def find(self, offset: int) -> Region | None:
        """Give the region that holds a byte offset."""
        for region in self._regions:
            if region.offset <= offset < region.offset + region.length:
                return region
        return None

    def check(self, length: int, prot: int, flags: int, offset: int) -> Region | int:
        """Say what mmap maps: a region, or a negative errno. The order is the kernel's."""
        if not flags & MAP_SHARED:
            return -errno.EINVAL
        if prot & PROT_EXEC:
            return -errno.EPERM
        region = self.find(offset)
        if region is None or not region.owner.users:
            return -errno.ENXIO
        if region.offset != offset or region.length != -(-length // PAGE_SIZE) * PAGE_SIZE:
            return -errno.ENXIO
        return region
