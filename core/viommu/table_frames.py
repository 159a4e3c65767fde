"""Frames of machine memory that a host driver keeps its tables and queues in."""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING

from viommu import _engine
from viommu.addresses import PAGE_SIZE, Pa
from viommu.errors import BadValue, OutOfFrames
from viommu.failure import allocation_point
from viommu.kernel_errors import NoMemory

if TYPE_CHECKING:
    from viommu.memory import PhysicalMemory

__all__ = [
    "TableFrames",
]

CHUNK = 2 << 20
"""How much RAM is added at a time (bytes); the system gives pages of it when they are first used."""

SMALLEST_LG2 = PAGE_SIZE.bit_length() - 1
LARGEST_LG2 = 40
"""Of frames (`viommu._engine.FramePool`)."""


class TableFrames:
    """Gives frames that are zeroed, physically contiguous and aligned to their size (a power of two of pages).

    RAM is added to the machine in large chunks, kept by size of frame, and given back to the machine never.
    """

    def __init__(self, memory: PhysicalMemory) -> None:
        self.memory = memory
        self.pool = _engine.FramePool(memory.engine)
        self._lock = RLock()
        self._given: dict[int, int] = {}  # physical address -> lg2
        self._stretches: list[tuple[Pa, int]] = []

    def allocate(self, pages: int = 1) -> Pa:
        """Give ``pages`` contiguous pages, aligned to the next power of two. Raises NoMemory, BadValue."""
        if pages < 1:
            raise BadValue("number of pages", pages, "1 or more")
        allocation_point("page frames")
        lg2 = SMALLEST_LG2 + (pages - 1).bit_length()
        with self._lock:
            pa = self.pool.take(lg2)
            while pa is None:
                self.ensure(lg2, 1)
                pa = self.pool.take(lg2)
            self._given[pa] = lg2
        return Pa(pa)

    def allocate_many(self, count: int) -> list[Pa]:
        """Give single pages, which need not be neighbours. Raises NoMemory, and then none is taken."""
        given: list[Pa] = []
        try:
            given.extend(self.allocate() for _ in range(count))
        except BaseException:
            for pa in given:
                self.free(pa)
            raise
        return given

    def free(self, pa: int, pages: int = 1) -> None:
        """Take back what `allocate` gave, whatever is in it. Raises BadValue."""
        lg2 = SMALLEST_LG2 + (pages - 1).bit_length()
        with self._lock:
            if self._given.get(pa) != lg2:
                raise BadValue("frame to free", pa, f"the start of {pages} pages that were allocated together")
            del self._given[pa]
            self.pool.give(pa, lg2)

    def ensure(self, lg2: int, count: int) -> None:
        """Have at least ``count`` free frames of 2^lg2 bytes, for others to take meanwhile too. Raises NoMemory."""
        with self._lock:
            lacking = (count - self.pool.available(lg2)) << lg2
            if lacking <= 0:
                return
            # A run's address is aligned to 2 MiB at least, and to 1 GiB if it is as long.
            length = -(-lacking // CHUNK) * CHUNK if lg2 <= CHUNK.bit_length() - 1 else max(lacking, 1 << 30)
            try:
                view = self.memory.add_ram(length)
            except (OutOfFrames, OSError, MemoryError) as error:
                raise NoMemory("table frames", "bytes", length, "what the machine has left") from error
            for pa, size in view.runs():
                self.pool.add(pa, size, lg2)
                self._stretches.append((pa, size))

    def stretches(self) -> list[tuple[Pa, int]]:
        """Give the RAM that frames are of: physical addresses and lengths (bytes)."""
        with self._lock:
            return list(self._stretches)

    @property
    def used(self) -> int:
        """How many bytes of frames somebody has, in page tables too."""
        with self._lock:
            free = sum(self.pool.available(lg2) << lg2 for lg2 in range(SMALLEST_LG2, LARGEST_LG2 + 1))
            return sum(size for _, size in self._stretches) - free
