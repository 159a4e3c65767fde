"""A way to ask a program: one connection, one question at a time."""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from threading import RLock

from viommu.service.wire import Gone, Op, Packet


class Link:
    """A connection on which the service asks one thread of a program."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = RLock()

    def ask(self, question: Packet) -> Packet:
        """Ask, and wait for the answer. Raises Gone."""
        with self._lock:
            try:
                question.send(self._connection)
                answer = Packet.receive(self._connection)
            except Gone:
                self._end()  # an answer that comes too late must not be taken for that of the next question
                raise
            if answer.op != Op.ANSWER:
                self._end()
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
