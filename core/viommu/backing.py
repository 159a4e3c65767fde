"""Backings: what stands behind runs of physical addresses, and which page is which."""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from attrs import Factory, define, field, frozen

from viommu.addresses import PAGE_SIZE, Pa
from viommu.errors import BadValue, Misaligned, OutOfRange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from typing_extensions import Buffer

BufferLike: TypeAlias = "Buffer | NDArray[Any]"
"""Anything contiguous that lends its bytes."""

WORD = 8


@frozen
class FileSource:
    """A file or shared memory: its pages are the same wherever they are mapped."""

    device: int
    inode: int


@frozen(eq=False)
class AddressSpace:
    """The private memory of one process; two are equal only if they are the same object."""

    name: str


OWN_MEMORY = AddressSpace("this process")

Source: TypeAlias = FileSource | AddressSpace


@frozen
class PageId:
    """Which page this is, however many addresses it has.

    ``offset`` is that in the file, or the address in the address space (bytes).
    """

    source: Source
    offset: int


@define(eq=False)
class Backing:
    """One run of physical addresses, all of it one stretch of one source (bytes)."""

    start: Pa
    length: int
    source: Source
    position: int
    """Where the run begins in its source: a file offset or an address."""
    writable: bool
    views: int = 0
    pin_counts: NDArray[np.uint32] | None = None
    pinned_pages: int = 0

    @property
    def end(self) -> int:
        """The first physical address after the run."""
        return self.start + self.length

    @property
    def position_end(self) -> int:
        """Where the run ends in its source."""
        return self.position + self.length

    @property
    def in_use(self) -> bool:
        """Whether a view or a pin still holds it."""
        return bool(self.views or self.pinned_pages)

    def page_id(self, pa: int) -> PageId:
        """Identify the page that holds ``pa``."""
        position = self.position + (pa - self.start)
        return PageId(self.source, position & -PAGE_SIZE)

    def pages(self, start: int, end: int) -> slice:
        """Give the indices into ``pin_counts`` of the pages that [start, end) touches."""
        base = self.start // PAGE_SIZE
        return slice(start // PAGE_SIZE - base, (end - 1) // PAGE_SIZE - base + 1)

    def counts(self) -> NDArray[np.uint32]:
        """Give how often each page is pinned; the array is made at the first need."""
        if self.pin_counts is None:
            whole = self.pages(self.start, self.end)
            self.pin_counts = np.zeros(whole.stop - whole.start, np.uint32)
        return self.pin_counts


@frozen(eq=False)
class Segment:
    """A part of a view: ``length`` bytes of one backing, from physical address ``pa`` on."""

    backing: Backing
    pa: Pa
    length: int


@define(eq=False)
class View:
    """What the caller handed in, as physical memory: one segment, or several where pages were backed before."""

    segments: tuple[Segment, ...]
    length: int
    released: bool = field(default=False, init=False)
    _starts: list[int] = field(
        init=False,
        default=Factory(lambda self: np.cumsum([0, *(s.length for s in self.segments)])[:-1].tolist(), takes_self=True),
    )

    def pa(self, offset: int = 0) -> Pa:
        """Give the physical address of the byte at ``offset``. Raises OutOfRange."""
        if not 0 <= offset < self.length:
            raise OutOfRange("offset in a view", offset, self.length - 1)
        index = int(np.searchsorted(self._starts, offset, side="right")) - 1
        return Pa(self.segments[index].pa + offset - self._starts[index])

    def runs(self) -> Iterator[tuple[Pa, int]]:
        """Give (physical address, length) of each contiguous stretch, in order."""
        for segment in self.segments:
            yield segment.pa, segment.length


@frozen(eq=False)
class Window:
    """A buffer of this process, and which stretch of which source it is."""

    source: Source
    position: int
    data: NDArray[np.uint8]

    def part(self, start: int, end: int) -> NDArray[np.uint8]:
        """Give the bytes from ``start`` to ``end``, both positions in the source."""
        return self.data[start - self.position : end - self.position]


def window_of_buffer(buffer: BufferLike, *, writable: bool) -> Window:
    """Find what a buffer is made of. Raises BadValue or Misaligned.

    Whole pages of a shared file mapping are recognised, so that two mappings of one memfd are the same pages.
    """
    data = _as_bytes(buffer)
    if writable and not data.flags.writeable:
        raise BadValue("buffer", "read-only", "writable, and writable=True was asked for")
    address = data.ctypes.data
    for what, value in (("buffer address", address), ("buffer length", data.size)):
        if value % WORD:
            raise Misaligned(what, value, WORD)
    shared = None if (address | data.size) % PAGE_SIZE else _shared_mapping(address, address + data.size)
    source, position = shared or (OWN_MEMORY, address)
    return Window(source, position, data)


def window_of_file(fd: int, offset: int, length: int | None, *, writable: bool) -> Window:
    """Map a stretch of a regular file or memfd, ``length`` None: to its end.

    Raises BadValue, OutOfRange, Misaligned, OSError.
    """
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise BadValue("file descriptor", fd, "that of a regular file or memfd")
    length = status.st_size - offset if length is None else length
    for what, value in (("file offset", offset), ("length in a file", length)):
        if value % mmap.ALLOCATIONGRANULARITY:
            raise Misaligned(what, value, mmap.ALLOCATIONGRANULARITY)
    if offset < 0 or length <= 0 or offset + length > status.st_size:
        raise OutOfRange("end of the stretch of a file", offset + length, status.st_size, offset + 1)
    access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    mapping = mmap.mmap(fd, length, mmap.MAP_SHARED, access, offset=offset)
    return Window(FileSource(status.st_dev, status.st_ino), offset, _as_bytes(mapping))


def _as_bytes(buffer: BufferLike) -> NDArray[np.uint8]:
    view = buffer.data if isinstance(buffer, np.ndarray) else memoryview(buffer)
    if not view.c_contiguous or not view.nbytes:
        raise BadValue("buffer", f"{view.shape} with strides {view.strides}", "contiguous, or it is empty")
    return np.frombuffer(view.cast("B"), np.uint8)


def _shared_mapping(start: int, end: int) -> tuple[Source, int] | None:
    """Find the file behind [start, end) of this process, if all of that is one shared mapping."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        span, rights, offset, device, inode, *_ = line.split(maxsplit=5)
        first, _, last = span.partition("-")
        if int(first, 16) <= start and end <= int(last, 16):
            if rights[3] != "s" or inode == "0":
                return None
            major, _, minor = device.partition(":")
            source = FileSource(os.makedev(int(major, 16), int(minor, 16)), int(inode))
            return source, int(offset, 16) + start - int(first, 16)
    return None
