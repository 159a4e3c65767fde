"""The mock's page table: runs of physical memory by IOVA, and which of its entries DMA has written through.

Its entries are those of the kernel's generic page table in AMD's first format: any power of two, of which those between
the sizes of two levels are stored as many items of the lower level. A mark is in one item; the whole entry counts as
written then, and is told from where the reading begins to *before* its last item.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from attrs import define, field, frozen

if TYPE_CHECKING:
    from viommu.ops import DirtyBitmap, Prot

SMALL_PAGE = 2048
SMALL_SHIFT, LEVEL_BITS = 11, 9
LARGEST_SHIFT = 36
"""An ordinary table has entries of each power of two up to this one."""
HUGE_ENTRY = 1 << 20
HUGE_TABLE_PAGE = 4096
U64_MAX = (1 << 64) - 1


@frozen
class Run:
    """One stretch that is mapped to physical neighbours."""

    iova: int
    pa: int
    length: int
    largest: int | None

    @property
    def end(self) -> int:
        """The first IOVA after it."""
        return self.iova + self.length

    def part(self, start: int, end: int) -> Run:
        """Give the part of it from one IOVA to another."""
        return Run(start, self.pa + start - self.iova, end - start, self.largest)


@frozen
class Entry:
    """What maps an IOVA: [``start``, ``end``), stored as items of ``item`` bytes."""

    start: int
    size: int

    @property
    def end(self) -> int:
        """The first IOVA after it."""
        return self.start + self.size

    @property
    def item(self) -> int:
        """What one item of its level covers."""
        level = (self.size.bit_length() - 1 - SMALL_SHIFT) // LEVEL_BITS
        return SMALL_PAGE << LEVEL_BITS * level

    def told(self, start: int, end: int) -> tuple[int, int]:
        """Give (IOVA, length) that a reading of [start, end) tells of it."""
        first, item = max(self.start, start), self.item
        if self.size == item:
            return first, item
        last = min(self.end // item - 1, (end - 1) // item + 1)
        return first, (last - first // item) * item


@define(eq=False)
class MockPageTable:
    """A paging domain (`viommu.ops.PagingDomain`). ``huge``: entries of 1 MiB where memory allows, else 4 KiB.

    An ordinary table has entries of 2 KiB, below the size of a page.
    """

    dirty_tracking: bool = False
    huge: bool = False
    tracking: bool = False
    _starts: list[int] = field(factory=list)
    _runs: list[Run] = field(factory=list)
    _dirty: list[int] = field(factory=list)  # IOVAs of items, ascending

    @property
    def page_sizes(self) -> int:
        """The sizes of entries, as a bitmap."""
        return HUGE_ENTRY | HUGE_TABLE_PAGE if self.huge else (1 << LARGEST_SHIFT + 1) - SMALL_PAGE

    @property
    def aperture(self) -> tuple[int, int]:
        """What can be mapped."""
        return (0, U64_MAX) if self.huge else (1 << 24, (1 << 31) - 1)

    def map(self, iova: int, pa: int, length: int, prot: Prot, largest: int | None) -> None:  # noqa: ARG002
        """Map a range. What DMA may do is not kept: mock devices make none."""
        index = bisect_left(self._starts, iova)
        self._starts.insert(index, iova)
        self._runs.insert(index, Run(iova, pa, length, largest))

    def unmap(self, iova: int, length: int) -> None:
        """Unmap a range; what lies across its ends is cut."""
        end = iova + length
        first = max(bisect_right(self._starts, iova) - 1, 0)
        last = bisect_left(self._starts, end)
        kept = [part for run in self._runs[first:last] for part in _outside(run, iova, end)]
        self._runs[first:last] = kept
        self._starts[first:last] = [run.iova for run in kept]
        del self._dirty[bisect_left(self._dirty, iova) : bisect_left(self._dirty, end)]

    def physical(self, iova: int) -> int | None:
        """Translate."""
        run = self._run_at(iova)
        return None if run is None else run.pa + iova - run.iova

    def enforce_coherency(self) -> bool:
        """Mock hardware cannot."""
        return False

    def set_dirty(self, iova: int) -> None:
        """Mark the item of an IOVA as DMA would; nothing where nothing is mapped."""
        entry = self._entry_at(iova)
        if entry is not None:
            item = iova & -entry.item
            index = bisect_left(self._dirty, item)
            if self._dirty[index : index + 1] != [item]:
                self._dirty.insert(index, item)

    def read_dirty(self, iova: int, length: int, bitmap: DirtyBitmap | None, *, clear: bool) -> None:
        """Report, and forget if so wanted, the marked entries of a range, also while no marks are made."""
        end = iova + length
        meeting = self._dirty_around(iova, end)
        if bitmap is not None:
            told = 0
            for item in self._dirty[meeting]:
                entry = self._entry_at(item) if item >= told else None
                if entry is not None:
                    bitmap.mark(*entry.told(iova, end))
                    told = entry.end
        if clear:
            del self._dirty[meeting]

    def _dirty_around(self, start: int, end: int) -> slice:
        """Say where the marks are of entries that meet [start, end)."""
        first, last = self._entry_at(start), self._entry_at(end - 1)
        low, high = start if first is None else first.start, end if last is None else last.end
        return slice(bisect_left(self._dirty, low), bisect_left(self._dirty, high))

    def _entry_at(self, iova: int) -> Entry | None:
        """Find the entry that maps an IOVA: a run is cut into the largest that fit, from its beginning on."""
        run = self._run_at(iova)
        if run is None:
            return None
        start = run.iova
        while True:
            size = self._size_at(run, start)
            if iova < start + size:
                return Entry(start, size)
            start += max((min(iova, run.end) - start) // size, 1) * size if size == self._steady(run) else size

    def _size_at(self, run: Run, start: int) -> int:
        """Say how large the entry is that begins here."""
        fits = (1 << (run.end - start).bit_length()) - 1
        return self._largest(run, start | (run.pa + start - run.iova), fits)

    def _steady(self, run: Run) -> int:
        """The size that entries in the middle of a long run have: no alignment allows a larger one."""
        return self._largest(run, run.iova ^ run.pa, U64_MAX)

    def _largest(self, run: Run, places: int, fits: int) -> int:
        """The largest size that ``places`` are multiples of, among those that fit."""
        allowed = self.page_sizes & fits & ((places & -places) * 2 - 1 if places else U64_MAX)
        if run.largest is not None:
            allowed &= run.largest * 2 - 1
        return 1 << allowed.bit_length() - 1 if allowed else SMALL_PAGE

    def _run_at(self, iova: int) -> Run | None:
        index = bisect_right(self._starts, iova) - 1
        if index < 0 or iova >= self._runs[index].end:
            return None
        return self._runs[index]


def _outside(run: Run, start: int, end: int) -> list[Run]:
    """Cut [start, end) out of a run."""
    if run.end <= start or run.iova >= end:
        return [run]
    below = [run.part(run.iova, start)] if run.iova < start else []
    above = [run.part(end, run.end)] if end < run.end else []
    return below + above
