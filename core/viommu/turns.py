"""Work that must be done by one at a time, some of which nobody may wait for."""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Turns",
]

T = TypeVar("T")


@define(eq=False)
class Turns:
    """Lets one caller at a time have something: a command queue.

    An interrupt comes while hardware holds its own lock, and may come to who has the queue already: its handler must
    not wait. It leaves its work, which whoever has the turn does afterwards; where nobody has it, it is done at once.
    """

    _lock: Lock = field(factory=Lock)
    _left: deque[Callable[[], object]] = field(factory=deque)

    def take(self, work: Callable[[], T]) -> T:
        """Wait for the turn, and work. Not for work that is done in a turn already."""
        try:
            with self._lock:
                return work()
        finally:
            self._finish()

    def leave(self, work: Callable[[], object]) -> None:
        """Have work done soon: now, or by who has the turn."""
        self._left.append(work)
        self._finish()

    def _finish(self) -> None:
        """Do what was left. Who leaves work after the last look finds the lock free, and does it himself."""
        while self._left and self._lock.acquire(blocking=False):
            try:
                while self._left:
                    self._left.popleft()()
            finally:
                self._lock.release()
