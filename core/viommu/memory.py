"""The physical memory of a machine: backings in long aligned runs, page identity, and pins."""

from __future__ import annotations

import mmap
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from operator import attrgetter
from threading import RLock
from typing import TYPE_CHECKING

from viommu import _engine
from viommu.addresses import PAGE_SIZE, Pa, align_down
from viommu.backing import (
    OWN_MEMORY,
    AddressSpace,
    Backing,
    Segment,
    View,
    source_at,
    window_of_buffer,
    window_of_file,
)
from viommu.errors import BadValue, Misaligned, NotBacked, NotPinned, OutOfRange
from viommu.frames import FrameAllocator
from viommu.pin_counts import PinCounts

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from viommu.backing import BufferLike, PageId, Source, Window
    from viommu.own_memory import Mapping

__all__ = ["PhysicalMemory"]

FIRST_RUN = 1 << 32
"""Where allocation begins: above the holes, MMIO and interrupt ranges that machines keep below 4 GiB."""

Mapper = Callable[[int, int, int], None]
"""Makes [start, end) of a source appear at a physical address: (pa, start, end)."""


class PhysicalMemory:
    """One physical address space (bytes everywhere).

    Each ``add_...`` gives a `View`: physical addresses for what was handed in. Pages that are backed already,
    because they are the same pages of a file or of this process, keep the addresses they have. A view that is
    released leaves its backing alive for as long as pages of it are pinned.

    A file must not shrink while it is backed: the system would kill the process at the next access.
    """

    def __init__(self, *, address_bits: int = 48) -> None:
        """``address_bits`` bounds what is handed out, not what can be placed."""
        if not 33 <= address_bits <= 64:
            raise OutOfRange("physical address bits", address_bits, 64, 33)
        self._engine = _engine.Memory()
        self._frames = FrameAllocator(FIRST_RUN, address_bits)
        self._backings: list[Backing] = []  # ascending by start
        self._by_source: dict[Source, list[Backing]] = {}
        self._lock = RLock()
        self.watcher: Callable[[int, int, int], None] | None = None
        """Called after each 64-bit word that `write` or `store` changed: (pa, old value, new value)."""

    @property
    def engine(self) -> _engine.Memory:
        """The engine's face of this memory, which walks read."""
        return self._engine

    def add_ram(self, size: int) -> View:
        """Give the machine ``size`` bytes of RAM, all zeros, in an anonymous mapping. Raises Misaligned, OutOfRange."""
        if size <= 0:
            raise OutOfRange("size of RAM", size, (1 << 64) - 1, PAGE_SIZE)
        if size % PAGE_SIZE:
            raise Misaligned("size of RAM", size, PAGE_SIZE)
        return self.add_buffer(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))

    def add_buffer(self, buffer: BufferLike, *, writable: bool = True) -> View:
        """Back by a NumPy array, an anonymous mapping, any contiguous buffer; it is held, not copied.

        Raises BadValue, Misaligned (address and length are multiples of 8).
        """
        return self._add_window(window_of_buffer(buffer, writable=writable), writable)

    def pin_own(self, address: int, length: int, *, writable: bool = True, mapping: Mapping | None = None) -> View:
        """Back by what lies at an address of this process, and pin all of it; who calls keeps it there.

        ``mapping``: what is known to lie at the address. Raises BadValue, Misaligned.
        """
        if (address | length) % PAGE_SIZE:
            raise Misaligned("address and length in this process", address | length, PAGE_SIZE)
        source, position = source_at(address, length, mapping)

        def mapped(pa: int, start: int, end: int) -> None:
            self._engine.map_address(pa, address + start - position, end - start, writable=writable)

        return self._add(source, position, length, mapped, writable=writable, pinned=True)

    def add_file(self, fd: int, offset: int = 0, length: int | None = None, *, writable: bool = True) -> View:
        """Back by a stretch of a memfd or regular file (``length`` None: to its end), mapped shared.

        Raises BadValue, Misaligned, OutOfRange, OSError.
        """
        return self._add_window(window_of_file(fd, offset, length, writable=writable), writable)

    def add_remote(
        self,
        space: AddressSpace,
        address: int,
        length: int,
        load: Callable[[int], int | None],
        compare_exchange: Callable[[int, int, int], bool | None],
    ) -> View:
        """Back by memory of another process, reached word by word; the functions take *its* addresses.

        ``load`` gives a 64-bit word, ``compare_exchange(address, expected, desired)`` whether it stored; None aborts.
        """

        def mapped(pa: int, start: int, end: int) -> None:
            self._engine.map_callback(
                pa,
                end - start,
                lambda at: load(at - pa + start),
                lambda at, expected, desired: compare_exchange(at - pa + start, expected, desired),
            )

        for what, value in (("address", address), ("length", length)):
            if value % PAGE_SIZE:
                raise Misaligned(f"{what} of {space.name}", value, PAGE_SIZE)
        return self._add(space, address, length, mapped, writable=True)

    def place(self, pa: int, buffer: BufferLike, *, writable: bool = True) -> View:
        """Make a buffer appear at exactly ``pa``, as a capture does. Raises MemoryOverlap, BadValue, Misaligned."""
        window = window_of_buffer(buffer, writable=writable)
        length = window.data.size
        if pa % 8:
            raise Misaligned("physical address", pa, 8)
        if not 0 <= pa <= (1 << 64) - length:
            raise OutOfRange("physical address", pa, (1 << 64) - length)
        with self._lock:
            self._frames.reserve(pa, length)
            self._engine.map(pa, window.data.data, writable=writable)
            # Placed by address, so that the same array may be placed twice: it has no identity to be found by.
            backing = Backing(Pa(pa), length, OWN_MEMORY, window.data.ctypes.data, writable, views=1)
            self._publish(backing)
            return View((Segment(backing, Pa(pa), length),), length)

    def release(self, view: View) -> None:
        """Let go of a view; its frames are freed when no other view and no pin holds them."""
        with self._lock:
            if view.released:
                return
            view.released = True
            for segment in view.segments:
                segment.backing.views -= 1
                self._settle(segment.backing)

    def pin(self, pa: int, length: int = PAGE_SIZE) -> None:
        """Hold the pages that the range touches, once more. Raises NotBacked, and then nothing is pinned."""
        with self._lock:
            for backing, start, end in self._pieces(pa, length):
                backing.pins.add(*backing.pages(start, end))

    def pin_view(self, view: View) -> None:
        """Hold all pages of a view once more."""
        with self._lock:
            for segment in view.segments:
                backing = segment.backing
                first, last = backing.pages(segment.pa, segment.pa + segment.length)
                if backing.pins.total:
                    backing.pins.add(first, last)
                else:
                    backing.pins = PinCounts(first, last)

    def unpin(self, pa: int, length: int = PAGE_SIZE) -> None:
        """Undo one `pin` of the range. Raises NotBacked or NotPinned, and then nothing is unpinned."""
        with self._lock:
            pieces = self._pieces(pa, length)
            for backing, start, end in pieces:
                first, last = backing.pages(start, end)
                unpinned = backing.pins.unpinned(first, last)
                if unpinned is not None:
                    raise NotPinned((start & -PAGE_SIZE) + (unpinned - first) * PAGE_SIZE)
            for backing, start, end in pieces:
                backing.pins.remove(*backing.pages(start, end))
                self._settle(backing)

    def pins(self, pa: int) -> int:
        """Count the pins of the page that holds ``pa``. Raises NotBacked."""
        with self._lock:
            backing = self._backing_at(pa)
            return backing.pins[backing.pages(pa, pa + 1)[0]]

    def page_id(self, pa: int) -> PageId:
        """Say which page holds ``pa``: (device, inode, offset) or (address space, address). Raises NotBacked."""
        with self._lock:
            return self._backing_at(pa).page_id(pa)

    def read(self, pa: int, length: int) -> bytes | None:
        """Give the bytes, or None where any of them lies in a hole."""
        return self._engine.read(pa, length)

    def write(self, pa: int, data: Buffer) -> bool:
        """Store the bytes; False, and nothing stored, where any lies in a hole or is read-only."""
        if self.watcher is not None:
            return self._watched_write(self.watcher, pa, memoryview(data).cast("B"))
        return self._engine.write(pa, data)

    def load(self, pa: int) -> int | None:
        """Give the 64-bit word at ``pa`` (a multiple of 8), or None in a hole."""
        return self._engine.load(pa)

    def store(self, pa: int, value: int) -> bool:
        """Store a 64-bit word; False in a hole or where memory is read-only."""
        return self.write(pa, value.to_bytes(8, "little"))

    def compare_exchange(self, pa: int, expected: int, desired: int) -> bool | None:
        """Store a 64-bit word if it is as expected, in one step, as an atomic operation of a device does.

        Gives whether it was; None in a hole or where memory is read-only.
        """
        stored = self._engine.compare_exchange(pa, expected, desired)
        if stored and self.watcher is not None and expected != desired:
            self.watcher(pa, expected, desired)
        return stored

    def _watched_write(self, watcher: Callable[[int, int, int], None], pa: int, data: memoryview) -> bool:
        words = range(align_down(pa, 8), pa + len(data), 8)
        before = [self._engine.load(word) for word in words]
        if not self._engine.write(pa, data):
            return False
        for word, was in zip(words, before, strict=True):
            now = self._engine.load(word)
            if was is not None and now is not None and was != now:
                watcher(word, was, now)
        return True

    def _add_window(self, window: Window, writable: bool) -> View:
        def mapped(pa: int, start: int, end: int) -> None:
            self._engine.map(pa, window.part(start, end).data, writable=writable)

        return self._add(window.source, window.position, window.data.size, mapped, writable=writable)

    def _add(
        self, source: Source, position: int, length: int, mapper: Mapper, *, writable: bool, pinned: bool = False
    ) -> View:
        with self._lock:
            known = self._by_source.setdefault(source, [])
            at = bisect_right(known, position, key=_position)
            end = position + length
            try:
                if (at and known[at - 1].position_end > position) or (at < len(known) and known[at].position < end):
                    return self._add_pieces(source, known, position, length, mapper, writable, pinned)
                pins = PinCounts(0, -(-length // PAGE_SIZE) if pinned else 0)
                new = self._new_backing(source, known, at, position, end, mapper, writable, pins)
            except BaseException:
                if not known:
                    self._by_source.pop(source, None)
                raise
            new.views = 1
            return View((Segment(new, new.start, length),), length)

    def _add_pieces(
        self,
        source: Source,
        known: list[Backing],
        position: int,
        length: int,
        mapper: Mapper,
        writable: bool,
        pinned: bool,
    ) -> View:
        """Add a stretch of which some is backed."""
        segments: list[Segment] = []
        try:
            pieces = _split(known, position, position + length)
            _refuse_odd_cuts(pieces)
            if writable:
                _refuse_read_only(pieces)
            for backing, start, end in pieces:
                at = bisect_right(known, start, key=_position)
                whole = backing or self._new_backing(source, known, at, start, end, mapper, writable, PinCounts())
                whole.views += 1
                segments.append(Segment(whole, Pa(whole.start + start - whole.position), end - start))
        except BaseException:
            self.release(View(tuple(segments), length))
            raise
        view = View(tuple(segments), length)
        if pinned:
            self.pin_view(view)
        return view

    def _new_backing(
        self,
        source: Source,
        known: list[Backing],
        at: int,
        start: int,
        end: int,
        mapper: Mapper,
        writable: bool,
        pins: PinCounts,
    ) -> Backing:
        pa = self._frames.allocate(end - start)
        try:
            mapper(pa, start, end)
        except BaseException:
            self._frames.free(pa)
            raise
        backing = Backing(pa, end - start, source, start, writable, 0, pins)
        self._publish(backing)
        known.insert(at, backing)
        return backing

    def _publish(self, backing: Backing) -> None:
        if not self._backings or self._backings[-1].start < backing.start:  # addresses are mostly given in order
            self._backings.append(backing)
            return
        self._backings.insert(bisect_right(self._backings, backing.start, key=_start), backing)

    def _settle(self, backing: Backing) -> None:
        """Forget what nobody holds."""
        if not backing.views and isinstance(backing.source, AddressSpace):
            # The address may come to mean other memory from now on, even while a pin keeps these pages.
            self._forget_identity(backing)
        if not backing.in_use:
            self._forget_identity(backing)
            del self._backings[bisect_left(self._backings, backing.start, key=_start)]
            self._engine.unmap(backing.start, backing.length)
            self._frames.free(backing.start)

    def _forget_identity(self, backing: Backing) -> None:
        known = self._by_source.get(backing.source, [])
        index = bisect_left(known, backing.position, key=_position)
        if known[index : index + 1] == [backing]:
            del known[index]
        if not known:
            self._by_source.pop(backing.source, None)

    def backing_of(self, pa: int) -> Backing | None:
        """Give the backing that holds ``pa``; None in a hole."""
        with self._lock:
            index = bisect_right(self._backings, pa, key=_start) - 1
            return None if index < 0 or pa >= self._backings[index].end else self._backings[index]

    def _backing_at(self, pa: int) -> Backing:
        backing = self.backing_of(pa)
        if backing is None:
            raise NotBacked(pa, 1)
        return backing

    def _pieces(self, pa: int, length: int) -> list[tuple[Backing, int, int]]:
        """Cut the range at the ends of backings: (backing, start, end)."""
        if length <= 0:
            raise OutOfRange("length to pin", length, (1 << 64) - 1, 1)
        pieces: list[tuple[Backing, int, int]] = []
        start, end = pa, pa + length
        while start < end:
            backing = self._backing_at(start)
            pieces.append((backing, start, min(end, backing.end)))
            start = backing.end
        return pieces


def _refuse_read_only(pieces: list[tuple[Backing | None, int, int]]) -> None:
    if any(backing and not backing.writable for backing, _, _ in pieces):
        raise BadValue("view", "writable", "allowed: its pages are backed read-only; release that view first")


_start = attrgetter("start")
_position = attrgetter("position")


def _split(known: list[Backing], start: int, end: int) -> list[tuple[Backing | None, int, int]]:
    """Cut a stretch of a source into pieces: those that are backed, and, with None, those that are not yet."""
    first = bisect_right(known, start, key=_position)
    if first and known[first - 1].position_end > start:
        first -= 1
    pieces: list[tuple[Backing | None, int, int]] = []
    while start < end and first < len(known) and known[first].position < end:
        backing = known[first]
        if start < backing.position:
            pieces.append((None, start, backing.position))
            start = backing.position
        pieces.append((backing, start, min(end, backing.position_end)))
        start = min(end, backing.position_end)
        first += 1
    if start < end:
        pieces.append((None, start, end))
    return pieces


def _refuse_odd_cuts(pieces: list[tuple[Backing | None, int, int]]) -> None:
    """Refuse to split a page between two runs: it would have two physical addresses."""
    for _, start, _ in pieces[1:]:
        if start % PAGE_SIZE:
            raise Misaligned("edge of the part that is backed already", start, PAGE_SIZE)
