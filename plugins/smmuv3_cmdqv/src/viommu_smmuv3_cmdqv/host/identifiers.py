"""ASIDs and VMIDs: small numbers of which each has one owner. 0 is nobody's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.kernel_errors import Busy, Invalid, NoSpace

if TYPE_CHECKING:
    from collections.abc import Iterator


@define(eq=False)
class Numbers:
    """Hands out numbers of ``allowed``, the lowest free one first."""

    what: str
    allowed: range
    taken: set[int] = field(factory=set)

    def take(self, owner: str) -> int:
        """Give one. Raises NoSpace."""
        number = next(self._free(), None)
        if number is None:
            raise NoSpace(owner, self.what, len(self.allowed), "one that is free")
        self.taken.add(number)
        return number

    def reserve(self, number: int, owner: str) -> None:
        """Take one that somebody else has chosen. Raises Invalid (none of these), Busy (taken)."""
        if number not in self.allowed:
            raise Invalid(owner, self.what, number, f"{self.allowed.start} to {self.allowed.stop - 1}")
        if number in self.taken:
            raise Busy(owner, self.what, number, "not in use for something else")
        self.taken.add(number)

    def give_back(self, number: int) -> None:
        """Take one back."""
        self.taken.remove(number)

    def _free(self) -> Iterator[int]:
        return (number for number in self.allowed if number not in self.taken)
