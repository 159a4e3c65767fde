"""DIDs of one unit: the tag that its caches know a domain by."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from attrs import define, field

from viommu.kernel_errors import NoSpace

if TYPE_CHECKING:
    from viommu_vtd.spec.registers import CAP

FIRST = 2


def count(cap: CAP) -> int:
    """Say how many DIDs a unit has."""
    return 1 << 4 + 2 * cap.ND


@define(eq=False)
class DomainIds:
    """Hands out DIDs below ``end``, the lowest first. 0 is for entries that are not present, 1 Linux keeps."""

    end: int
    _next: int = FIRST
    _freed: list[int] = field(factory=list)

    def take(self, unit: str) -> int:
        """Give a free DID. Raises NoSpace."""
        if self._freed:
            return heappop(self._freed)
        if self._next >= self.end:
            raise NoSpace(unit, "DID", bound=f"below {self.end}, all of which are taken")
        self._next += 1
        return self._next - 1

    def give_back(self, domain: int) -> None:
        """Let a DID be handed out again; nothing is cached with it any more."""
        heappush(self._freed, domain)

    @property
    def taken(self) -> int:
        """How many are in use."""
        return self._next - FIRST - len(self._freed)
