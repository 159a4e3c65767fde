"""Small numbers of which each has one owner: ASIDs, VMIDs, DomainIDs, slots."""

from __future__ import annotations

from heapq import heappop, heappush
from threading import Lock

from attrs import define, field

from viommu.kernel_errors import Busy, Invalid, NoSpace

__all__ = [
    "LowestFree",
    "Numbers",
]


@define(eq=False)
class LowestFree:
    """Hands out numbers of ``allowed``, the lowest free one first, to one thread at a time."""

    what: str
    allowed: range
    _next: int = field(init=False)
    """Nobody has had this one yet, nor any above it."""
    _returned: list[int] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self._next = self.allowed.start

    def take(self, owner: str) -> int:
        """Give one. Raises NoSpace."""
        if self._returned:
            return heappop(self._returned)
        number = self._next
        if number not in self.allowed:
            raise NoSpace(owner, self.what, len(self.allowed), "must be fewer, all of them are taken")
        self._next = number + 1
        return number

    def give_back(self, number: int) -> None:
        """Take one back."""
        if number < self._next:
            heappush(self._returned, number)

    @property
    def in_use(self) -> int:
        """How many somebody has."""
        return self._next - self.allowed.start - len(self._returned)


@define(eq=False, repr=False)
class Numbers(LowestFree):
    """The same for open files with locks of their own, some of which choose numbers. ``taken``: those that are."""

    taken: set[int] = field(factory=set, init=False)
    _lock: Lock = field(factory=Lock, init=False)

    def __repr__(self) -> str:
        return f"<{len(self.taken)} of {len(self.allowed)} {self.what}s taken>"

    def take(self, owner: str) -> int:
        """Give one. Raises NoSpace."""
        with self._lock:
            while (number := super().take(owner)) in self.taken:  # it was reserved
                pass
            self.taken.add(number)
            return number

    @property
    def in_use(self) -> int:
        """How many somebody has."""
        return len(self.taken)

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
            super().give_back(number)
