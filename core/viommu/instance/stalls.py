"""Accesses that wait for software, as an SMMU lets them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from attrs import define, field

from viommu.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.faults import Report
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
    _answers: dict[int, list[StallResolution]] = field(factory=dict, init=False)
    """What software has answered while a fault was written down: an interrupt's handler may be that quick."""
    _resuming: set[int] = field(factory=set, init=False)
    """Faults (by identity) that wait no more, and are not in ``resumed`` yet."""
    _followers: dict[int, Callable[[Outcome], None]] = field(factory=dict, init=False)
    """Who is to be told how a fault's wait ended (by identity)."""

    def record(self, fault: Fault, write: Callable[[Fault], Report]) -> None:
        """Have the hardware write a fault down, and let the access wait, if it stalls, until software answers."""
        answers: list[StallResolution] = []
        self._answers[id(answers)] = answers
        try:
            tag = write(fault).stall_tag
            if tag is not None and len(self.waiting) < MOST_STALLED:
                self.waiting[fault.requester, tag] = fault
        finally:
            del self._answers[id(answers)]
        for answer in answers:
            if tag is not None and _is_meant(answer, fault.requester, tag):
                self._resolve(answer)

    def resolve(self, resolution: StallResolution) -> None:
        """Take the accesses that software means out of their wait."""
        for answers in tuple(self._answers.values()):
            answers.append(resolution)
        self._resolve(resolution)

    def _resolve(self, resolution: StallResolution) -> None:
        for key in [key for key in tuple(self.waiting) if _is_meant(resolution, *key)]:
            fault = self.waiting[key]
            self._resuming.add(id(fault))
            del self.waiting[key]
            outcome = self.retry(fault) if resolution.retry else fault
            self.resumed.append((fault, outcome))
            self._resuming.discard(id(fault))
            follower = self._followers.pop(id(fault), None)
            if follower is not None:
                self._tell(follower, fault, outcome)

    def knows(self, fault: Fault) -> bool:
        """Say whether an access behind a fault waits, or has waited and is not forgotten."""
        if any(waiting is fault for waiting in tuple(self.waiting.values())) or id(fault) in self._resuming:
            return True
        return any(stalled is fault for stalled, _ in reversed(tuple(self.resumed)))

    def follow(self, fault: Fault, done: Callable[[Outcome], None]) -> bool:
        """Have ``done`` told, once and by any thread, how the access behind a fault ends, however often it stalls.

        False where it does not wait and never has.
        """
        self._followers[id(fault)] = done  # first: whoever takes it out of its wait meanwhile finds this
        if any(waiting is fault for waiting in tuple(self.waiting.values())) or id(fault) in self._resuming:
            return True
        if self._followers.pop(id(fault), None) is None:
            return True
        for stalled, outcome in reversed(tuple(self.resumed)):
            if stalled is fault:
                self._tell(done, fault, outcome)
                return True
        return False

    def _tell(self, done: Callable[[Outcome], None], fault: Fault, outcome: Outcome) -> None:
        if outcome is fault or not isinstance(outcome, Fault) or not self.follow(outcome, done):
            done(outcome)


def _is_meant(resolution: StallResolution, requester: int, tag: int) -> bool:
    return requester == resolution.requester and resolution.tag in (None, tag)
