"""What invalidations of guests would have cost on a real Grace: by their vCMDQs, and trapped.

Defaults are fitted to what the kernel series that introduced HW_QUEUE says (cover letter of version 9, July 2025) of
`dma_map_benchmark` on a Grace: microseconds for one map and unmap of so many pages of 4 KiB. What a map costs is in the
share of each SYNC. A guest that traps exits once for each SYNC; then openvmm makes one ioctl of what came before the
SYNC, QEMU one for each command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu.activity import Activity

INVALIDATE = "IOMMU_HWPT_INVALIDATE"
SYNC = "SYNC"
SOURCE = "a Grace, fitted to dma_map_benchmark as told by the HW_QUEUE kernel series, version 9"


@frozen
class PathCost:
    """What one way to invalidate costs (microseconds): for each SYNC, and for each command before it."""

    per_sync: float
    per_command: float

    def of(self, syncs: int, commands: int) -> float:
        """Say what so many cost (microseconds)."""
        return self.per_sync * syncs + self.per_command * commands


@frozen
class Costs:
    """What the two ways cost. The defaults are those of one thread."""

    vcmdq: PathCost = PathCost(6.0, 0.19)
    trapped: PathCost = PathCost(32.0, 2.42)

    def account(self, activity: Activity) -> Account:
        """Hold what a machine did against them."""
        kinds = activity.guest_commands
        queued = kinds.total() - kinds[SYNC]
        return Account(self, kinds[SYNC], queued, activity.ioctls[INVALIDATE], activity.requests)


TWO_THREADS = Costs(PathCost(7.1, 0.17), PathCost(77.1, 5.65))
"""The same of a benchmark with two threads."""


@frozen
class Account:
    """What a guest's invalidations cost. ``ioctls`` and ``requests`` are those that were trapped."""

    costs: Costs
    syncs: int
    commands: int
    ioctls: int
    requests: int

    @property
    def spent(self) -> float:
        """What its vCMDQs cost (microseconds)."""
        return self.costs.vcmdq.of(self.syncs, self.commands)

    @property
    def saved(self) -> float:
        """What its vCMDQs saved: the difference to the same, trapped (microseconds)."""
        return self.costs.trapped.of(self.syncs, self.commands) - self.spent

    @property
    def trapped(self) -> float:
        """What was trapped cost, one exit for each ioctl (microseconds)."""
        return self.costs.trapped.of(self.ioctls, self.requests)

    @property
    def avoidable(self) -> float:
        """What vCMDQs would have saved of that (microseconds)."""
        return self.trapped - self.costs.vcmdq.of(self.ioctls, self.requests)

    def lines(self) -> Iterator[str]:
        """Say it; nothing where nothing was invalidated."""
        if self.syncs or self.commands:
            yield (
                f"by vCMDQs: {_number(self.commands, 'command')} and {_number(self.syncs, 'SYNC')}, no exit, no ioctl,"
                f" {self.spent:.0f} us; trapped: {_number(self.syncs, 'exit')}, {self._ioctls_if_trapped},"
                f" {self.spent + self.saved:.0f} us: saved {self.saved:.0f} us"
            )
        if self.ioctls:
            yield (
                f"trapped: {_number(self.requests, 'command')}, {_number(self.ioctls, 'exit')},"
                f" {_number(self.ioctls, 'ioctl')}, {self.trapped:.0f} us;"
                f" by vCMDQs {self.trapped - self.avoidable:.0f} us"
            )
        if self.syncs or self.commands or self.ioctls:
            yield f"({SOURCE})"

    @property
    def _ioctls_if_trapped(self) -> str:
        """One for each SYNC, or one for each command: VMMs differ."""
        few, many = sorted((self.syncs, self.commands))
        return _number(many, "ioctl") if few == many else f"{few} to {many} ioctls"


def _number(count: int, of: str) -> str:
    return f"{count} {of}" if count == 1 else f"{count} {of}s"
