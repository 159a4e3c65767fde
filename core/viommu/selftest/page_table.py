"""The mock's page table: runs of physical memory by IOVA, and which of its entries DMA has written through."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from attrs import define, field, frozen

if TYPE_CHECKING:
    from viommu.ops import DirtyBitmap, Prot

SMALL_PAGE = 2048
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
    _dirty: list[int] = field(factory=list)  # IOVAs of entries, ascending

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
        """Mark the entry of an IOVA as DMA would; nothing where nothing is mapped."""
        run = self._run_at(iova)
        if run is not None:
            entry = iova & -self._entry_size(run, iova)
            index = bisect_left(self._dirty, entry)
            if self._dirty[index : index + 1] != [entry]:
                self._dirty.insert(index, entry)

    def read_dirty(self, iova: int, length: int, bitmap: DirtyBitmap | None, *, clear: bool) -> None:
        """Report, and forget if so wanted, the marked entries of a range, also while no marks are made."""
        meeting = self._dirty_within(iova, iova + length)
        if bitmap is not None:
            for entry in self._dirty[meeting]:
                bitmap.mark(entry, self._size_of(entry))
        if clear:
            del self._dirty[meeting]

    def _dirty_within(self, start: int, end: int) -> slice:
        """Say where the marks are of entries that meet [start, end); one may begin before it."""
        first, last = bisect_left(self._dirty, start), bisect_left(self._dirty, end)
        if first and self._dirty[first - 1] + self._size_of(self._dirty[first - 1]) > start:
            first -= 1
        return slice(first, last)

    def _size_of(self, entry: int) -> int:
        run = self._run_at(entry)
        return 0 if run is None else self._entry_size(run, entry)

    def _entry_size(self, run: Run, iova: int) -> int:
        """Say how large the entry is that maps an IOVA."""
        if not self.huge:
            return SMALL_PAGE
        start = iova & -HUGE_ENTRY
        is_whole = run.iova <= start and start + HUGE_ENTRY <= run.end
        is_aligned = (run.pa + start - run.iova) % HUGE_ENTRY == 0
        return HUGE_ENTRY if is_whole and is_aligned and run.largest is None else HUGE_TABLE_PAGE

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
