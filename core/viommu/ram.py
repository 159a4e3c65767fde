"""A machine's own RAM, handed out to whoever plays a program on it."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

import numpy as np
from attrs import define, field

from viommu.addresses import PAGE_SIZE
from viommu.errors import OutOfRange

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viommu.memory import PhysicalMemory

ALIGNMENT = 2 << 20
"""Where long buffers begin, so that large leaves can map them."""


@define(eq=False)
class Ram:
    """One run of ``size`` bytes of physical memory, from which buffers come one after the other."""

    memory: PhysicalMemory
    size: int
    _all: NDArray[np.uint8] = field(init=False, repr=False)
    _next: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        if self.size <= 0 or self.size % PAGE_SIZE:
            raise OutOfRange("size of RAM", self.size, 1 << 47, PAGE_SIZE)
        mapping = mmap.mmap(-1, self.size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._all = np.frombuffer(mapping, np.uint8)
        self.memory.add_buffer(self._all)

    def buffer(self, size: int) -> NDArray[np.uint8]:
        """Give zeroed bytes, in whole pages, physically contiguous. Raises OutOfRange."""
        step = ALIGNMENT if size >= ALIGNMENT else PAGE_SIZE
        start = -(-self._next // step) * step
        if not 0 < size <= self.size - start:
            raise OutOfRange("size of a buffer", size, self.size - start, 1)
        self._next = start + -(-size // PAGE_SIZE) * PAGE_SIZE
        return self._all[start : start + size]
