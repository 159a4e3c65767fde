"""Bytes of a program's memory that came along with its call: most calls need no other."""

from __future__ import annotations

from attrs import define


@define(eq=False)
class Window:
    """``data`` lies at ``address`` in the program. What is stored into it goes back with the answer."""

    address: int
    data: bytes
    _first: int = 0
    _end: int = 0
    """Of what was stored to: offsets."""

    def read(self, address: int, length: int) -> bytes | None:
        """Give bytes; None where it does not hold all of them."""
        start, end = address - self.address, address - self.address + length
        return self.data[start:end] if 0 <= start < end <= len(self.data) else None

    def write(self, address: int, data: bytes) -> bool:
        """Store bytes; False where it does not hold all of them."""
        start, end = address - self.address, address - self.address + len(data)
        if not 0 <= start < end <= len(self.data):
            return False
        self.data = self.data[:start] + data + self.data[end:]
        self._first = min(self._first, start) if self._end else start
        self._end = max(self._end, end)
        return True

    def take(self) -> tuple[int, bytes]:
        """Give what was stored into it: offset and bytes, once."""
        first, end = self._first, self._end
        self._first = self._end = 0
        return first, self.data[first:end]

    def meets(self, address: int, length: int) -> bool:
        """Whether it holds some of these bytes."""
        start = address - self.address
        return start < len(self.data) and start + length > 0
