"""A way to ask a program: one connection, one question at a time."""

from __future__ import annotations

import select
import socket
import time
from contextlib import suppress
from threading import RLock

from attrs import define, field

from viommu.service.wire import Gone, Op, Packet

PATIENCE = 30.0
"""Seconds that a program may keep us waiting, while others may wait for what it holds."""
RETURN = 0.1
"""Seconds of patience that come back with each second in which it does not."""


@define
class Patience:
    """How long a program may keep us waiting, by all its answers together (seconds)."""

    most: float
    _left: float = field(init=False)
    _since: float = field(init=False, factory=time.monotonic)

    def __attrs_post_init__(self) -> None:
        self._left = self.most

    def waited(self, seconds: float) -> bool:
        """Take note that we waited until now; whether we would wait again."""
        now = time.monotonic()
        rested = max(now - self._since - seconds, 0.0)
        self._left = min(self.most, self._left + rested * RETURN) - seconds
        self._since = now
        return self._left > 0


class Link:
    """A connection on which the service asks one thread of a program."""

    def __init__(self, connection: socket.socket, patience: float = PATIENCE) -> None:
        self._connection = connection
        self._patience = Patience(patience)
        self._lock = RLock()

    def ask(self, question: Packet) -> Packet:
        """Ask, and wait for the answer. Raises Gone, also where answers have been too slow altogether."""
        with self._lock:
            asked = time.monotonic()
            try:
                question.send(self._connection)
                answer = Packet.receive(self._connection)
            except Gone:
                self._end()  # an answer that comes too late must not be taken for that of the next question
                raise
            if answer.op != Op.ANSWER or not self._patience.waited(time.monotonic() - asked):
                self._end()
                answer.close()
                raise Gone
            return answer

    def close(self) -> None:
        """End the connection; who waits for an answer meanwhile gets none."""
        self._end()
        with self._lock:
            self._connection.close()

    def _end(self) -> None:
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    @property
    def is_open(self) -> bool:
        """Whether the other side is there: the end of a process closes it."""
        number = self._connection.fileno()
        poll = select.poll()
        if number >= 0:
            poll.register(number, select.POLLRDHUP)
        return number >= 0 and not poll.poll(0)
