"""Which physical addresses are taken, and where the next run of free ones lies."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

from viommu.addresses import PAGE_SIZE, Pa, align_down
from viommu.errors import MemoryOverlap, OutOfFrames

LARGE_PAGE = 1 << 21
HUGE_PAGE = 1 << 30

GUARD = PAGE_SIZE
"""Runs that were allocated are never neighbours, so that contiguity always means one backing."""


def alignment_of(length: int) -> int:
    """Say how a run of ``length`` bytes is aligned, so that large leaves can map it."""
    return HUGE_PAGE if length >= HUGE_PAGE else LARGE_PAGE


class FrameAllocator:
    """Hands out runs below 2^``address_bits``, from ``first`` on; keeps fixed ranges out of their way."""

    def __init__(self, first: int, address_bits: int) -> None:
        self._first = first
        self._address_bits = address_bits
        self._cursor = first
        self._taken: list[tuple[int, int]] = []  # (start, end), ascending, never overlapping

    def reserve(self, start: int, length: int) -> None:
        """Take exactly [start, start + length). Raises MemoryOverlap."""
        end = start + length
        clash = self._overlapping(start, end)
        if clash is not None:
            raise MemoryOverlap(start, end - 1, clash[0], clash[1] - 1)
        insort(self._taken, (start, end))

    def allocate(self, length: int) -> Pa:
        """Take a free run of ``length`` bytes, aligned by `alignment_of`. Raises OutOfFrames."""
        start = self._search(self._cursor, length)
        if start is None:
            start = self._search(self._first, length)
        if start is None:
            raise OutOfFrames(length, self._address_bits)
        if self._taken and start < self._taken[-1][0]:
            insort(self._taken, (start, start + length))
        else:
            self._taken.append((start, start + length))
        self._cursor = start + length
        return Pa(start)

    def free(self, start: int) -> None:
        """Give back the run that starts at ``start``."""
        del self._taken[bisect_left(self._taken, (start, 0))]

    def _search(self, candidate: int, length: int) -> int | None:
        alignment = alignment_of(length)
        if self._taken and candidate == self._taken[-1][1]:  # nothing lies beyond: the usual case needs no look
            start = (candidate + GUARD + alignment - 1) & -alignment
            return start if start + length <= 1 << self._address_bits else None
        while True:
            candidate = align_down(candidate + alignment - 1, alignment)
            if candidate + length > 1 << self._address_bits:
                return None
            clash = self._overlapping(candidate - GUARD, candidate + length + GUARD)
            if clash is None:
                return candidate
            candidate = clash[1] + GUARD

    def _overlapping(self, start: int, end: int) -> tuple[int, int] | None:
        """Find the last taken range that touches [start, end)."""
        index = bisect_right(self._taken, (end - 1, end)) - 1
        while index >= 0 and self._taken[index][0] >= end:
            index -= 1
        if index >= 0 and self._taken[index][1] > start:
            return self._taken[index]
        return None
