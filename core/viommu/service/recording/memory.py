"""Memory of programs while they are recorded: each word that the host loads or stores passes here."""

from __future__ import annotations

from array import array
from contextlib import contextmanager
from typing import TYPE_CHECKING

from attrs import define, field

from viommu.addresses import PAGE_SIZE
from viommu.memory import PhysicalMemory
from viommu.service.recording.events import WORD, Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from viommu.service.recording.events import Event

MOST_PAGES = 1 << 14
"""Pages that are remembered as the host saw them; when there are more, all are told anew as they are read."""


@define(eq=False)
class _Accesses:
    """What one event has loaded and stored so far."""

    event: Event
    count: int = 0
    seen: set[int] = field(factory=set)
    """Words, and pages with a 1 added, that were told or loaded."""

    def load(self, address: int) -> None:
        """Take note that a word was loaded."""
        self.seen.add(address)

    def load_page(self, start: int) -> None:
        """Take note that some of a page, or all, was loaded."""
        self.seen.add(start + 1)

    def changed(self, address: int, data: bytes | None) -> None:
        """Take note that memory is not as it was seen last."""
        is_new = address not in self.seen and (address & -PAGE_SIZE) + 1 not in self.seen
        if self.event.takes(len(data or b"")):
            self.event.changes.append(Change(0 if is_new else self.count, address, data))


@define(eq=False)
class RecordedMemory:
    """Stands before ``real`` memory, where programs' pages are pinned (a `viommu.service.recording.shown.Shower`).

    A page is told whole when it is first read, then word by word as words are found changed.
    """

    real: PhysicalMemory = field(factory=PhysicalMemory)
    _pages: dict[int, array[int]] = field(factory=dict)
    """As the host has last seen them, by real address."""
    _now: _Accesses | None = None

    @contextmanager
    def taken(self, event: Event) -> Iterator[None]:
        """Let what is loaded and stored meanwhile be an event's."""
        before, self._now = self._now, _Accesses(event)
        try:
            yield
        finally:
            self._now = before

    def load(self, at: int) -> int | None:
        """Give a word, which is told where it has changed."""
        now = self._now
        if now is None:
            return self.real.load(at)
        now.count += 1
        page = self._page(now, at)
        if page is None:
            return None
        value = self.real.load(at)
        index = at % PAGE_SIZE // WORD
        if value is not None and page[index] != value:
            self._found(now, page, at, value)
        now.load(at)
        return page[index]

    def compare_exchange(self, at: int, expected: int, desired: int) -> bool | None:
        """Store a word if it is as expected; what is stored is told."""
        now = self._now
        if now is None:
            return self.real.compare_exchange(at, expected, desired)
        now.count += 1
        page = self._page(now, at)
        stored = None if page is None else self.real.compare_exchange(at, expected, desired)
        if page is None or stored is None:
            now.event.refuse(at)
            return None
        before = expected if stored else self.real.load(at)
        if before is not None and page[at % PAGE_SIZE // WORD] != before:
            self._found(now, page, at, before)
        now.load(at)
        if stored:
            page[at % PAGE_SIZE // WORD] = desired
            now.event.store(at, desired.to_bytes(WORD, "little"))
        return stored

    def read(self, at: int, length: int) -> bytes | None:
        """Give bytes; words that have changed are told."""
        now = self._now
        if now is None:
            return self.real.read(at, length)
        now.count += 1
        parts: list[bytes] = []
        for start, size in pieces(at & -WORD, at + length + -(at + length) % WORD):
            page = self._page(now, start)
            raw = None if page is None else self.real.read(start, size)
            if page is None or raw is None:
                return None
            self._compare(now, page, start, array("Q", raw))
            parts.append(raw)
        return b"".join(parts)[at % WORD :][:length]

    def write(self, at: int, data: bytes) -> bool:
        """Store bytes, which are told."""
        now = self._now
        if now is None:
            return self.real.write(at, data)
        now.count += 1
        if not self.real.write(at, data):
            now.event.refuse(at)
            return False
        fill(self._pages, at, data)
        now.event.store(at, data)
        return True

    def _compare(self, now: _Accesses, page: array[int], start: int, words: array[int]) -> None:
        """Tell which words of a page are not as they were seen last."""
        first = start % PAGE_SIZE // WORD
        if page[first : first + len(words)] != words:
            differ = [index for index, word in enumerate(words) if page[first + index] != word]
            for begin, end in _runs(differ):
                now.changed(start + begin * WORD, words[begin:end].tobytes())
            page[first : first + len(words)] = words
        now.load_page(start & -PAGE_SIZE)

    def _found(self, now: _Accesses, page: array[int], at: int, value: int) -> None:
        now.changed(at, value.to_bytes(WORD, "little"))
        page[at % PAGE_SIZE // WORD] = value

    def _page(self, now: _Accesses, at: int) -> array[int] | None:
        """Give a page as it was seen last, or now for the first time; None where there is none."""
        start = at & -PAGE_SIZE
        page = self._pages.get(start)
        if page is not None:
            return page
        raw = self.real.read(start, PAGE_SIZE)
        now.changed(start, raw)
        if raw is None:
            return None
        now.load_page(start)
        if len(self._pages) >= MOST_PAGES:
            self._pages.clear()
        page = self._pages[start] = array("Q", raw)
        return page


def pieces(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut bytes at the ends of pages: address and length of each piece."""
    while start < end:
        size = min(end - start, PAGE_SIZE - start % PAGE_SIZE)
        yield start, size
        start += size


def fill(pages: Mapping[int, array[int] | None], at: int, data: bytes) -> None:
    """Store bytes in those pages that are there."""
    done = 0
    for start, size in pieces(at, at + len(data)):
        page = pages.get(start & -PAGE_SIZE)
        if page is not None:
            memoryview(page).cast("B")[start % PAGE_SIZE : start % PAGE_SIZE + size] = data[done : done + size]
        done += size


def _runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Gather ascending numbers to runs: the first, and the one after the last."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number:
            found[-1] = found[-1][0], number + 1
        else:
            found.append((number, number + 1))
    return found
