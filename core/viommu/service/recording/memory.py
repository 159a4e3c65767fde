"""Memory of programs while they are recorded: each word that the host loads or stores passes here."""

from __future__ import annotations

from array import array
from contextlib import contextmanager
from typing import TYPE_CHECKING

from attrs import define, field

from viommu.addresses import PAGE_SIZE
from viommu.backing import AddressSpace
from viommu.iommufd.local import LocalRun, PinnedView
from viommu.memory import PhysicalMemory
from viommu.service.recording.events import WORD, Change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from viommu.iommufd.user_memory import PageRun
    from viommu.service.recording.events import Event

MOST_PAGES = 1 << 14
"""Pages that are remembered as the host saw them; when there are more, all are told anew as they are read."""


@define(eq=False)
class ShownRun(LocalRun):
    """Pages of a program in a machine's memory, which stand on others that are pinned with them (a `PageRun`)."""

    inner: PageRun | None = None
    first: int = 0
    """Which of the inner pages is its first."""

    def unpin(self, index: int, count: int) -> None:
        """Undo the pin of these pages, and of those below."""
        super().unpin(index, count)
        if self.inner is not None:
            self.inner.unpin(self.first + index, count)


def show(
    memory: PhysicalMemory,
    space: AddressSpace,
    runs: Iterable[tuple[int, int, PageRun | None]],
    load: Callable[[int], int | None],
    compare_exchange: Callable[[int, int, int], bool | None],
) -> list[PageRun]:
    """Pin pages in a machine's memory, whose words are loaded and stored by calls. Raises ViommuError.

    ``runs``: address in the space, pages, and what they stand on. The same address is the same page.
    """
    shown: list[PageRun] = []
    for address, count, inner in runs:
        view = memory.add_remote(space, address, count * PAGE_SIZE, load, compare_exchange)
        memory.pin_view(view)
        pinned = PinnedView(memory, view, count)
        first = 0
        for pa, length in view.runs():
            shown.append(ShownRun(pinned, pa, length // PAGE_SIZE, inner, first))
            first += length // PAGE_SIZE
    return shown


@define(eq=False)
class _Accesses:
    """What one event has loaded and stored so far."""

    event: Event
    count: int = 0
    seen: set[int] = field(factory=set)
    """Words, and pages with a 1 added, that were told or loaded."""

    def changed(self, address: int, data: bytes | None) -> None:
        """Take note that memory is not as it was seen last."""
        is_new = address not in self.seen and (address & -PAGE_SIZE) + 1 not in self.seen
        if self.event.takes(len(data or b"")):
            self.event.changes.append(Change(0 if is_new else self.count, address, data))


@define(eq=False)
class RecordedMemory:
    """Stands between a machine's memory and ``real`` memory, where programs' pages are pinned.

    A page is told whole when it is first read, then word by word as words are found changed.
    """

    memory: PhysicalMemory
    real: PhysicalMemory = field(factory=PhysicalMemory)
    _space: AddressSpace = field(factory=lambda: AddressSpace("recorded programs"))
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

    def show(self, runs: Iterable[PageRun]) -> list[PageRun]:
        """Pin pages that are pinned in real memory in the machine's memory too."""
        below = [(run.frame * PAGE_SIZE, run.count, run) for run in runs]
        return show(self.memory, self._space, below, self._load, self._compare_exchange)

    def _load(self, at: int) -> int | None:
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
        now.seen.add(at)
        return page[index]

    def _compare_exchange(self, at: int, expected: int, desired: int) -> bool | None:
        now = self._now
        if now is None:
            return self.real.compare_exchange(at, expected, desired)
        now.count += 1
        page = self._page(now, at)
        stored = None if page is None else self.real.compare_exchange(at, expected, desired)
        if page is None or stored is None:
            now.event.refused.append(at)
            return None
        before = expected if stored else self.real.load(at)
        if before is not None and page[at % PAGE_SIZE // WORD] != before:
            self._found(now, page, at, before)
        now.seen.add(at)
        if stored:
            page[at % PAGE_SIZE // WORD] = desired
            if now.event.takes(WORD):
                now.event.stored.append((at, desired.to_bytes(WORD, "little")))
        return stored

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
        now.seen.add(start + 1)
        if len(self._pages) >= MOST_PAGES:
            self._pages.clear()
        page = self._pages[start] = array("Q", raw)
        return page
