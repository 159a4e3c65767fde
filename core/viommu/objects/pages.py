"""Pinned page storage: pages of user memory, of a file or of a dma-buf, pinned once however many areas share them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from attrs import define, field

from viommu.addresses import PAGE_SIZE
from viommu.iommufd.user_memory import PinnableFile
from viommu.kernel_errors import BadAddress, Invalid, NoMemory, Overflow
from viommu.objects.context import Accounting
from viommu.objects.failure import allocation_point
from viommu.objects.intervals import U64_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from viommu.iommufd.user_memory import Account, PageRun, UserProcess


class Extent(NamedTuple):
    """Pages ``first`` to ``first + count - 1`` of a run: neighbours in physical memory."""

    run: PageRun
    first: int
    count: int  # type: ignore[assignment]  # not the tuple's method, which nobody wants of three values

    @property
    def frame(self) -> int:
        """Physical page number of the first page."""
        return self.run.frame + self.first

    def part(self, first: int, count: int) -> Extent:
        """Give pages of it, counted from its own first."""
        return self if count == self.count else Extent(self.run, self.first + first, count)


@define(eq=False)
class Segment:
    """Neighbouring pages of one storage that equally many want; pinned as long as anybody does."""

    start: int
    last: int
    wanted: int
    extents: tuple[Extent, ...]

    def cut(self, index: int) -> Segment:
        """Keep what lies below a page, and give the rest."""
        below, above = _split(self.extents, index - self.start)
        rest = Segment(index, self.last, self.wanted, above)
        self.last, self.extents = index - 1, below
        return rest


@define(eq=False)
class Pages:
    """One storage. Pages count from 0; ``writable``: they are pinned for writing.

    ``source`` is the process that pays, and whose memory it is. Areas that share the storage count in ``users``.
    """

    source: UserProcess
    count: int
    writable: bool
    accounting: Accounting | None
    users: int = 0
    _segments: list[Segment] = field(factory=list)  # ascending, without those that nobody wants

    is_file = False

    def pin(self, first: int, count: int) -> Sequence[PageRun]:
        """Pin pages at their source. Raises BadAddress, Invalid, NoDevice."""
        raise NotImplementedError

    def address(self, start_byte: int) -> int:
        """Say where a byte lies at its source; automatic placement keeps its alignment."""
        raise NotImplementedError

    def hold(self, first: int, last: int) -> None:
        """Want pages: pin those that nobody wanted. Raises BadAddress, NoMemory, Invalid; then nothing has changed."""
        if not self._segments:
            self._segments.append(self._pinned(first, last))
            return
        new: list[Segment] = []
        try:
            for start, end in list(self._missing(first, last)):
                new.append(self._pinned(start, end))
        except BaseException:
            for segment in new:
                self._unpin(segment)
            raise
        self._cut_at(first, last)
        for segment in self._within(first, last):
            segment.wanted += 1
        self._segments.extend(new)
        self._segments.sort(key=lambda segment: segment.start)

    def let_go(self, first: int, last: int) -> None:
        """Want pages no more: unpin those that nobody wants now."""
        if len(self._segments) != 1 or (self._segments[0].start, self._segments[0].last) != (first, last):
            self._cut_at(first, last)
        for segment in self._within(first, last):
            segment.wanted -= 1
            if not segment.wanted:
                self._segments.remove(segment)
                self._unpin(segment)

    def extents(self, first: int, last: int) -> Sequence[Extent]:
        """Give pages that are pinned, in order."""
        if len(self._segments) == 1 and (only := self._segments[0]).start == first and only.last == last:
            return only.extents
        found: list[Extent] = []
        for segment in self._within(first, last):
            found.extend(_cut_out(segment.extents, first - segment.start, last - segment.start))
        return found

    def read(self, start_byte: int, length: int) -> bytes:
        """Read pinned pages."""
        return b"".join(extent.run.read(at, size) for extent, at, size in self._pieces(start_byte, length))

    def write(self, start_byte: int, data: bytes) -> None:
        """Write pinned pages."""
        done = 0
        for extent, at, size in self._pieces(start_byte, len(data)):
            extent.run.write(at, data[done : done + size])
            done += size

    @property
    def pinned(self) -> int:
        """How many pages are pinned."""
        return sum(segment.last - segment.start + 1 for segment in self._segments)

    def _pieces(self, start_byte: int, length: int) -> Iterator[tuple[Extent, int, int]]:
        """Cut bytes at the ends of extents: (extent, offset into its run, size)."""
        end = start_byte + length
        at = start_byte
        for extent in self.extents(start_byte // PAGE_SIZE, (end - 1) // PAGE_SIZE):
            inside = at % PAGE_SIZE
            size = min(extent.count * PAGE_SIZE - inside, end - at)
            yield extent, extent.first * PAGE_SIZE + inside, size
            at += size

    def _pinned(self, first: int, last: int) -> Segment:
        count = last - first + 1
        allocation_point("pages to pin", errno.EFAULT)
        extents = tuple([Extent(run, 0, run.count) for run in self.pin(first, count)])  # a generator costs more
        segment = Segment(first, last, 1, extents)
        try:
            charge(self.source.account, self.accounting, count)
        except BaseException:
            _unpin_extents(segment.extents)
            raise
        return segment

    def _unpin(self, segment: Segment) -> None:
        _unpin_extents(segment.extents)
        charge(self.source.account, self.accounting, segment.start - segment.last - 1)

    def _missing(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        for segment in self._segments:
            if segment.start > last:
                break
            if segment.start > first:
                yield first, segment.start - 1
            first = max(first, segment.last + 1)
        if first <= last:
            yield first, last

    def _within(self, first: int, last: int) -> list[Segment]:
        return [segment for segment in self._segments if segment.start <= last and segment.last >= first]

    def _cut_at(self, first: int, last: int) -> None:
        """Let no segment lie across an end of [first, last]."""
        for index in (first, last + 1):
            for position, segment in enumerate(self._segments):
                if segment.start < index <= segment.last:
                    self._segments.insert(position + 1, segment.cut(index))
                    break


@define(eq=False)
class UserPages(Pages):
    """Memory of the mapping process, from a page-aligned address."""

    user_address: int = 0

    def pin(self, first: int, count: int) -> Sequence[PageRun]:
        """Pin pages of the process."""
        address = self.user_address + first * PAGE_SIZE
        runs = self.source.pin(address, count, self.writable)
        if runs is None and address + count * PAGE_SIZE > U64_MAX:
            raise Overflow("mapping", "user_va", address, "pages that end below 2^64")
        if runs is None:
            right = "writable" if self.writable else "readable"
            raise BadAddress("mapping", "user_va", address, f"{count} {right} pages of a live process")
        return runs

    def address(self, start_byte: int) -> int:
        """Say where a byte lies."""
        return self.user_address + start_byte


@define(eq=False)
class FilePages(Pages):
    """A stretch of a file, from a page-aligned offset."""

    file: object = None
    file_offset: int = 0

    is_file = True

    def pin(self, first: int, count: int) -> Sequence[PageRun]:
        """Pin pages of the file."""
        offset = self.file_offset + first * PAGE_SIZE
        if not isinstance(self.file, PinnableFile):
            raise Invalid("mapping", "fd", type(self.file).__name__, "a memfd, or a file of a memory file system")
        runs = self.file.pin(offset, count, self.writable)
        if runs is None:
            raise Invalid("mapping", "start", offset, f"{count} pages before the end of the file")
        return runs

    def address(self, start_byte: int) -> int:
        """Say where a byte lies."""
        return self.file_offset + start_byte


@runtime_checkable
class DmaBuf(Protocol):
    """A buffer of some device that other devices may reach. Its importer must let go when it is revoked."""

    @property
    def size(self) -> int:
        """Its length in bytes."""

    def attach(self, revoked: Callable[[], None]) -> None:
        """Begin to import; ``revoked`` is called when mappings must go. Raises NoDevice, Unsupported."""

    def detach(self, revoked: Callable[[], None]) -> None:
        """Stop importing."""

    def extent(self) -> PageRun | None:
        """Give its physical memory; None while it is revoked."""


@define(eq=False)
class DmaBufPages(Pages):
    """A stretch of a dma-buf: never pinned page by page, never read by the core, gone when it is revoked."""

    buffer: DmaBuf | None = None
    file_offset: int = 0
    revoked: bool = False
    attached: bool = False
    unmappers: list[Callable[[], None]] = field(factory=list)

    def attach(self) -> None:
        """Begin to import. Raises NoDevice, Unsupported."""
        if self.buffer is not None:
            self.buffer.attach(self.revoke)
            self.attached = True

    def detach(self) -> None:
        """Stop importing, if that has not happened yet."""
        if self.buffer is not None and self.attached:
            self.attached = False
            self.buffer.detach(self.revoke)

    def revoke(self) -> None:
        """Let every domain forget the buffer, for good."""
        self.revoked = True
        for unmap in self.unmappers:
            unmap()

    def hold(self, first: int, last: int) -> None:
        """Nothing is pinned."""

    def let_go(self, first: int, last: int) -> None:
        """Nothing was pinned."""

    def extents(self, first: int, last: int) -> Sequence[Extent]:
        """Give pages, as long as the buffer is not revoked."""
        run = None if self.revoked or self.buffer is None else self.buffer.extent()
        if run is None:
            return ()
        return (Extent(run, self.file_offset // PAGE_SIZE + first, last - first + 1),)

    def address(self, start_byte: int) -> int:
        """Say where a byte lies."""
        return self.file_offset + start_byte


def move_all(storages: Iterable[Pages], process: UserProcess) -> None:
    """Let another process pay for storages, and own them. Raises NoMemory at its limit; then nothing has changed."""
    moving = [pages for pages in storages if pages.source is not process]
    charged: list[Pages] = []
    try:
        for pages in moving:
            charge(process.account, pages.accounting, pages.pinned)
            charged.append(pages)
    except BaseException:
        for pages in charged:
            charge(process.account, pages.accounting, -pages.pinned)
        raise
    for pages in moving:
        charge(pages.source.account, pages.accounting, -pages.pinned)
        pages.source = process


def charge(account: Account, accounting: Accounting | None, pages: int) -> None:
    """Count pages for (or, below zero, off) a process. Raises NoMemory at its limit."""
    if pages > 0:
        allocation_point("accounting of pinned pages")
        _check_limit(account, accounting, pages)
    if accounting is Accounting.USER:
        account.user.locked += pages
    elif accounting is Accounting.MM:
        account.locked += pages
    account.pinned += pages


def _check_limit(account: Account, accounting: Accounting | None, pages: int) -> None:
    if accounting is None or account.limit is None:
        return
    locked = account.user.locked if accounting is Accounting.USER else account.locked
    if locked + pages > account.limit:
        raise NoMemory("RLIMIT_MEMLOCK", "pages", locked + pages, f"at most {account.limit:#x}")


def _unpin_extents(extents: tuple[Extent, ...]) -> None:
    for extent in extents:
        extent.run.unpin(extent.first, extent.count)


def _split(extents: tuple[Extent, ...], count: int) -> tuple[tuple[Extent, ...], tuple[Extent, ...]]:
    """Divide extents after so many pages."""
    below: list[Extent] = []
    for index, extent in enumerate(extents):
        if count < extent.count:
            rest = extents[index + 1 :]
            if count == 0:
                return tuple(below), (extent, *rest)
            return (*below, extent.part(0, count)), (extent.part(count, extent.count - count), *rest)
        below.append(extent)
        count -= extent.count
    return tuple(below), ()


def _cut_out(extents: tuple[Extent, ...], first: int, last: int) -> Iterator[Extent]:
    """Give pages first to last of extents, where they have them."""
    at = 0
    for extent in extents:
        start, end = max(first - at, 0), min(last - at, extent.count - 1)
        if start <= end:
            yield extent.part(start, end - start + 1)
        at += extent.count
        if at > last:
            return
