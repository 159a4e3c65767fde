"""What programs asked of a service: how often, with what success, and how long it took to answer."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from attrs import define, field

from viommu.service.course import Course
from viommu.service.names import name_of_file, name_of_ioctl
from viommu.service.nodes import name_of
from viommu.service.wire import Op

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from viommu.iommufd.user_memory import UserFile
    from viommu.memory import PhysicalMemory
    from viommu.objects.mmap import RegisterMapping
    from viommu.service.calls import Caller
    from viommu.service.files import Files, Served
    from viommu.service.programs import Program
    from viommu.service.wire import Packet
    from viommu.vfio.devices import Devices
    from viommu.vfio.uapi import Irq

VERBS: dict[int, str] = {
    Op.READ: "read of",
    Op.WRITE: "write to",
    Op.MAP: "mmap of",
    Op.LOAD: "load from",
    Op.STORE: "store to",
}
DIGITS = 100
"""Times are counted by their first two digits: a median is that exact."""


@define(eq=False)
class Times:
    """Answers to one kind of question; microseconds."""

    count: int = 0
    errors: int = 0
    total: int = 0
    _by_time: Counter[int] = field(factory=Counter)

    def add(self, nanoseconds: int, *, failed: bool) -> None:
        """Count one."""
        self.count += 1
        self.errors += failed
        self.total += nanoseconds
        self._by_time[_rounded(nanoseconds)] += 1

    @property
    def median(self) -> int:
        """Nanoseconds, to two digits."""
        left = (self.count + 1) // 2
        for nanoseconds in sorted(self._by_time):
            left -= self._by_time[nanoseconds]
            if left <= 0:
                return nanoseconds
        return 0


class Tally(Course):
    """Counts, and leaves the rest to another."""

    takes_no_note = False

    def __init__(self, inner: Course, devices: Devices) -> None:
        """Count what ``inner`` is told of, and interrupts of devices."""
        self.inner = inner
        self.turn = inner.turn
        self.calls: dict[str, Times] = {}
        self.interrupts: Counter[str] = Counter()
        self._files: Files | None = None
        for function in devices:
            before = function.interrupts.told
            function.interrupts.told = partial(self._interrupted, function.name, before)

    def begin(self, files: Files) -> None:
        """Take note of the files that are served."""
        self._files = files
        self.inner.begin(files)

    def memory_of_programs(self, memory: PhysicalMemory) -> PhysicalMemory:
        """Say where pages of programs are pinned."""
        return self.inner.memory_of_programs(memory)

    def answered(self, program: Program, question: Packet, act: Callable[[Caller], Packet]) -> Packet:
        """Have a question answered, and count it."""
        name = self._name(question)
        began = time.perf_counter_ns()
        answer = self.inner.answered(program, question, act)
        took = time.perf_counter_ns() - began
        self.calls.setdefault(name, Times()).add(took, failed=answer.result < 0)
        return answer

    def closing(self, served: Served) -> AbstractContextManager[object]:
        """Leave it to the other."""
        return self.inner.closing(served)

    def unmapping(self, mapping: RegisterMapping) -> AbstractContextManager[object]:
        """Leave it to the other."""
        return self.inner.unmapping(mapping)

    def end(self) -> None:
        """Leave it to the other."""
        self.inner.end()

    def _name(self, question: Packet) -> str:
        first = question.words[0]
        if question.op == Op.OPEN:
            return f"open of {name_of(first)}"
        file = self._file(first)
        if question.op == Op.IOCTL:
            return name_of_ioctl(question.words[1], file)
        return f"{VERBS.get(question.op, 'question about')} {name_of_file(file)}"

    def _file(self, number: int) -> UserFile | None:
        served = None if self._files is None else self._files.find(number)
        return None if served is None else served.file

    def _interrupted(self, device: str, before: Callable[[Irq, int], None] | None, irq: Irq, vector: int) -> None:
        self.interrupts[f"{device} {irq.name}"] += 1
        if before is not None:
            before(irq, vector)

    def __str__(self) -> str:
        rows = [
            (name, str(times.count), str(times.errors), _us(times.median), _us(times.total))
            for name, times in sorted(self.calls.items(), key=lambda item: (-item[1].count, item[0]))
        ]
        lines = _table(("what programs asked", "count", "errors", "median us", "total us"), rows)
        if self.interrupts:
            told = [(name, str(count)) for name, count in sorted(self.interrupts.items())]
            lines += ["", *_table(("interrupts of devices", "count"), told)]
        return "\n".join(lines)


def _rounded(value: int) -> int:
    step = 1
    while value // step >= DIGITS:
        step *= 10
    return value // step * step


def _us(nanoseconds: int) -> str:
    return f"{nanoseconds / 1000:.1f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    whole = [head, *rows]
    widths = [max(len(row[column]) for row in whole) for column in range(len(head))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in whole
    ]
