"""What the names of probes tell: steps that no recorder saw, and memory that only a name describes.

Probes carry no memory records, and a few of their steps are made by calls that are not recorded (dup, lseek,
munmap). Their names say what was done; each rule here does one such thing, before our call is made and without a
look at an answer.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from viommu.oracle.recording import Record

NULL_BUFFER = re.compile(r"\bNULL\b|bad buffer", re.IGNORECASE)
READ_ONLY_STRUCT = re.compile(r"read-only struct", re.IGNORECASE)
READ_ONLY_PAGE = re.compile(r"read-only user page", re.IGNORECASE)
ZERO_TAIL = re.compile(r"zero tail", re.IGNORECASE)
NO_FILE = re.compile(r"bad fd|closed fd", re.IGNORECASE)
PIPE = re.compile(r"\bpipe\b|socket|eventfd", re.IGNORECASE)
UNMAPS_ALL = re.compile(r"last page unmapped|after (child exit|munmap)", re.IGNORECASE)

MEMFD_BYTES = 4 << 12
"""The size of a memfd of which nothing is told."""


@frozen
class Step:
    """A step that was made by a call which is not recorded."""

    pattern: re.Pattern[str]
    name: str


STEPS = tuple(
    Step(re.compile(pattern, re.IGNORECASE), name)
    for pattern, name in (
        (r"/dup shares the context", "dup_alloc"),
        (r"/dup fd, close original", "dup_before"),
        (r"/lseek", "lseek"),
        (r"/epoll_ctl", "epoll_ctl"),
        (r"/epoll EPOLLIN", "epoll"),
        (r"/pread", "pread"),
        (r"/readv two iov", "readv"),
        (r"/write through one seen", "write_through"),
    )
)


def step_of(record: Record) -> str | None:
    """Name the unrecorded step of a probe, if its name tells of one."""
    return next((step.name for step in STEPS if step.pattern.search(record.probe)), None)
