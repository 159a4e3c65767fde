"""What a recorded call does not show of the memory that it was made with, and what a program does unseen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.oracle.probe_steps import NULL_BUFFER, READ_ONLY_STRUCT, ZERO_TAIL

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.oracle.processes import Process
    from viommu.oracle.recording import Record


@frozen
class Circumstances:
    """One call's: its read buffer leads nowhere, its struct cannot be written, zeros follow what is shown of it."""

    bad_buffer: bool = False
    read_only_struct: bool = False
    zero_tail: bool = False

    @classmethod
    def named(cls, record: Record) -> Circumstances:
        """Give what the name of the probe tells."""
        name = record.probe
        return cls(
            bad_buffer=bool(NULL_BUFFER.search(name)),
            read_only_struct=bool(READ_ONLY_STRUCT.search(name)),
            zero_tail=bool(ZERO_TAIL.search(name)),
        )


ORDINARY = Circumstances()


@frozen
class Assumption:
    """Something that no record shows, true from just before the record ``at`` (its place in the replay) on.

    ``circumstances`` are those of that one call, whatever its name tells; ``change`` is what the program did to its
    memory or fds.
    """

    at: int
    explains: int
    """The record whose answer follows from it."""
    text: str
    circumstances: Circumstances | None = None
    change: Callable[[Process], None] | None = None

    def come_true(self, process: Process) -> None:
        """Let the program have done it."""
        if self.change is not None:
            self.change(process)
