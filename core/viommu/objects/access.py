"""ACCESS: how other parts of the host reach memory through an IOAS without a page table: pin, read, write."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from attrs import define

from viommu.addresses import PAGE_SIZE
from viommu.kernel_errors import BadAddress, Invalid, NotPermitted, NotThere
from viommu.objects.failure import allocation_point
from viommu.objects.intervals import U64_MAX
from viommu.objects.ioas import checked_last
from viommu.objects.pages import DmaBufPages, UserPages
from viommu.objects.table import Object
from viommu.ops import Prot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from viommu.iommufd.user_memory import UserProcess
    from viommu.objects.areas import Area
    from viommu.objects.context import Context
    from viommu.objects.ioas import Ioas
    from viommu.objects.pages import Extent, Pages


@define(eq=False, kw_only=True, repr=False)
class Access(Object):
    """An access on an IOAS (or, detached, on none).

    ``alignment`` 4096: it pins, and ``unmap`` (iova, length) is called with the context's lock when it has to let go;
    it unpins then, and waits for nobody. Alignment 1: it reads and writes only. Whoever made it destroys it.
    """

    kind: ClassVar[str] = "ACCESS"

    context: Context
    alignment: int = 1
    unmap: Callable[[int, int], None] | None = None
    ioas: Ioas | None = None

    @classmethod
    def create(
        cls,
        context: Context,
        ioas: Ioas | None,
        alignment: int = 1,
        unmap: Callable[[int, int], None] | None = None,
    ) -> Access:
        """Make one. Raises AddressInUse where the IOAS cannot have the alignment."""
        access = context.table.reserve(cls(context=context, alignment=alignment, unmap=unmap))
        try:
            if ioas is not None:
                access.attach(ioas)
        except BaseException:
            context.table.abort(access)
            raise
        access.hold()  # user space cannot destroy what a driver of the host owns
        context.table.publish(access)
        return access

    def close(self) -> None:
        """Destroy it, for whoever made it; it holds no pins any more."""
        self.context.table.discard(self)

    def destroy(self) -> None:
        """Leave the IOAS."""
        self.detach()

    def attach(self, ioas: Ioas) -> None:
        """Begin to work on an IOAS. Raises AddressInUse."""
        ioas.add_access(self)
        self.ioas = ioas

    def detach(self) -> None:
        """Let go of everything."""
        old, self.ioas = self.ioas, None
        if old is not None:
            self._leave(old)

    def replace(self, ioas: Ioas) -> None:
        """Work on another IOAS; what is pinned is let go. Raises AddressInUse, and then nothing has changed."""
        old = self.ioas
        if old is ioas:
            return
        ioas.add_access(self)
        self.ioas = None
        if old is not None:
            self._leave(old)
        self.ioas = ioas

    def _leave(self, old: Ioas) -> None:
        if self.unmap is not None:
            self.ioas = old  # what it unpins now is of the old one
            self.unmap(0, U64_MAX)
            self.ioas = None
        old.remove_access(self)

    def notify_unmap(self, iova: int, length: int) -> None:
        """Ask it to let go of a range."""
        if self.unmap is not None:
            self.unmap(iova, length)

    def pin(self, iova: int, length: int, *, write: bool = False, lock: bool = False) -> list[Extent]:
        """Pin what maps a range, and give the pages in order. ``lock``: nobody can unmap it meanwhile.

        Raises Invalid (empty, not whole pages, a dma-buf), Overflow, NotThere (a hole), NotPermitted, BadAddress,
        NoMemory; then nothing is pinned.
        """
        last = checked_last(iova, length)
        pinned: list[tuple[Area, int, int]] = []
        found: list[Extent] = []
        try:
            for area, start, end in self._covered(iova, last):
                self._check_pinnable(area, start, end, last, write=write)
                first_page, last_page = _pages(area, start, end)
                area.pages.hold(first_page, last_page)
                area.accesses += 1
                area.locks += lock
                pinned.append((area, start, end))
                found.extend(area.pages.extents(first_page, last_page))
        except BaseException:
            for area, start, end in pinned:
                _let_go(area, start, end, lock=lock)
            raise
        return found

    def unpin(self, iova: int, length: int, *, lock: bool = False) -> None:
        """Undo one `pin` of exactly this range."""
        if self.ioas is None:
            return
        last = checked_last(iova, length)
        for area in self.ioas.space.areas.within(iova, last):
            _let_go(area, max(area.start, iova), min(area.last, last), lock=lock)

    def _check_pinnable(self, area: Area, start: int, end: int, last: int, *, write: bool) -> None:
        if area.leaving or area.byte_of(start) % PAGE_SIZE or (end != last and (area.byte_of(end) + 1) % PAGE_SIZE):
            raise Invalid("mapping", "IOVA", start, "whole pages, and not being unmapped")
        _check_right(area, write=write)
        if isinstance(area.pages, DmaBufPages):
            raise Invalid("mapping", "IOVA", start, "memory, not a dma-buf")
        if write and not area.pages.writable:
            raise NotPermitted("mapping", "IOVA", start, "writable")

    def read(self, process: UserProcess, iova: int, length: int, *, slow: bool = False) -> Iterator[bytes]:
        """Read, piece by piece, what maps a range. Raises as `write`, after the pieces before the one at fault."""
        last = checked_last(iova, length)
        for area, start, end in self._covered(iova, last):
            self._check_reachable(area, write=False)
            yield _read_area(area, process, start, end - start + 1, slow=slow)

    def write(self, process: UserProcess, iova: int, data: bytes, *, slow: bool = False) -> None:
        """Write to what maps a range; what precedes the fault is written.

        Raises Invalid, Overflow, NotThere, NotPermitted, BadAddress.
        """
        last = checked_last(iova, len(data))
        for area, start, end in self._covered(iova, last):
            self._check_reachable(area, write=True)
            _write_area(area, process, start, data[start - iova : end - iova + 1], slow=slow)

    def _check_reachable(self, area: Area, *, write: bool) -> None:
        allocation_point("access to a mapping", errno.EINVAL)
        if area.leaving:
            raise Invalid("mapping", "IOVA", area.start, "not being unmapped")
        _check_right(area, write=write)
        if isinstance(area.pages, DmaBufPages):
            raise Invalid("mapping", "IOVA", area.start, "memory, not a dma-buf")
        if write and not area.pages.writable:
            raise NotPermitted("mapping", "IOVA", area.start, "writable")

    def _covered(self, iova: int, last: int) -> Iterator[tuple[Area, int, int]]:
        """Give the areas of a range and what of them is in it, up to a hole. Raises NotThere there."""
        if self.ioas is None:
            raise NotThere(self.title, "IOAS", bound="attached")
        for area in self.ioas.space.areas.within(iova, last):
            if area.start > iova:
                break
            end = min(area.last, last)
            yield area, iova, end
            iova = end + 1
        if iova <= last:
            raise NotThere(self.ioas.title, "IOVA", iova, "mapped")


def _check_right(area: Area, *, write: bool) -> None:
    right = Prot.WRITE if write else Prot.READ
    if right not in area.prot:
        raise NotPermitted("mapping", "IOVA", area.start, "writeable" if write else "readable")


def _pages(area: Area, start: int, end: int) -> tuple[int, int]:
    return area.byte_of(start) // PAGE_SIZE, area.byte_of(end) // PAGE_SIZE


def _let_go(area: Area, start: int, end: int, *, lock: bool) -> None:
    area.pages.let_go(*_pages(area, start, end))
    area.accesses -= 1
    area.locks -= lock


def _read_area(area: Area, process: UserProcess, iova: int, length: int, *, slow: bool) -> bytes:
    pages, at = area.pages, area.byte_of(iova)
    if _goes_by_address(pages, process, at, length, slow=slow):
        data = pages.source.read(pages.address(at), length)
        if data is None:
            raise BadAddress("mapping", "IOVA", iova, "backed by readable user memory")
        return data
    with _held(pages, at, length):
        return pages.read(at, length)


def _write_area(area: Area, process: UserProcess, iova: int, data: bytes, *, slow: bool) -> None:
    pages, at = area.pages, area.byte_of(iova)
    if _goes_by_address(pages, process, at, len(data), slow=slow):
        if not pages.source.write(pages.address(at), data):
            raise BadAddress("mapping", "IOVA", iova, "backed by writable user memory")
        return
    with _held(pages, at, len(data)):
        pages.write(at, data)


def _goes_by_address(pages: Pages, process: UserProcess, at: int, length: int, *, slow: bool) -> bool:
    """Say whether user addresses are used: in the mapping process, and for a single page of a live other one."""
    if not isinstance(pages, UserPages):
        return False
    if pages.source is process and not slow:
        return True
    is_one_page = at // PAGE_SIZE == (at + length - 1) // PAGE_SIZE
    return is_one_page and pages.source.alive


@contextmanager
def _held(pages: Pages, at: int, length: int) -> Iterator[None]:
    """Hold pages for one copy, as the kernel's slow path pins them."""
    first, last = at // PAGE_SIZE, (at + length - 1) // PAGE_SIZE
    pages.hold(first, last)
    try:
        yield
    finally:
        pages.let_go(first, last)
