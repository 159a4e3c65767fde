"""The host's side of the invalidation queue: descriptors in, a wait descriptor after them, errors recovered from."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from viommu.turns import Turns
from viommu_vtd.spec.commands import InvalidationType, InvalidationWait
from viommu_vtd.spec.faults import FSTS
from viommu_vtd.spec.queue_registers import IQA, IQERCD, IQH, IQT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from viommu.layout import Descriptor
    from viommu.memory import PhysicalMemory
    from viommu_vtd.host.registers import UnitRegisters

PAGE_LG2 = 12
DONE = 2
"""What the wait descriptor stores; the word holds 0 before."""

TRIES = 2
"""How often a batch is given to a device that does not answer, before that is told."""


class Trouble(Enum):
    """Why a batch was not done."""

    REFUSED = "IQE"
    """Hardware refuses a descriptor."""
    TIMED_OUT = "ITE"
    """A device did not answer."""
    COMPLETION = "ICE"
    """A device sent a wrong answer, and so never the right one: it timed out too."""


@frozen
class QueueFault:
    """A batch that hardware did not finish. ``index``: the descriptor that it refuses, of those that were given.

    ``source``: the device, for what a device did. ``error`` (`QueueError`) counts for REFUSED.
    """

    trouble: Trouble
    index: int | None = None
    source: int | None = None
    error: int = 0


@define(eq=False)
class InvalidationQueue:
    """Submits batches, each followed by a wait descriptor, and waits for it."""

    registers: UnitRegisters
    memory: PhysicalMemory
    base: int
    pages_lg2: int
    status: int
    """Physical address of the word that wait descriptors store to."""
    turns: Turns = field(factory=Turns)
    _tail: int = 0
    _size: int = field(init=False)
    """Bytes of a descriptor."""
    _waits: tuple[bytes, bytes] = field(init=False)
    """What ends a batch: a wait, and one that drains page requests."""

    def __attrs_post_init__(self) -> None:
        self._size = 32 if self.registers.ecap.SMTS else 16
        wait = InvalidationWait(Type=InvalidationType.WAIT, SW=1, STDATA=DONE, STADDR=self.status)
        drains = wait.replace(PD=self.registers.ecap.PDS)
        self._waits = _encoded(wait, self._size), _encoded(drains, self._size)

    def enable(self) -> None:
        """Hand the queue to hardware. With scalable mode its descriptors have 256 bits."""
        self._tail = 0
        self.registers.write(IQT())
        self.registers.write(IQA(QS=self.pages_lg2, DW=int(self._size == 32), Address=self.base))
        self.registers.command(QIE=1)

    def submit(self, descriptors: Sequence[Descriptor | bytes], *, drain: bool = False) -> QueueFault | None:
        """Have descriptors executed; None once they are. ``drain``: page requests have reached their queue too.

        Not from an interrupt handler: see `leave`.
        """
        return self.turns.take(lambda: self._submit_all(descriptors, drain=drain))

    def leave(self, make: Callable[[], Sequence[Descriptor]]) -> None:
        """Have descriptors executed soon, as an interrupt handler must."""
        self.turns.leave(lambda: self._submit_now(make()))

    @property
    def batch(self) -> int:
        """How many descriptors one batch takes, its wait descriptor not counted."""
        return (1 << PAGE_LG2 + self.pages_lg2) // self._size // 2

    def _submit_now(self, descriptors: Sequence[Descriptor]) -> None:
        self._submit_all(descriptors, drain=False)

    def _submit_all(self, descriptors: Sequence[Descriptor | bytes], *, drain: bool) -> QueueFault | None:
        """Submit all in batches. A device that does not answer keeps nobody else from being told."""
        raw = [_encoded(descriptor, self._size) for descriptor in descriptors]
        first: QueueFault | None = None
        for start in range(0, max(len(raw), 1), self.batch):
            fault = self._submit_batch(raw[start : start + self.batch], drain=drain)
            if fault is not None and fault.index is not None:
                return _moved(fault, start)
            first = first or fault
        return first

    def _submit_batch(self, raw: Sequence[bytes], *, drain: bool) -> QueueFault | None:
        fault: QueueFault | None = None
        for _ in range(TRIES):
            first = self._tail
            self.memory.write(self.status, bytes(4))
            self._write([*raw, self._waits[drain]])
            self.registers.write(IQT(QT=self._tail))
            if self.memory.read(self.status, 4) == DONE.to_bytes(4, "little"):
                return None
            fault = self._recover(first, len(raw))
            if fault.trouble is Trouble.REFUSED:
                break
        return fault

    def _write(self, entries: Sequence[bytes]) -> None:
        size = 1 << PAGE_LG2 + self.pages_lg2
        data = b"".join(entries)
        room = min(size - self._tail, len(data))
        self.memory.write(self.base + self._tail, data[:room])
        if room < len(data):
            self.memory.write(self.base, data[room:])
        self._tail = (self._tail + len(data)) % size

    def _recover(self, first: int, count: int) -> QueueFault:
        """Clear what hardware complains of, and let it go on."""
        status, record = self.registers.read(FSTS), self.registers.read(IQERCD)
        if status.IQE:
            return self._pass_over(first, count, record)
        if status.ITE:
            self.registers.write(FSTS(ITE=1, ICE=status.ICE))
            wrong = status.ICE and record.ICESID == record.ITESID
            return QueueFault(Trouble.COMPLETION if wrong else Trouble.TIMED_OUT, source=record.ITESID)
        raise AssertionError(f"the invalidation queue does not run: {status!r}")

    def _pass_over(self, first: int, count: int, record: IQERCD) -> QueueFault:
        """Put wait descriptors in the place of the refused one and of all after it: nothing of these is done."""
        size = 1 << PAGE_LG2 + self.pages_lg2
        index = (self.registers.read(IQH).QH - first) % size // self._size
        filler = _encoded(InvalidationWait(Type=InvalidationType.WAIT), self._size)
        tail, self._tail = self._tail, (first + index * self._size) % size
        self._write([filler] * (count + 1 - index))
        self._tail = tail
        self.registers.write(FSTS(IQE=1))
        return QueueFault(Trouble.REFUSED, index=index, error=record.IQEI)


def _encoded(descriptor: Descriptor | bytes, size: int) -> bytes:
    raw = descriptor if isinstance(descriptor, bytes) else descriptor.encode()
    return raw.ljust(size, b"\0")


def _moved(fault: QueueFault, by: int) -> QueueFault:
    return QueueFault(fault.trouble, (fault.index or 0) + by, fault.source, fault.error)
