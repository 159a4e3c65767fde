"""What programs do that cannot be done here: told to the log, for the user."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import structlog

from viommu.service.wire import Note

if TYPE_CHECKING:
    from viommu.service.programs import Program

log = structlog.get_logger()

MOST_TEXT = 4096
"""Bytes."""
EVENTS = {
    Note.URING: "io_uring was refused on a descriptor of ours, with EOPNOTSUPP: read, write and ioctl work",
    Note.NOT_LOADABLE: "a program was started that loads no library: it sees the machine's own devices",
}


def take_note(program: Program, kind: int, address: int, length: int) -> int:
    """Log what a program tells, with the text that lies in its memory: 0 or a negative errno."""
    if kind not in EVENTS or length > MOST_TEXT:
        return -errno.EINVAL
    text = program.read(address, length) if length else b""
    if text is None:
        return -errno.EFAULT
    log.info(EVENTS[Note(kind)], pid=program.pid, program=text.decode(errors="backslashreplace") or None)
    return 0
