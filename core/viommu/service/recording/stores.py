"""What an event stores to memory of programs, in as little room as tells whether another run stores the same."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from attrs import define, field

MOST_KEPT = 4096
"""Bytes that are stored in one piece are kept up to so many; of more than that their SHA-256 is."""


class Stored(NamedTuple):
    """Bytes that were stored: all of them, or where there are more than `MOST_KEPT` their SHA-256."""

    address: int
    length: int
    data: bytes


@define(eq=False)
class _Growing:
    address: int
    length: int = 0
    _data: bytearray = field(factory=bytearray)
    _digest: hashlib._Hash | None = None

    def grow(self, data: bytes) -> int:
        self.length += len(data)
        if self._digest is None and self.length > MOST_KEPT:
            self._digest = hashlib.sha256(self._data)
            self._data.clear()
        if self._digest is None:
            self._data += data
            return len(data)
        self._digest.update(data)
        return 0

    @property
    def kept(self) -> bytes:
        return bytes(self._data) if self._digest is None else self._digest.digest()


@define(eq=False)
class Stores:
    """What one event stores. What follows in memory what was stored before it is put together with that."""

    _stores: list[_Growing] = field(factory=list)

    def add(self, address: int, data: bytes) -> int:
        """Take a store; how many bytes more are kept."""
        last = self._stores[-1] if self._stores else None
        if last is None or last.address + last.length != address:
            last = _Growing(address)
            self._stores.append(last)
        return last.grow(data)

    def kept(self) -> list[Stored]:
        """Give them as they are kept."""
        return [Stored(store.address, store.length, store.kept) for store in self._stores]
