"""The course of a service: what comes to its machine from outside, each of which is told before it is done."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from viommu.memory import PhysicalMemory
    from viommu.objects.mmap import RegisterMapping
    from viommu.service.calls import Caller
    from viommu.service.files import Files, Served
    from viommu.service.programs import Program
    from viommu.service.wire import Packet


class Course:
    """One that takes no note, and lets things happen at once."""

    takes_no_note = True
    """Nobody needs to tell it of a question before it is answered, nor to wait for a turn."""
    turn: AbstractContextManager[object] = nullcontext()
    """Is held, outside of all locks, while something happens."""

    def begin(self, files: Files) -> None:
        """Take note of the files that are served."""

    def memory_of_programs(self, memory: PhysicalMemory) -> PhysicalMemory:
        """Say where pages of programs are pinned, on a machine with that memory."""
        return memory

    def answered(self, program: Program, question: Packet, act: Callable[[Caller], Packet]) -> Packet:  # noqa: ARG002
        """Have a question answered, for the program or for what stands in its place."""
        return act(program)

    def closing(self, served: Served) -> AbstractContextManager[object]:  # noqa: ARG002
        """Be put around the release of a file."""
        return nullcontext()

    def unmapping(self, mapping: RegisterMapping) -> AbstractContextManager[object]:  # noqa: ARG002
        """Be put around the end of a mapping."""
        return nullcontext()

    def end(self) -> None:
        """Take note that nothing more will happen."""


class Through(Course):
    """One that leaves everything to another, for who looks on."""

    takes_no_note = False

    def __init__(self, inner: Course) -> None:
        """Leave it to ``inner``."""
        self.inner = inner
        self.turn = inner.turn
        self.files: Files | None = None

    def begin(self, files: Files) -> None:
        """Take note of the files that are served."""
        self.files = files
        self.inner.begin(files)

    def memory_of_programs(self, memory: PhysicalMemory) -> PhysicalMemory:
        """Say where pages of programs are pinned."""
        return self.inner.memory_of_programs(memory)

    def answered(self, program: Program, question: Packet, act: Callable[[Caller], Packet]) -> Packet:
        """Have a question answered."""
        return self.inner.answered(program, question, act)

    def closing(self, served: Served) -> AbstractContextManager[object]:
        """Be put around the release of a file."""
        return self.inner.closing(served)

    def unmapping(self, mapping: RegisterMapping) -> AbstractContextManager[object]:
        """Be put around the end of a mapping."""
        return self.inner.unmapping(mapping)

    def end(self) -> None:
        """Take note that nothing more will happen."""
        self.inner.end()
