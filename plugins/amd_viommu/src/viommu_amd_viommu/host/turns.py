"""Who may use the command buffer, and work that nobody may wait for."""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@define(eq=False, repr=False)
class Turns:
    """Lets one caller at a time work.

    An interrupt handler may run below a caller that has the turn, so it must not wait for one: it leaves its work to
    whoever has the turn, and does it itself where nobody has.
    """

    _lock: Lock = field(factory=Lock)
    _left: deque[Callable[[], object]] = field(factory=deque)

    def take(self, work: Callable[[], T]) -> T:
        """Wait for the turn, then work. Not from within a turn."""
        try:
            with self._lock:
                return work()
        finally:
            self._catch_up()

    def leave(self, work: Callable[[], object]) -> None:
        """Have work done soon."""
        self._left.append(work)
        self._catch_up()

    def _catch_up(self) -> None:
        """Do what was left. Work that is left after the last look finds the lock free."""
        while self._left and self._lock.acquire(blocking=False):
            try:
                while self._left:
                    self._left.popleft()()
            finally:
                self._lock.release()
