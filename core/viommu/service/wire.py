"""What the shim in a program and the service tell each other: packets of one connected socket for each thread.

The program asks. The service may ask back while it answers, or at any time through the helper thread that the shim
keeps in each process; each question is answered by one packet. cpp/shim/wire.hpp states the same.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Self

HEADER = struct.Struct("<IIq4Q")
HEADER_BYTES = HEADER.size
MOST_BYTES = 64 * 1024
"""Of a payload."""
MOST_PACKET = HEADER_BYTES + MOST_BYTES
MSG_NOSIGNAL = int(socket.MSG_NOSIGNAL)
TOKEN_BYTES = 16
READABLE, WRITABLE, SHARED = 1, 2, 4
"""Rights of an area."""
NOT_OURS = -4095
"""The answer about a file that the service does not know: no errno."""
WORD = (1 << 64) - 1
DESCRIPTOR_ROOM = socket.CMSG_LEN(4)
"""Of one descriptor: the kernel closes what comes beyond."""


class Op(IntEnum):
    """What a packet is."""

    HELLO = 1
    OPEN = 2
    IOCTL = 3
    READ = 4
    WRITE = 5
    MAP = 6
    OWNS = 7
    PINNED = 8
    LOAD = 9
    STORE = 10
    NOTE = 11

    PEEK = 32
    POKE = 33
    FILE = 34
    AREA = 35
    POPULATE = 36
    INSTALL = 37
    UNINSTALL = 38
    SHARE = 39
    EXCHANGE = 40

    ANSWER = 64


class Note(IntEnum):
    """What the user should know of a program (of NOTE)."""

    URING = 1
    NOT_LOADABLE = 2


class Gone(Exception):
    """The other side closed the connection, or sent what is no packet."""


class Silent(Gone):
    """The other side sent nothing for as long as the connection waits."""


class Packet(NamedTuple):
    """One packet. ``result`` is 0 or more, or a negative errno; ``fd`` came along, and is the receiver's to close."""

    op: int
    words: tuple[int, int, int, int] = (0, 0, 0, 0)
    result: int = 0
    payload: bytes = b""
    fd: int | None = None

    @classmethod
    def of(cls, op: int, *words: int, result: int = 0, payload: bytes = b"", fd: int | None = None) -> Self:
        """Make one with up to four words."""
        a, b, c, d = (*words, 0, 0, 0, 0)[:4]
        return cls(op, (a & WORD, b & WORD, c & WORD, d & WORD), result, payload, fd)

    def close(self) -> None:
        """Close the descriptor that came along, if one did."""
        if self.fd is not None:
            os.close(self.fd)

    def send(self, connection: socket.socket) -> None:
        """Send it; the descriptor stays the sender's. Raises Gone."""
        raw = HEADER.pack(self.op, len(self.payload), self.result, *self.words) + self.payload
        try:
            if self.fd is None:
                connection.send(raw, MSG_NOSIGNAL)
            else:
                socket.send_fds(connection, [raw], [self.fd], MSG_NOSIGNAL)
        except OSError as error:
            raise Gone from error

    @classmethod
    def receive(cls, connection: socket.socket) -> Self:
        """Wait for one. Raises Gone; Silent where the connection has a timeout."""
        try:
            raw, ancillary, _, _ = connection.recvmsg(MOST_PACKET, DESCRIPTOR_ROOM, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError as error:
            raise Silent from error
        except OSError as error:
            raise Gone from error
        fd = next((int.from_bytes(data, sys.byteorder) for _, _, data in ancillary), None)
        try:
            return cls._parsed(raw, fd)
        except Gone:
            if fd is not None:
                os.close(fd)
            raise

    @classmethod
    def receive_plain(cls, connection: socket.socket) -> Self:
        """Wait for one that no descriptor comes with: the system closes any. It is faster. Raises Gone, Silent."""
        try:
            return cls._parsed(connection.recv(MOST_PACKET), None)
        except BlockingIOError as error:
            raise Silent from error
        except OSError as error:
            raise Gone from error

    @classmethod
    def _parsed(cls, raw: bytes, fd: int | None) -> Self:
        if len(raw) < HEADER_BYTES:
            raise Gone
        op, length, result, a, b, c, d = HEADER.unpack_from(raw)
        if length != len(raw) - HEADER_BYTES:
            raise Gone
        # That of a named tuple takes twice as long.
        return tuple.__new__(cls, (op, (a, b, c, d), result, raw[HEADER_BYTES:], fd))
