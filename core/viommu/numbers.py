"""Small numbers of which each has one owner: ASIDs, VMIDs, DomainIDs, slots."""

from __future__ import annotations

from heapq import heappop, heappush
from threading import Lock

from attrs import define, field

from viommu.kernel_errors import Busy, Invalid, NoSpace


@define(eq=False, repr=False)
class Numbers:
    """Hands out numbers of ``allowed``, the lowest free one first. Open files with locks of their own may share it."""

    what: str
    allowed: range
    taken: set[int] = field(factory=set, init=False)
    _lock: Lock = field(factory=Lock, init=False)
    _next: int = field(init=False)
    """Nobody has had this one yet, nor any above it."""
    _returned: list[int] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self._next = self.allowed.start

    def __repr__(self) -> str:
        return f"<{len(self.taken)} of {len(self.allowed)} {self.what}s taken>"

    def take(self, owner: str) -> int:
        """Give one. Raises NoSpace."""
        with self._lock:
            number = self._lowest()
            if number not in self.allowed:
                raise NoSpace(owner, self.what, len(self.allowed), "one that is free")
            self.taken.add(number)
            return number

    def reserve(self, number: int, owner: str) -> None:
        """Take one that somebody else has chosen. Raises Invalid (none of these), Busy (taken)."""
        if number not in self.allowed:
            raise Invalid(owner, self.what, number, f"{self.allowed.start} to {self.allowed.stop - 1}")
        with self._lock:
            if number in self.taken:
                raise Busy(owner, self.what, number, "not in use for something else")
            self.taken.add(number)

    def give_back(self, number: int) -> None:
        """Take one back."""
        with self._lock:
            self.taken.remove(number)
            if number < self._next:
                heappush(self._returned, number)

    def _lowest(self) -> int:
        while self._returned:
            number = heappop(self._returned)
            if number not in self.taken:  # it may have been reserved since
                return number
        while self._next in self.taken:
            self._next += 1
        self._next += 1
        return self._next - 1
