"""A guest's memory as the guest sees it: tables of four levels over a few pages, and a ring of commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from viommu.layout import Descriptor

PAGE = 0x1000
PAGES = 256
"""How many pages a device has."""


@frozen(eq=False)
class GuestMemory:
    """A buffer that a guest sees from ``base`` on; its first ``ring`` bytes are a ring."""

    buffer: NDArray[np.uint8]
    base: int
    ring: int

    def store(self, address: int, data: bytes) -> None:
        """Write bytes."""
        self.buffer[address - self.base : address - self.base + len(data)] = list(data)

    def store_word(self, address: int, word: int) -> None:
        """Write 64 bits."""
        self.store(address, word.to_bytes(8, "little"))

    def map(self, tables: int, iova: int, table: int, leaf: int) -> None:
        """Map a device's pages by four tables from an address on, whose entries have these bits."""
        top, middle, low, leaves, data = (tables + PAGE * number for number in range(5))
        for at, below, level in ((top, middle, 3), (middle, low, 2), (low, leaves, 1)):
            self.store_word(at + (iova >> 12 + 9 * level & 0x1FF) * 8, below | table)
        for number in range(PAGES):
            self.store_word(leaves + 8 * number, data + PAGE * number | leaf)

    def fill(self, command: Callable[[int], Descriptor]) -> None:
        """Write the whole ring: commands by the number of a page."""
        cycle = b"".join(command(number).encode() for number in range(PAGES))
        for at in range(0, self.ring, len(cycle)):
            self.buffer[at : at + len(cycle)] = list(cycle)
