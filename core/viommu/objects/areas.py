"""Areas: what an IOAS maps, and how it is entered into page tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.addresses import PAGE_SIZE
from viommu.kernel_errors import Invalid
from viommu.objects.pages import DmaBufPages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.objects.pages import Extent, Pages
    from viommu.ops import PagingDomain, Prot


@define(eq=False)
class Area:
    """IOVAs ``start`` to ``last``, mapped to bytes of a storage from ``start_byte`` on.

    ``accesses`` counts pins by accesses, ``locks`` those of hardware queues. ``leaving``: accesses are being asked to
    let go. ``filled``: domains that hold it; the pages are held once for all of them.
    """

    start: int
    last: int
    pages: Pages
    start_byte: int
    prot: Prot
    accesses: int = 0
    locks: int = 0
    leaving: bool = False
    filled: list[PagingDomain] = field(factory=list)
    first_page: int = field(init=False)
    """Index of its first page in the storage."""
    last_page: int = field(init=False)
    """Index of its last page in the storage."""

    def __attrs_post_init__(self) -> None:
        self.first_page = self.start_byte // PAGE_SIZE
        self.last_page = (self.start_byte + self.last - self.start) // PAGE_SIZE

    @property
    def length(self) -> int:
        """Bytes."""
        return self.last - self.start + 1

    @property
    def page_offset(self) -> int:
        """Where in its first page it begins."""
        return self.start_byte % PAGE_SIZE

    def byte_of(self, iova: int) -> int:
        """Say which byte of the storage an IOVA means."""
        return self.start_byte + iova - self.start

    def fill(self, domain: PagingDomain, largest: int | None) -> None:
        """Enter it into a domain. Raises KernelError, and then the domain holds nothing of it."""
        if not self.filled:
            self.pages.hold(self.first_page, self.last_page)
        try:
            self._map(domain, largest)
        except BaseException:
            if not self.filled:
                self.pages.let_go(self.first_page, self.last_page)
            raise
        self.filled.append(domain)

    def unfill(self, domain: PagingDomain) -> None:
        """Take it out of a domain."""
        self.filled.remove(domain)
        if not self._is_revoked:
            domain.unmap(self.start, self.length)
        if not self.filled:
            self.pages.let_go(self.first_page, self.last_page)

    def unfill_all(self) -> None:
        """Take it out of every domain."""
        for domain in tuple(self.filled):
            self.unfill(domain)

    def forget(self) -> None:
        """Take a revoked dma-buf out of page tables; the area stays."""
        for domain in self.filled:
            domain.unmap(self.start, self.length)

    @property
    def _is_revoked(self) -> bool:
        return isinstance(self.pages, DmaBufPages) and self.pages.revoked

    def _map(self, domain: PagingDomain, largest: int | None) -> None:
        if not self.prot:  # VFIO lets areas be without rights; every page table of the kernel refuses them
            raise Invalid("mapping", "IOVA", self.start, "one that may be read or written")
        done = self.start
        try:
            for pa, length in self.physical_runs():
                domain.map(done, pa, length, self.prot, largest)
                done += length
        except BaseException:
            if done > self.start:
                domain.unmap(self.start, done - self.start)
            raise

    def physical_runs(self) -> list[tuple[int, int]]:
        """Give the physical ranges behind it, in order: (address, length)."""
        extents = self.pages.extents(self.first_page, self.last_page)
        offset, left = self.start_byte % PAGE_SIZE, self.last - self.start + 1
        if len(extents) == 1:
            return [(extents[0].frame * PAGE_SIZE + offset, left)]
        runs: list[tuple[int, int]] = []
        for frame, count in joined(extents):
            size = min(count * PAGE_SIZE - offset, left)
            runs.append((frame * PAGE_SIZE + offset, size))
            left -= size
            offset = 0
        return runs


def joined(extents: Sequence[Extent]) -> list[tuple[int, int]]:
    """Join extents that are neighbours in physical memory: (frame, pages)."""
    runs: list[tuple[int, int]] = []
    for extent in extents:
        frame, count = extent.frame, extent.count
        if runs and frame == runs[-1][0] + runs[-1][1]:
            runs[-1] = runs[-1][0], runs[-1][1] + count
        else:
            runs.append((frame, count))
    return runs


def check_readable(area: Area) -> None:
    """Refuse what the core may not read itself. Raises Invalid."""
    if isinstance(area.pages, DmaBufPages):
        raise Invalid("mapping", "IOVA", area.start, "memory, not a dma-buf")
