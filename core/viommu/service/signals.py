"""Signals that are the program's, not those of who runs it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import Popen
    from types import FrameType

FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
OF_TERMINALS = frozenset({signal.SIGINT, signal.SIGQUIT})
"""Those that a terminal sends to all that runs in its foreground: the program has had them."""


@define(eq=False)
class Forwarding:
    """Passes signals on; those that come before there is a program wait for it."""

    _program: Popen[bytes] | None = None
    _early: list[int] = field(factory=list)

    def to(self, program: Popen[bytes]) -> None:
        """Pass them on to a program from now on."""
        self._program = program
        while self._early:
            self._send(self._early.pop(0))

    def take(self, number: int, _: FrameType | None = None) -> None:
        """Take a signal (a signal handler)."""
        if number in OF_TERMINALS and _is_in_foreground():
            return
        if self._program is None:
            self._early.append(number)
        else:
            self._send(number)

    def _send(self, number: int) -> None:
        if self._program is not None:
            with suppress(ProcessLookupError):
                self._program.send_signal(number)


@contextmanager
def forwarding() -> Iterator[Forwarding]:
    """Pass signals on while a program runs; what was done about them before is done again afterwards.

    Those that are ignored stay so, for the program too: nohup works. Only the main thread can: others pass none on.
    """
    forwards = Forwarding()
    before = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in FORWARDED:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    before[number] = signal.signal(number, forwards.take)
        yield forwards
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_in_foreground() -> bool:
    """Say whether this process runs in the foreground of a terminal."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            if os.tcgetpgrp(stream.fileno()) == os.getpgrp():
                return True
    return False
