"""What the host's structures need of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from viommu.layout import Descriptor
    from viommu.memory import PhysicalMemory

WORD = 8


class Frames(Protocol):
    """Gives page frames that are the driver's own, zeroed; ``pages`` follow one another."""

    def allocate(self, pages: int = 1) -> int:
        """Give the physical address of free frames. Raises NoMemory."""

    def free(self, pa: int, pages: int = 1) -> None:
        """Take them back."""


def install(memory: PhysicalMemory, address: int, entry: Descriptor) -> None:
    """Write an entry that is not present: its first word, which holds P, comes last (VT-d 6.5.3.3)."""
    raw = entry.encode()
    for at in range(entry.size - WORD, -1, -WORD):
        memory.store(address + at, int.from_bytes(raw[at : at + WORD], "little"))


def remove(memory: PhysicalMemory, address: int, size: int) -> None:
    """Make an entry not present, then clear the rest."""
    for at in range(0, size, WORD):
        memory.store(address + at, 0)
