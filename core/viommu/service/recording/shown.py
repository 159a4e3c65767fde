"""A machine's memory that is shown from elsewhere: recorded, or repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from attrs import define

from viommu.addresses import PAGE_SIZE
from viommu.backing import AddressSpace
from viommu.iommufd.local import LocalRun, PinnedView
from viommu.memory import PhysicalMemory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer

    from viommu.iommufd.user_memory import PageRun


class Shower(Protocol):
    """Where it is shown from; addresses are its own. None, or False: nothing is there, or it is read-only."""

    def load(self, at: int) -> int | None:
        """Give a 64-bit word."""

    def compare_exchange(self, at: int, expected: int, desired: int) -> bool | None:
        """Store a 64-bit word if it is as expected: whether it was."""

    def read(self, at: int, length: int) -> bytes | None:
        """Give bytes."""

    def write(self, at: int, data: bytes) -> bool:
        """Store bytes."""


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


class ShownMemory(PhysicalMemory):
    """A machine's memory, some of which is shown from elsewhere: word by word to walks, in pieces to DMA."""

    def __init__(self) -> None:
        super().__init__()
        self.shower: Shower | None = None
        self._space = AddressSpace("recorded programs")

    def show(self, runs: Iterable[tuple[int, int, PageRun | None]]) -> list[PageRun]:
        """Pin pages of the shower. Raises ViommuError.

        ``runs``: address, pages, and what they stand on. The same address is the same page.
        """
        if self.shower is None:
            raise TypeError("nobody shows this memory anything")
        shown: list[PageRun] = []
        for address, count, inner in runs:
            view = self.add_remote(
                self._space, address, count * PAGE_SIZE, self.shower.load, self.shower.compare_exchange
            )
            self.pin_view(view)
            pinned = PinnedView(self, view, count)
            first = 0
            for pa, length in view.runs():
                shown.append(ShownRun(pinned, pa, length // PAGE_SIZE, inner, first))
                first += length // PAGE_SIZE
        return shown

    def read(self, pa: int, length: int) -> bytes | None:
        """Give the bytes, or None where any of them lies in a hole."""
        at = self._shown_at(pa, length)
        if at is None or self.shower is None:
            return super().read(pa, length)
        return self.shower.read(at, length)

    def write(self, pa: int, data: Buffer) -> bool:
        """Store the bytes; False, and nothing stored, where any lies in a hole or is read-only."""
        whole = memoryview(data).cast("B")
        at = self._shown_at(pa, len(whole))
        if at is None or self.shower is None or self.watcher is not None:
            return super().write(pa, whole)
        return self.shower.write(at, bytes(whole))

    def _shown_at(self, pa: int, length: int) -> int | None:
        """Say where the shower has bytes that lie in one run of its pages; None: not there, or not in one."""
        if not length:
            return None
        backing = self.backing_of(pa)
        if backing is None or backing.source is not self._space or pa + length > backing.end:
            return None
        return backing.position + pa - backing.start
