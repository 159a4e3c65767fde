"""One open /dev/iommu: its objects, its options, and what keeps it alive."""

from __future__ import annotations

from enum import IntEnum
from threading import RLock
from typing import TYPE_CHECKING, Any

from attrs import define, field

from viommu.activity import Activity
from viommu.objects.mmap import MmapOffsets
from viommu.objects.table import ObjectTable
from viommu.policies import MAINLINE
from viommu.uapi_profiles import CURRENT

if TYPE_CHECKING:
    from viommu.objects.ioas import Ioas
    from viommu.policies import Policy
    from viommu.uapi_profiles import Profile


class Accounting(IntEnum):
    """Against whose limit pinned pages count; the values of the option RLIMIT_MODE."""

    USER = 0
    MM = 1


@define(eq=False, repr=False)
class Context:
    """What one open file owns.

    ``lock`` is held for the whole of an ioctl, and by whoever attaches or destroys. ``references`` counts the file
    itself, open event fds and open access fds: the objects live as long as any of them.
    """

    accounting: Accounting = Accounting.USER
    policy: Policy = MAINLINE
    profile: Profile = CURRENT
    activity: Activity = field(factory=Activity, repr=False)
    """Where its calls are counted: the machine's."""
    table: ObjectTable = field(factory=ObjectTable)
    offsets: MmapOffsets = field(factory=MmapOffsets)
    lock: RLock = field(factory=RLock, repr=False)
    compat: Ioas | None = None
    """The IOAS that VFIO compatibility uses; not held."""
    references: int = 1
    data: Any = None
    """For whoever adds ioctls of its own: the selftest driver keeps its instance here."""

    def keep(self) -> None:
        """Count one more that keeps it alive."""
        self.references += 1

    def release(self) -> None:
        """Count one less; the last one closes."""
        with self.lock:
            self.references -= 1
            if not self.references:
                self._close()

    def _close(self) -> None:
        """Destroy everything: again and again what nobody holds, by id, until nothing is left."""
        while self._close_round():
            pass

    def _close_round(self) -> int:
        destroyed = 0
        for found in self.table:
            if found.published and found.users == 1:  # one that went before may have taken this one along
                self.table.destroy(found)
                destroyed += 1
        return destroyed
