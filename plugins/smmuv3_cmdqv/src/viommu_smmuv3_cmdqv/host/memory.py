"""What the host's structures need of memory."""

from __future__ import annotations

from typing import Protocol

WORD = 8
PAGE = 4096


class Memory(Protocol):
    """Machine memory."""

    def read(self, pa: int, length: int) -> bytes | None:
        """Give bytes; None where there is no memory."""

    def write(self, pa: int, data: bytes) -> bool:
        """Store bytes."""

    def load(self, pa: int) -> int | None:
        """Give a 64-bit word."""

    def store(self, pa: int, value: int) -> bool:
        """Store a 64-bit word, whole."""


class Frames(Protocol):
    """Gives page frames that are the driver's own, zeroed; ``pages`` follow one another, aligned to their size."""

    def allocate(self, pages: int = 1) -> int:
        """Give the physical address of free frames. Raises NoMemory."""

    def free(self, pa: int, pages: int = 1) -> None:
        """Take them back."""


def pages_of(length: int) -> int:
    """How many pages hold ``length`` bytes."""
    return -(-length // PAGE)


def load_words(memory: Memory, address: int, count: int) -> list[int]:
    """Load words of a structure of the driver's own."""
    return [memory.load(address + WORD * index) or 0 for index in range(count)]
