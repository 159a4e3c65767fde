"""How often pages are pinned, kept by runs of pages that are pinned equally often."""

from __future__ import annotations

from bisect import bisect_right


class PinCounts:
    """Counts by page index. A pin of a million pages costs what a pin of one does.

    ``total``: pages that are pinned at least once.
    """

    __slots__ = ("_counts", "_starts", "total")

    def __init__(self, first: int = 0, end: int = 0) -> None:
        """Begin with pages [first, end) pinned once."""
        self.total = end - first
        # A count holds from its start up to the next one.
        if not end:
            self._starts, self._counts = [0], [0]
        elif not first:
            self._starts, self._counts = [0, end], [1, 0]
        else:
            self._starts, self._counts = [0, first, end], [0, 1, 0]

    def __getitem__(self, page: int) -> int:
        return self._counts[bisect_right(self._starts, page) - 1]

    def add(self, first: int, end: int) -> None:
        """Count pages [first, end) once more."""
        self._change(first, end, 1)

    def unpinned(self, first: int, end: int) -> int | None:
        """Find the first page of [first, end) that is not pinned."""
        index = bisect_right(self._starts, first) - 1
        while index < len(self._starts) and self._starts[index] < end:
            if not self._counts[index]:
                return max(self._starts[index], first)
            index += 1
        return None

    def remove(self, first: int, end: int) -> None:
        """Count pages [first, end) once less; all of them are pinned."""
        self._change(first, end, -1)

    def _change(self, first: int, end: int, step: int) -> None:
        start, stop = self._cut(first), self._cut(end)
        turning = 0 if step > 0 else 1  # a count that comes from 0, or goes there
        for index in range(start, stop):
            if self._counts[index] == turning:
                self.total += step * (self._starts[index + 1] - self._starts[index])
            self._counts[index] += step
        self._join(start, stop)

    def _cut(self, page: int) -> int:
        """Let a run begin at a page; its index."""
        index = bisect_right(self._starts, page) - 1
        if self._starts[index] != page:
            index += 1
            self._starts.insert(index, page)
            self._counts.insert(index, self._counts[index - 1])
        return index

    def _join(self, start: int, stop: int) -> None:
        """Join neighbours that are alike again: only those at the ends of a change can be."""
        for index in (stop, start):
            if 0 < index < len(self._counts) and self._counts[index] == self._counts[index - 1]:
                del self._starts[index], self._counts[index]
