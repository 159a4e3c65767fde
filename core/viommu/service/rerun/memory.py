"""Memory of programs that are not there: what a recording says of it."""

from __future__ import annotations

from array import array
from collections import deque
from typing import TYPE_CHECKING

from attrs import define, field

from viommu.addresses import PAGE_SIZE
from viommu.errors import OutOfRange
from viommu.service.recording.events import WORD, Change
from viommu.service.recording.memory import fill, pieces
from viommu.service.recording.stores import Stores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.iommufd.user_memory import PageRun
    from viommu.service.recording.events import Event
    from viommu.service.recording.shown import ShownMemory

MOST_PAGES = 1 << 18
"""Pages of which a recording may tell: 1 GiB."""
MOST_PINNED = 1 << 24
"""Pages that one call may pin: 64 GiB."""
ADDRESS_END = 1 << 52


@define(eq=False)
class RerunMemory:
    """Shows a machine what a recording tells, when it does (a `viommu.service.recording.shown.Shower`)."""

    memory: ShownMemory
    stored: Stores = field(factory=Stores)
    """What an event has stored so far."""
    unknown: int | None = None
    """The first address that an event has loaded of which the recording says nothing."""
    _pages: dict[int, array[int] | None] = field(factory=dict)
    _later: deque[Change] = field(factory=deque)
    _refused: frozenset[int] = frozenset()
    _count: int = 0

    def __attrs_post_init__(self) -> None:
        self.memory.shower = self

    def begin(self, event: Event) -> None:
        """Be as an event found it. Raises OutOfRange: there is too much."""
        self.stored, self.unknown, self._count = Stores(), None, 0
        self._refused = frozenset(event.refused)
        for change in event.changes:
            if not change.since:
                self._apply(change)
        self._later = deque(change for change in event.changes if change.since)

    def end(self) -> None:
        """Be as an event left it."""
        while self._later:
            self._apply(self._later.popleft())

    def show(self, frames: Sequence[int]) -> list[PageRun]:
        """Pin pages: frames and counts, in turn. Raises OutOfRange and what `PhysicalMemory.add_remote` raises."""
        runs = list(zip(frames[::2], frames[1::2], strict=True))
        for frame, count in runs:
            if not 0 < count <= MOST_PINNED:
                raise OutOfRange("recorded pages", count, MOST_PINNED, 1)
            if not 0 <= frame * PAGE_SIZE <= ADDRESS_END - count * PAGE_SIZE:
                raise OutOfRange("recorded page number", frame, ADDRESS_END // PAGE_SIZE - count)
        return self.memory.show((frame * PAGE_SIZE, count, None) for frame, count in runs)

    def load(self, at: int) -> int | None:
        """Give a word."""
        self._follow()
        page = self._page(at)
        return None if page is None else page[at % PAGE_SIZE // WORD]

    def read(self, at: int, length: int) -> bytes | None:
        """Give bytes."""
        self._follow()
        parts: list[bytes] = []
        for start, size in pieces(at, at + length):
            page = self._page(start)
            if page is None:
                return None
            parts.append(memoryview(page).cast("B")[start % PAGE_SIZE : start % PAGE_SIZE + size].tobytes())
        return b"".join(parts)

    def write(self, at: int, data: bytes) -> bool:
        """Store bytes."""
        self._follow()
        if at in self._refused:
            return False
        fill(self._pages, at, data)
        self.stored.add(at, data)
        return True

    def compare_exchange(self, at: int, expected: int, desired: int) -> bool | None:
        """Store a word if it is as expected."""
        self._follow()
        page = self._page(at)
        if page is None or at in self._refused:
            return None
        index = at % PAGE_SIZE // WORD
        if page[index] != expected:
            return False
        page[index] = desired
        self.stored.add(at, desired.to_bytes(WORD, "little"))
        return True

    def _page(self, at: int) -> array[int] | None:
        start = at & -PAGE_SIZE
        if start not in self._pages:
            if self.unknown is None:
                self.unknown = at
            self._keep(start, array("Q", bytes(PAGE_SIZE)))
        return self._pages[start]

    def _follow(self) -> None:
        """Change what the program has changed by this access."""
        self._count += 1
        while self._later and self._later[0].since <= self._count:
            self._apply(self._later.popleft())

    def _apply(self, change: Change) -> None:
        start = change.address & -PAGE_SIZE
        if change.data is None:
            self._keep(start, None)
            return
        for at in range(0, len(change.data), PAGE_SIZE):
            self._fill(change.address + at, array("Q", change.data[at : at + PAGE_SIZE]))

    def _fill(self, address: int, words: array[int]) -> None:
        start = address & -PAGE_SIZE
        index = (address - start) // WORD
        page = self._pages.get(start)
        if page is None:
            page = array("Q", bytes(PAGE_SIZE))
            self._keep(start, page)
        if index + len(words) > len(page):
            raise OutOfRange("end of a recorded change", address + len(words) * WORD, start + PAGE_SIZE)
        page[index : index + len(words)] = words

    def _keep(self, start: int, page: array[int] | None) -> None:
        if start not in self._pages and len(self._pages) >= MOST_PAGES:
            raise OutOfRange("recorded memory", (len(self._pages) + 1) * PAGE_SIZE, MOST_PAGES * PAGE_SIZE)
        self._pages[start] = page
