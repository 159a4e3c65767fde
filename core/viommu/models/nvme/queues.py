"""Submission and completion queues, as the controller keeps them."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from attrs import define

COMMAND = struct.Struct("<BBHIIIQQQIIIIII")
COMMAND_BYTES, COMPLETION_BYTES = 64, 16
COMPLETION = struct.Struct("<IIHHHH")
DO_NOT_RETRY = 1 << 14


class Status(IntEnum):
    """How a command ends: code type and code, as a completion has them."""

    SUCCESS = 0
    INVALID_OPCODE = 0x001
    INVALID_FIELD = 0x002
    DATA_TRANSFER = 0x004
    INVALID_NAMESPACE = 0x00B
    OUT_OF_RANGE = 0x080
    INVALID_COMPLETION_QUEUE = 0x100
    INVALID_QUEUE_ID = 0x101
    INVALID_QUEUE_SIZE = 0x102
    INVALID_VECTOR = 0x108
    INVALID_LOG_PAGE = 0x109
    INVALID_QUEUE_DELETION = 0x10C


class Command(NamedTuple):
    """One entry of a submission queue."""

    opcode: int
    flags: int
    cid: int
    nsid: int
    cdw2: int
    cdw3: int
    metadata: int
    prp1: int
    prp2: int
    cdw10: int
    cdw11: int
    cdw12: int
    cdw13: int
    cdw14: int
    cdw15: int

    @property
    def wide10(self) -> int:
        """Command words 10 and 11 as one."""
        return self.cdw10 | self.cdw11 << 32


class Outcome(NamedTuple):
    """How a command ended, and the first word of its completion."""

    status: Status = Status.SUCCESS
    result: int = 0


@define(eq=False)
class CompletionQueue:
    """One completion queue; ``vector`` None: it raises no interrupts."""

    base: int
    size: int
    vector: int | None
    head: int = 0
    tail: int = 0
    phase: int = 1
    users: int = 0

    @property
    def is_full(self) -> bool:
        """Whether nothing can be posted until software takes something."""
        return (self.tail + 1) % self.size == self.head

    def entry(self, outcome: Outcome, sq_head: int, sq_id: int, cid: int) -> tuple[int, bytes]:
        """Take the next place: its address, and the bytes to be written there."""
        status = outcome.status | (DO_NOT_RETRY if outcome.status else 0)
        raw = COMPLETION.pack(outcome.result, 0, sq_head, sq_id, cid, self.phase | status << 1)
        address = self.base + self.tail * COMPLETION_BYTES
        self.tail += 1
        if self.tail == self.size:
            self.tail, self.phase = 0, self.phase ^ 1
        return address, raw


@define(eq=False)
class SubmissionQueue:
    """One submission queue."""

    base: int
    size: int
    completions: CompletionQueue
    head: int = 0
    tail: int = 0

    @property
    def next_address(self) -> int:
        """Where the next command lies."""
        return self.base + self.head * COMMAND_BYTES

    def advance(self) -> None:
        """Take the next command."""
        self.head = (self.head + 1) % self.size
