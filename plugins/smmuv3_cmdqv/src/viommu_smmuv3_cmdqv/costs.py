"""What invalidations of guests would have cost on a real Grace: by their vCMDQs, and trapped instead.

Defaults are fitted to what the kernel series that introduced HW_QUEUE (version 9, July 2025) says of a benchmark on a
Grace, `dma_map_benchmark`: microseconds for one map and unmap of so many pages of 4 KiB, one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

EVENT = "smmuv3.cmdqv.commands"
HOSTS_VINTF = 0


@frozen
class PathCost:
    """What one way to invalidate costs (microseconds): for each SYNC, and for each command before it."""

    per_sync: float
    per_command: float

    def of(self, syncs: int, commands: int) -> float:
        """Say what so many cost."""
        return self.per_sync * syncs + self.per_command * commands


VCMDQ, TRAPPED = PathCost(6.0, 0.19), PathCost(32.0, 2.42)


@define
class GuestCosts:
    """Counts what guests' own queues executed. Give `observe` to a machine as one of its observers."""

    vcmdq: PathCost = VCMDQ
    trapped: PathCost = TRAPPED
    syncs: int = field(default=0, init=False)
    commands: int = field(default=0, init=False)

    def observe(self, event: str, facts: Mapping[str, object]) -> None:
        """Take note of a batch of commands."""
        kinds = facts.get("kinds")
        if event != EVENT or facts.get("vintf") == HOSTS_VINTF or not isinstance(kinds, dict):
            return
        syncs = kinds.get("SYNC", 0)
        self.syncs += syncs
        self.commands += sum(kinds.values()) - syncs

    @property
    def saved(self) -> float:
        """Microseconds that vCMDQs saved."""
        return self.trapped.of(self.syncs, self.commands) - self.vcmdq.of(self.syncs, self.commands)

    def __str__(self) -> str:
        cost = self.vcmdq.of(self.syncs, self.commands)
        return (
            f"{self.commands} commands and {self.syncs} SYNCs by vCMDQs: about {cost:.0f} us on a Grace, "
            f"{cost + self.saved:.0f} us if they had been trapped"
        )
