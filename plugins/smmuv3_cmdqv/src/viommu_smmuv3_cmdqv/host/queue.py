"""Queues in memory as their owner on the host's side counts them: index, with a wrap flag above it (IHI 0070, 3.5)."""

from __future__ import annotations

from attrs import frozen

OVERFLOW = 1 << 31
"""PROD.OVFLG and CONS.OVACKFLG."""


@frozen
class HostRing:
    """Where a queue lies. A pointer is an index with the wrap flag in the bit above."""

    base: int
    lg2: int
    entry_size: int

    @property
    def entries(self) -> int:
        """How many entries fit."""
        return 1 << self.lg2

    @property
    def pages(self) -> int:
        """How many pages it fills."""
        return max(1, self.entry_size << self.lg2 >> 12)

    def address(self, pointer: int) -> int:
        """Where the entry is that a pointer names."""
        return self.base + (pointer & self.entries - 1) * self.entry_size

    def after(self, pointer: int, count: int = 1) -> int:
        """The pointer ``count`` entries further on."""
        return pointer + count & 2 * self.entries - 1

    def waiting(self, prod: int, cons: int) -> int:
        """How many entries are between two pointers."""
        return prod - cons & 2 * self.entries - 1
