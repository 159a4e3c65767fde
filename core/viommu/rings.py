"""Queues in memory: reading entries from a ring, whole runs at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viommu.memory import PhysicalMemory

__all__ = [
    "read_entries",
]

RUN_BYTES = 1 << 16
"""The most that one run reads: a guest that announces a long queue is served piece by piece."""


def read_entries(
    memory: PhysicalMemory, base: int, entries: int, entry_size: int, start: int, count: int
) -> NDArray[np.uint8]:
    """Read up to ``count`` entries of a ring of ``entries``, from index ``start``, without wrapping.

    ``base`` and ``entry_size`` are in bytes. Returns uint8 of shape (n, entry_size): n is less than ``count`` where the
    ring ends, where a run is full, or where memory has a hole (n is 0 when the entry at ``start`` cannot be read).
    """
    most = max(1, min(count, entries - start, RUN_BYTES // entry_size))
    address = base + start * entry_size
    raw = memory.read(address, most * entry_size)
    if raw is None:
        raw = b"".join(_readable(memory, address, most, entry_size))
    return np.frombuffer(raw, np.uint8).reshape(-1, entry_size)


def _readable(memory: PhysicalMemory, address: int, count: int, entry_size: int) -> list[bytes]:
    """Give the entries before the first hole."""
    found: list[bytes] = []
    for index in range(count):
        raw = memory.read(address + index * entry_size, entry_size)
        if raw is None:
            break
        found.append(raw)
    return found
