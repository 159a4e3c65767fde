"""What a device does later, and whose turn it is: software's, or the device's."""

from __future__ import annotations

import time
from collections import deque
from contextlib import contextmanager, nullcontext
from heapq import heapify, heappop, heappush
from itertools import count
from threading import Condition, RLock, Thread
from typing import TYPE_CHECKING

import structlog
from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

log = structlog.get_logger()

IDLE_SECONDS = 1.0
"""A thread that has had nothing to do for so long ends; another begins when there is something."""
YIELD_SECONDS = 50e-6
PATIENCE_SECONDS = 2e-3
"""So long a device lets software in first; then software gives way once, for the rest of it may never end."""


@define(eq=False)
class ModelLock:
    """Held while a model works. A device that is always at work lets software in first: a plain lock would not."""

    _lock: RLock = field(factory=RLock)
    _waiting: deque[None] = field(factory=deque)
    _has_waited: bool = False

    @contextmanager
    def for_software(self) -> Iterator[None]:
        """Hold it for a call of the model."""
        if self._has_waited:
            time.sleep(YIELD_SECONDS)
        self._waiting.append(None)
        self._lock.acquire()
        self._waiting.pop()
        try:
            yield
        finally:
            self._lock.release()

    @contextmanager
    def for_work(self) -> Iterator[None]:
        """Hold it for work of the device's own, when no software waits for it, or some always does."""
        until = time.monotonic() + PATIENCE_SECONDS
        while self._waiting and time.monotonic() < until:
            time.sleep(YIELD_SECONDS)
        self._has_waited = bool(self._waiting)
        with self._lock:
            self._has_waited = False
            yield


@define(eq=False)
class Later:
    """Work of one device, by the time when it is due: one piece after the other, by a thread that comes and goes.

    ``turn`` is held around each piece, outside of the lock, and ``around`` is put around each, told its number: they
    count from 0. ``by_hand``: nothing is done but what `do` is asked for.
    """

    name: str
    lock: ModelLock
    turn: AbstractContextManager[object] = field(factory=nullcontext)
    around: Callable[[int], AbstractContextManager[object]] = field(default=lambda _: nullcontext())
    by_hand: bool = False
    _due: list[tuple[float, int, Callable[[], None]]] = field(factory=list)
    _changed: Condition = field(factory=Condition)
    _numbers: Iterator[int] = field(factory=count)
    _thread: Thread | None = None

    def add(self, seconds: float, work: Callable[[], None]) -> None:
        """Have something done, with the lock held."""
        with self._changed:
            heappush(self._due, (time.monotonic() + seconds, next(self._numbers), work))
            if self._thread is None and not self.by_hand:
                self._thread = Thread(target=self._run, name=f"viommu {self.name}", daemon=True)
                self._thread.start()
            self._changed.notify()

    def clear(self) -> None:
        """Forget all of it; the lock is held."""
        with self._changed:
            self._due.clear()

    def do(self, number: int) -> bool:
        """Do one piece now, whenever it is due; False where it is not there."""
        with self.lock.for_work():
            with self._changed:
                found = next((piece for piece in self._due if piece[1] == number), None)
                if found is None:
                    return False
                self._due.remove(found)
                heapify(self._due)
            self._work(*found[1:])
        return True

    def _run(self) -> None:
        while self._wait():
            with self.turn, self.lock.for_work():
                piece = self._take()
                if piece is not None:
                    self._work(*piece)

    def _work(self, number: int, work: Callable[[], None]) -> None:
        try:
            with self.around(number):
                work()
        except Exception:
            log.exception("a device model failed", device=self.name)

    def _wait(self) -> bool:
        """Wait for something to be due; False where this thread has ended, as nothing came."""
        with self._changed:
            while True:
                left = self._due[0][0] - time.monotonic() if self._due else IDLE_SECONDS
                if left <= 0:
                    return True
                if not self._changed.wait(left) and not self._due:
                    self._thread = None
                    return False

    def _take(self) -> tuple[int, Callable[[], None]] | None:
        with self._changed:
            is_due = self._due and self._due[0][0] <= time.monotonic()
            return heappop(self._due)[1:] if is_due else None
