"""DomainIDs: 16 bits that tag translations. 0 is never given out, as Linux keeps it for nobody."""

from __future__ import annotations

from threading import Lock

from attrs import define, field

from viommu.kernel_errors import NoSpace

FIRST, LAST = 1, 0xFFFF


@define(eq=False, repr=False)
class DomainIds:
    """Gives out the lowest free one. Open files that have locks of their own share it."""

    _lock: Lock = field(factory=Lock)
    _returned: set[int] = field(factory=set)
    _next: int = FIRST

    def take(self) -> int:
        """Take one. Raises NoSpace."""
        with self._lock:
            if self._returned:
                lowest = min(self._returned)
                self._returned.remove(lowest)
                return lowest
            if self._next > LAST:
                raise NoSpace("IOMMU", "DomainID", LAST, "one that is free: all are in use")
            self._next += 1
            return self._next - 1

    def give_back(self, domain: int) -> None:
        """Take one back; no translation bears it any more."""
        with self._lock:
            self._returned.add(domain)
