"""Closed ranges of 64-bit addresses, kept in order."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from attrs import define, field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

U64_MAX = (1 << 64) - 1


class Closed(Protocol):
    """Anything that covers start to last, both included."""

    @property
    def start(self) -> int:
        """The first address."""

    @property
    def last(self) -> int:
        """The last address."""


C = TypeVar("C", bound=Closed)


@frozen
class Range:
    """A closed range."""

    start: int
    last: int

    def meets(self, start: int, last: int) -> bool:
        """Say whether the two have an address in common."""
        return self.start <= last and start <= self.last


@define(eq=False)
class Disjoint(Generic[C]):
    """Ranges of which no two meet, ascending."""

    _starts: list[int] = field(factory=list)
    _items: list[C] = field(factory=list)

    def __iter__(self) -> Iterator[C]:
        """Give all, ascending; the set may change meanwhile."""
        return iter(tuple(self._items))

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: C) -> None:
        """Put in a range that meets none."""
        if not self._starts or item.start > self._starts[-1]:  # many are put in ascending
            self._starts.append(item.start)
            self._items.append(item)
            return
        index = bisect_left(self._starts, item.start)
        self._starts.insert(index, item.start)
        self._items.insert(index, item)

    def remove(self, item: C) -> None:
        """Take a range out."""
        index = bisect_left(self._starts, item.start)
        del self._starts[index], self._items[index]

    def first(self, start: int, last: int) -> C | None:
        """Give the lowest range that meets [start, last]."""
        index = bisect_right(self._starts, start) - 1
        if index >= 0 and self._items[index].last >= start:
            return self._items[index]
        index += 1
        if index < len(self._items) and self._items[index].start <= last:
            return self._items[index]
        return None

    def last_before(self, start: int) -> C | None:
        """Give the highest range that begins below an address."""
        index = bisect_left(self._starts, start) - 1
        return self._items[index] if index >= 0 else None

    def within(self, start: int, last: int) -> Iterator[C]:
        """Give the ranges that meet [start, last], ascending."""
        index = max(bisect_right(self._starts, start) - 1, 0)
        while index < len(self._items) and self._items[index].start <= last:
            item = self._items[index]
            index += 1
            if item.last >= start:
                yield item


def merged(ranges: Iterable[Closed]) -> Iterator[Range]:
    """Join ranges, ascending by start, that meet or touch."""
    start = last = None
    for item in ranges:
        if start is None or last is None:
            start, last = item.start, item.last
        elif item.start <= last + 1:
            last = max(last, item.last)
        else:
            yield Range(start, last)
            start, last = item.start, item.last
    if start is not None and last is not None:
        yield Range(start, last)


def holes(ranges: Iterable[Closed], start: int, last: int) -> Iterator[Range]:
    """Give what [start, last] has between ranges, which ascend by start and may meet."""
    for item in ranges:
        if item.start > last:
            break
        if item.start > start:
            yield Range(start, item.start - 1)
        start = max(start, item.last + 1)
        if start > last:
            return
    if start <= last:
        yield Range(start, last)
