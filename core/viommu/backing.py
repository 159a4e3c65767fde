"""Backings: what stands behind runs of physical addresses, and which page is which."""

from __future__ import annotations

import mmap
import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from weakref import WeakValueDictionary

import numpy as np
from attrs import define, field, frozen

from viommu import _engine
from viommu.addresses import PAGE_SIZE, Pa
from viommu.errors import BadValue, Misaligned, OutOfRange
from viommu.own_memory import SHARED, mapping_at
from viommu.pin_counts import PinCounts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from typing_extensions import Buffer

    from viommu.own_memory import Mapping

__all__ = [
    "AddressSpace",
    "BufferLike",
    "PageId",
    "Segment",
    "View",
]

BufferLike: TypeAlias = "Buffer | NDArray[Any]"
"""Anything contiguous that lends its bytes."""

WORD = 8


class FileSource(NamedTuple):
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
    pins: PinCounts = field(factory=PinCounts)

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
        return bool(self.views or self.pins.total)

    def page_id(self, pa: int) -> PageId:
        """Identify the page that holds ``pa``."""
        position = self.position + (pa - self.start)
        return PageId(self.source, position & -PAGE_SIZE)

    def pages(self, start: int, end: int) -> tuple[int, int]:
        """Give the pages that [start, end) touches, as ``pins`` counts them: the first, and the one after the last."""
        base = self.start // PAGE_SIZE
        return start // PAGE_SIZE - base, (end - 1) // PAGE_SIZE - base + 1


class Segment(NamedTuple):
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

    def pa(self, offset: int = 0) -> Pa:
        """Give the physical address of the byte at ``offset``. Raises OutOfRange."""
        if not 0 <= offset < self.length:
            raise OutOfRange("offset in a view", offset, self.length - 1)
        for segment in self.segments:
            if offset < segment.length:
                return Pa(segment.pa + offset)
            offset -= segment.length
        raise AssertionError("segments are shorter than the view")

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
    source, position = source_at(address, data.size)
    return Window(source, position, data)


def source_at(address: int, length: int, mapping: Mapping | None = None) -> tuple[Source, int]:
    """Say which stretch of which source an address of this process means: a file, where all is one shared mapping.

    ``mapping``: what is known to lie there.
    """
    if (address | length) % PAGE_SIZE:
        return OWN_MEMORY, address
    found = mapping or mapping_at(address)
    if found is not None and found.flags & SHARED and found.inode and address + length <= found.end:
        return FileSource(found.device, found.inode), found.offset + address - found.start
    return OWN_MEMORY, address


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
    source = FileSource(status.st_dev, status.st_ino)
    return Window(source, offset, _mapped(fd, source, status.st_size, offset, length, writable=writable))


CHUNK = 32 << 20
"""Bytes of a file that are mapped at once: whoever hands in page after page has few mappings, and few descriptors."""

_chunks: WeakValueDictionary[tuple[FileSource, int, bool], _engine.FileMapping] = WeakValueDictionary()
"""What is mapped of files, as long as it is in use, by source, start and rights."""


def _mapped(fd: int, source: FileSource, size: int, offset: int, length: int, *, writable: bool) -> NDArray[np.uint8]:
    start = offset - offset % CHUNK
    if offset + length > start + CHUNK:
        return _as_bytes(_engine.FileMapping(fd, offset, length, writable))
    chunk = _chunk(fd, (source, start, writable), min(CHUNK, size - start), offset + length - start)
    return _as_bytes(chunk)[offset - start : offset - start + length]


def _chunk(fd: int, key: tuple[FileSource, int, bool], length: int, wanted: int) -> _engine.FileMapping:
    """Map a chunk, unless it is mapped; anew where the file has grown, or was cut short, since."""
    _, start, writable = key
    chunk = _chunks.get(key)
    if chunk is None or wanted > memoryview(chunk).nbytes or not chunk.is_whole:
        chunk = _chunks[key] = _engine.FileMapping(fd, start, length, writable)
    return chunk


def _as_bytes(buffer: BufferLike) -> NDArray[np.uint8]:
    view = buffer.data if isinstance(buffer, np.ndarray) else memoryview(buffer)
    if not view.c_contiguous or not view.nbytes:
        raise BadValue("buffer", f"{view.shape} with strides {view.strides}", "contiguous, or it is empty")
    return np.frombuffer(view.cast("B"), np.uint8)
