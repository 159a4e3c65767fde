"""The event log and the PPR log in memory: full, halted, doubled (AMD 48882, 2.5 and 2.6)."""

from __future__ import annotations

from functools import lru_cache
from threading import RLock
from typing import TYPE_CHECKING, Protocol

from attrs import define, field, frozen

from viommu_amd_viommu.spec.registers import BufferBase, Control, DualLog, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.registers import RegisterFile

ENTRY_BYTES = 16
LEAST_LENGTH, MOST_LENGTH = 8, 15
"""log2 of entries. Lengths below are reserved, and taken for the least."""


class LogMemory(Protocol):
    """Memory that logs are written to: the machine's, or a guest's by the addresses that the guest knows."""

    def write(self, address: int, data: bytes, /) -> bool:
        """Store bytes; False where they could not be."""


@frozen
class Ring:
    """Where a queue lies now: base and size in bytes, head and tail as offsets. Offsets beyond the size wrap."""

    base: int
    size: int
    head: int
    tail: int

    @classmethod
    def of(cls, file: RegisterFile, base: str, head: str, tail: str) -> Ring:
        """Read a queue's registers."""
        where, size = _place(file[base])
        within = size - ENTRY_BYTES
        return cls(where, size, file[head] & within, file[tail] & within)

    @property
    def used(self) -> int:
        """Entries between head and tail."""
        return (self.tail - self.head) % self.size // ENTRY_BYTES

    def on(self, count: int) -> Ring:
        """The same when ``count`` entries were consumed."""
        return Ring(self.base, self.size, self.after(self.head, count), self.tail)

    def after(self, offset: int, count: int = 1) -> int:
        """The offset ``count`` entries further on."""
        return (offset + count * ENTRY_BYTES) % self.size

    @property
    def full(self) -> bool:
        """Whether one more entry would make it look empty."""
        return self.after(self.tail) == self.head


@lru_cache(maxsize=1024)
def _place(register: int) -> tuple[int, int]:
    """Base and size in bytes; kept, for queues are asked at each doorbell and each record."""
    where = BufferBase.decode(register)
    return where.Base, ENTRY_BYTES << max(where.Length, LEAST_LENGTH)


@frozen
class LogRegisters:
    """One log by the names of its registers, and the Status bit of its overflow."""

    base: str
    head: str
    tail: str
    overflow: int


@frozen
class LogPair:
    """Log A and log B by their registers; Status bits: it runs, an entry was written, B is the active one.

    ``mode`` tells which of the two are in use.
    """

    a: LogRegisters
    b: LogRegisters
    run: int
    written: int
    active: int
    mode: Callable[[Control], int]


EVENT_LOG = LogPair(
    a=LogRegisters("EVTBASE", "EVTHEAD", "EVTTAIL", Status.EventOverflow.mask),
    b=LogRegisters("EVTBBASE", "EVTBHEAD", "EVTBTAIL", Status.EventOverflowB.mask),
    run=Status.EventLogRun.mask,
    written=Status.EventLogInt.mask,
    active=Status.EventActive.mask,
    mode=lambda control: control.DualEventLogEn,
)
PPR_LOG = LogPair(
    a=LogRegisters("PPRBASE", "PPRHEAD", "PPRTAIL", Status.PPROverflow.mask),
    b=LogRegisters("PPRBBASE", "PPRBHEAD", "PPRBTAIL", Status.PPROverflowB.mask),
    run=Status.PPRRun.mask,
    written=Status.PPRInt.mask,
    active=Status.PPRActive.mask,
    mode=lambda control: control.DualPPRLogEn,
)


@define(eq=False, repr=False)
class RecordLog:
    """One of the logs, as hardware writes it."""

    pair: LogPair
    file: RegisterFile
    memory: LogMemory
    _lock: RLock = field(factory=RLock, init=False)

    def append(self, record: bytes) -> bool:
        """Write an entry; False where none can be. The caller updates the interrupts.

        A full log sets its overflow bit, and halts until software clears that and enables logging anew. Where the two
        logs swap, the other one goes on. Memory that refuses the entry halts the log.
        """
        with self._lock:
            return bool(self.file["STATUS"] & self.pair.run) and self._append(record)

    def _append(self, record: bytes) -> bool:
        overflowed = False
        for log in self._in_use():
            if self.file["STATUS"] & log.overflow:
                continue
            ring = self.ring(log)
            if not ring.full:
                return self._store(log, ring, record)
            self.file.change("STATUS", sets=log.overflow)
            overflowed = True
        if overflowed:
            self._halt()
        return False

    def ring(self, log: LogRegisters) -> Ring:
        """Where a log lies now."""
        return Ring.of(self.file, log.base, log.head, log.tail)

    def _in_use(self) -> tuple[LogRegisters, ...]:
        """The log to write, and what comes after it when it is full."""
        pair, mode = self.pair, self.pair.mode(self.file.decoded("CONTROL", Control))
        if mode == DualLog.SWAP:
            return (pair.b, pair.a) if self.file["STATUS"] & pair.active else (pair.a, pair.b)
        return (pair.b,) if mode == DualLog.B else (pair.a,)

    def _store(self, log: LogRegisters, ring: Ring, record: bytes) -> bool:
        if not self.memory.write(ring.base + ring.tail, record):
            self._halt()
            return False
        self.file[log.tail] = ring.after(ring.tail)
        active = self.pair.active if log is self.pair.b else 0
        self.file.change("STATUS", sets=active | self.pair.written, clears=self.pair.active)
        return True

    def _halt(self) -> None:
        self.file.change("STATUS", clears=self.pair.run)
