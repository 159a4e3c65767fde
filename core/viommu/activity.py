"""Who did what on a machine: calls of its user, accesses of its host's drivers, stores of guests, commands executed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Activity",
]


@define
class Activity:
    """Counts of a machine, kept on the control path alone: a DMA adds to none.

    Threads do not wait for one another to count: where they race, a count may be too low.
    """

    ioctls: Counter[str] = field(factory=Counter)
    """Calls of /dev/iommu that reached a handler, by name."""
    file_calls: Counter[str] = field(factory=Counter)
    """``read`` and ``write`` of event queues."""
    requests: int = 0
    """Invalidation requests that were executed for HWPT_INVALIDATE."""
    interrupts: Counter[str] = field(factory=Counter)
    """Interrupts that host drivers handled, by source."""
    register_reads: int = 0
    """Register reads of host drivers."""
    register_writes: int = 0
    """Register writes and doorbells of host drivers."""
    guest_reads: int = 0
    """Loads from registers that user space has mapped: a guest's, without exit."""
    guest_writes: int = 0
    """Stores to such registers."""
    guest_commands: Counter[str] = field(factory=Counter)
    """Commands that hardware executed from guests' own queues, by kind."""
    guest_records: Counter[str] = field(factory=Counter)
    """Events and page requests that hardware wrote to guests' own logs, by kind."""

    def observe(self, _: str, facts: Mapping[str, object]) -> None:
        """Take note of a batch of commands, or of a record (a `viommu.board.Observer`)."""
        if facts.get("guest") is None:
            return
        kinds, record = facts.get("kinds"), facts.get("record")
        if isinstance(kinds, dict):
            for name, count in kinds.items():
                self.guest_commands[name] += count
        if isinstance(record, str):
            self.guest_records[record] += 1

    @property
    def host_calls(self) -> int:
        """How often the host's software ran: ioctls, reads and writes of event queues, interrupts."""
        return self.ioctls.total() + self.file_calls.total() + self.interrupts.total()
