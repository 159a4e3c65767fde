"""A ring of descriptors in the program's memory, and what is under way of it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from attrs import define, field

from viommu.models.dma_tester.operations import problem, step
from viommu.models.dma_tester.registers import MOST_SIZE_LG2, RingControl, RingError, RingPasid, RingSize
from viommu.models.dma_tester.task import End, Task
from viommu.models.dma_tester.work import COMPLETION_BYTES, DESCRIPTOR_BYTES, Completion, Work
from viommu.modelspecs import Attributes

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.models.dma_tester.page_groups import PageGroups
    from viommu.models.dma_tester.registers import Abilities
    from viommu.modelspecs import Bus

IN_FLIGHT = 64
"""Descriptors of one ring that are under way at once."""
AT_ONCE = 16
"""Descriptors that are read at once."""
COUNT_MASK = (1 << 32) - 1


@define(eq=False)
class Ring:
    """One of them: ``number`` is its vector too. ``wake`` has `step` called until it has nothing to do."""

    number: int
    bus: Bus
    groups: PageGroups
    able: Abilities
    wake: Callable[[], None]
    base: int = 0
    completions: int = 0
    attributes: Attributes = field(factory=Attributes)
    size_lg2: int = 0
    tail: int = 0
    head: int = 0
    done: int = 0
    runs: bool = False
    error: RingError = RingError.NONE
    error_address: int = 0
    active: list[Task] = field(factory=list)
    moved: int = 0
    """Bytes, of everything that was ever under way."""
    _read: deque[Work] = field(factory=deque)
    """Descriptors that were read, and are not begun."""

    def control(self, base: int, completions: int, size: RingSize, pasid: RingPasid, control: RingControl) -> None:
        """Enable it, as its registers say, or disable it."""
        self.active, self.runs = [], bool(control.Enable)
        self._read.clear()
        if not self.runs:
            return
        self.base, self.completions, self.size_lg2 = base, completions, size.Lg2
        self.attributes = Attributes(pasid.Pasid if pasid.Valid else None)
        self.tail = self.head = self.done = self.error_address = 0
        self.error = RingError.NONE
        if size.Lg2 > MOST_SIZE_LG2:
            self._halt(RingError.SIZE, 0)

    def ring(self, tail: int) -> None:
        """Take more descriptors."""
        if not self.runs:
            return
        if (tail - self.head) & COUNT_MASK > 1 << self.size_lg2:
            self._halt(RingError.TAIL, 0)
            return
        self.tail = tail
        self.wake()

    def step(self, room: int) -> bool:
        """Begin what can be begun, and do one piece of each that is under way; whether there was anything to do.

        Once ``room`` bytes were moved the others have to wait: the next step begins with them.
        """
        begun = self._begin()
        able = [task for task in self.active if not task.waits]
        until = self.moved + room
        for done, task in enumerate(able):
            if self.moved >= until:
                self.active.sort(key=able[:done].__contains__)
                break
            self._do(task)
        return begun or bool(able)

    def _do(self, task: Task) -> None:
        if task.end is None:
            before = task.moved
            step(task)
            self.moved += task.moved - before
        if task.end is not None and self.runs:
            self._finish(task, task.end)

    def _begin(self) -> bool:
        begun = False
        while self.runs and len(self.active) < IN_FLIGHT and (self._read or self.head != self.tail):
            if not self._read and not self._fetch():
                break
            if self._read[0].Fence and self.active:
                break
            self._start(self._read.popleft())
            begun = True
        return begun

    def _fetch(self) -> bool:
        place = self.head & (1 << self.size_lg2) - 1
        count = min((self.tail - self.head) & COUNT_MASK, (1 << self.size_lg2) - place, AT_ONCE)
        raw = memoryview(bytearray(count * DESCRIPTOR_BYTES))
        refused = self.bus.read_into(self.base + place * DESCRIPTOR_BYTES, raw, self.attributes)
        if refused is not None:
            self._halt(RingError.FETCH, refused.iova)
            return False
        self._read += [Work.decode(raw[at : at + DESCRIPTOR_BYTES]) for at in range(0, len(raw), DESCRIPTOR_BYTES)]
        return True

    def _start(self, work: Work) -> None:
        task = Task(self.bus, self.groups, work, self.head, self.wake)
        self.head = self.head + 1 & COUNT_MASK
        wrong = problem(work, self.able)
        if wrong is not None:
            task.end = End(wrong)
        self.active.append(task)

    def _finish(self, task: Task, end: End) -> None:
        self.active.remove(task)
        place = self.done & (1 << self.size_lg2) - 1
        record = Completion(
            Cookie=task.work.Cookie,
            Address=end.address,
            Result=end.result,
            Index=task.index,
            Status=end.status,
            AtTarget=end.at_target,
            Detail=end.detail,
            Phase=~(self.done >> self.size_lg2) & 1,
        )
        at = self.completions + place * COMPLETION_BYTES
        refused = self.bus.write_from(at, record.encode(), self.attributes)
        if refused is not None:
            self._halt(RingError.COMPLETION, refused.iova)
            return
        self.done = self.done + 1 & COUNT_MASK
        if task.work.Interrupt:
            self.bus.interrupt(self.number)

    def _halt(self, error: RingError, address: int) -> None:
        self.runs, self.error, self.error_address = False, error, address
        self.active = []
        self._read.clear()
        self.bus.interrupt(self.number)
