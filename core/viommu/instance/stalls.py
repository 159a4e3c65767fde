"""Accesses that wait for software, as an SMMU lets them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.faults import Fault, Report
    from viommu.platform import StallResolution
    from viommu.translation import Outcome

MOST_STALLED = 65536
"""Accesses that may wait for software at once; one more ends as a fault that nobody waits for."""


@define(eq=False)
class Stalls:
    """What waits, by (requester, stall tag), and how waiting ended."""

    retry: Callable[[Fault], Outcome]
    """Sends the access again; it may stall again, under another tag."""
    waiting: dict[tuple[int, int], Fault] = field(factory=dict)
    resumed: deque[tuple[Fault, Outcome]] = field(factory=lambda: deque(maxlen=MOST_STALLED))

    def hold(self, fault: Fault, report: Report) -> None:
        """Let the access wait, if the hardware says that it stalls."""
        if report.stall_tag is not None and len(self.waiting) < MOST_STALLED:
            self.waiting[fault.requester, report.stall_tag] = fault

    def resolve(self, resolution: StallResolution) -> None:
        """Take the accesses that software means out of their wait."""
        for key in [key for key in self.waiting if _is_meant(resolution, *key)]:
            fault = self.waiting.pop(key)
            self.resumed.append((fault, self.retry(fault) if resolution.retry else fault))


def _is_meant(resolution: StallResolution, requester: int, tag: int) -> bool:
    return requester == resolution.requester and resolution.tag in (None, tag)
