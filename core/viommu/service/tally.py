"""What programs asked of a service: how often, with what success, and how long it took to answer."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from attrs import define, field

from viommu.service.course import Through
from viommu.service.names import name_of_question

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from viommu.service.calls import Caller
    from viommu.service.course import Course
    from viommu.service.programs import Program
    from viommu.service.wire import Packet
    from viommu.vfio.devices import Devices
    from viommu.vfio.uapi import Irq

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


class Tally(Through):
    """Counts, and leaves the rest to another."""

    def __init__(self, inner: Course, devices: Devices) -> None:
        """Count what ``inner`` is told of, and interrupts of devices."""
        super().__init__(inner)
        self.calls: dict[str, Times] = {}
        self.interrupts: Counter[str] = Counter()
        for function in devices:
            before = function.interrupts.told
            function.interrupts.told = partial(self._interrupted, function.name, before)

    def answered(self, program: Program, question: Packet, act: Callable[[Caller], Packet]) -> Packet:
        """Have a question answered, and count it."""
        name = name_of_question(question, self.files)
        began = time.perf_counter_ns()
        answer = super().answered(program, question, act)
        took = time.perf_counter_ns() - began
        self.calls.setdefault(name, Times()).add(took, failed=answer.result < 0)
        return answer

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
