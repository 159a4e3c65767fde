"""Register regions that user space may map: offsets (bytes) of one open file, and who stays while they are mapped."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Protocol

from attrs import define, field

from viommu.addresses import PAGE_SIZE
from viommu.kernel_errors import Invalid
from viommu.register_watch import SharedPage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.activity import Activity
    from viommu.objects.context import Context
    from viommu.objects.table import Object
    from viommu.register_watch import RegisterWatch, SharedWord

__all__ = [
    "Region",
    "RegisterMapping",
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
    """A stretch of registers at an mmap offset. ``owner`` is held once for each mapping.

    ``words``: its registers, where they can be shared memory, which ``watch`` then watches; else each access of theirs
    is a call. ``page``: that memory, once somebody has asked for it and until the last mapping is gone.
    """

    owner: Object
    offset: int
    length: int
    registers: Registers
    words: Sequence[SharedWord] = ()
    watch: RegisterWatch | None = None
    page: SharedPage | None = None
    mappings: int = 0

    def shared(self, activity: Activity) -> SharedPage | None:
        """Give the registers as shared memory; None where they cannot be. Raises OSError."""
        if self.page is None and self.words and self.watch is not None:

            def told(stores: int) -> None:
                activity.guest_writes += stores

            self.page = SharedPage.of(self.registers, self.length, self.words, told)
            self.watch.add(self.page)
        return self.page

    def unmapped(self) -> None:
        """Count a mapping less; with the last one the memory goes."""
        self.mappings -= 1
        page = None if self.mappings else self.page
        if page is not None and self.watch is not None:
            self.watch.remove(page)
            self.page = None


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
        region.mappings += 1
        return cls(region, context)

    def again(self) -> RegisterMapping:
        """Give a second mapping of the same, as fork and split make one."""
        return self.of(self.context, self.region)

    def close(self) -> None:
        """Unmap."""
        if self.is_open:
            self.is_open = False
            self.region.unmapped()
            self.region.owner.drop()
            self.context.release()

    def read(self, offset: int, length: int) -> bytes:
        """Give bytes."""
        self.context.activity.guest_reads += 1
        if self.region.page is not None:
            self.region.page.settle()
        return self.region.registers.read(offset, length)

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes."""
        self.context.activity.guest_writes += 1
        page = self.region.page
        if page is not None:
            page.carry_out()
        self.region.registers.write(offset, data)
        if page is not None:
            page.show()

    def shared(self) -> SharedPage | None:
        """Give the registers as memory, whose stores need no call; None where each has to be a call.

        It is the region's, and lasts as long as any mapping. Raises OSError.
        """
        return self.region.shared(self.context.activity)


@define(eq=False)
class MmapOffsets:
    """Hands out offsets: the lowest free range, from one page on."""

    _regions: list[Region] = field(factory=list)  # ascending by offset

    def add(
        self,
        owner: Object,
        registers: Registers,
        length: int,
        words: Sequence[SharedWord] = (),
        watch: RegisterWatch | None = None,
    ) -> Region:
        """Give a region its offset. Raises Invalid where the length is no whole number of pages."""
        if length <= 0 or length % PAGE_SIZE:
            raise Invalid(owner.title, "length of registers", length, "a whole number of pages")
        offset, index = PAGE_SIZE, 0
        for index, taken in enumerate([*self._regions, None]):  # noqa: B007
            if taken is None or offset + length <= taken.offset:
                break
            offset = taken.offset + taken.length
        region = Region(owner, offset, length, registers, words, watch)
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
