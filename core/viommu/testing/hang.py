"""An end to what would take for ever."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["Hang", "ended_after"]


class Hang(BaseException):
    """Something has taken too long. No Exception, so that nobody takes it for what a driver raises."""


@contextmanager
def ended_after(seconds: float) -> Iterator[None]:
    """Raise Hang in the block after a while, if this is the main thread and nobody else has set an alarm."""
    free = threading.current_thread() is threading.main_thread() and signal.getitimer(signal.ITIMER_REAL)[0] == 0
    if not free:
        yield
        return

    def hang(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise Hang(f"it does not come to an end within {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
