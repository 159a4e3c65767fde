"""The event queue: records in memory, overflow, stall records that wait for room (IHI 0070, 7.2 and 7.4)."""

from __future__ import annotations

from collections import deque
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING

from attrs import define, field

from viommu_smmuv3_cmdqv.hardware.ring import OVERFLOW, POINTER, event_ring
from viommu_smmuv3_cmdqv.hardware.signals import GlobalError, Source, tell_nobody

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu_smmuv3_cmdqv.hardware.signals import Signals
    from viommu_smmuv3_cmdqv.hardware.silicon import Silicon
    from viommu_smmuv3_cmdqv.hardware.stalls import Stalls


@define(eq=False)
class EventQueue:
    """Writes records. What finds no room is lost, and OVFLG says so; but a stall record waits.

    Devices record from any thread. ``lock`` is held while a record gets its place and its tag; who is to be told of it
    is told afterwards, since whoever that is may write registers.
    """

    chip: Silicon
    signals: Signals
    stalls: Stalls
    lock: RLock = field(factory=RLock)
    _waiting: deque[tuple[int, bytes]] = field(factory=deque)
    """(tag, record): at most one for each stalled access."""
    _last: bytes = b""
    _flushing: bool = False

    def append(self, record: bytes, *, may_merge: bool = False) -> None:
        """Write a record, if the queue can be written; ``may_merge``: not if the last unread one says the same."""
        with self.lock:
            tell = self._appended(record, may_merge=may_merge)
        tell()

    def _appended(self, record: bytes, *, may_merge: bool) -> Callable[[], None]:
        if not self._is_open():
            return tell_nobody
        prod, cons = self._pointers()
        if may_merge and record == self._last and event_ring(self.chip).waiting(prod, cons):
            return tell_nobody
        return self._overflowed() if event_ring(self.chip).is_full(prod, cons) else self._store(record)[1]

    def leave(self, tag: int, record: bytes) -> None:
        """Let the record of a stalled access wait for `flush`."""
        self._waiting.append((tag, record))

    def flush(self) -> None:
        """Write what waits, as far as there is room; what nobody waits for any more is forgotten.

        Called by software that an interrupt called, or by another thread, it leaves the rest to the call that is under
        way.
        """
        with self.lock:
            if self._flushing:
                return
            self._flushing = True
        try:
            while self._flush_one():
                pass
        except BaseException:
            self._flushing = False
            raise

    def _flush_one(self) -> bool:
        """Settle one record; whether to go on. That nothing is left to do is found, and said, under one lock."""
        with self.lock:
            settled, tell = self._settled()
            if settled:
                self._waiting.popleft()
            elif tell is tell_nobody:
                self._flushing = False
        tell()
        if not settled and tell is not tell_nobody:
            self._flushing = False
        return settled

    def _settled(self) -> tuple[bool, Callable[[], None]]:
        if not (self._waiting and self._is_open()):
            return False, tell_nobody
        tag, record = self._waiting[0]
        return (True, tell_nobody) if tag not in self.stalls.held else self._store_if_room(record)

    def _store_if_room(self, record: bytes) -> tuple[bool, Callable[[], None]]:
        return (False, tell_nobody) if event_ring(self.chip).is_full(*self._pointers()) else self._store(record)

    def _is_open(self) -> bool:
        return bool(self.chip.features.cr0.EVTQEN) and not self.signals.is_active(GlobalError.EVENTQ_ABORT)

    def _pointers(self) -> tuple[int, int]:
        registers = self.chip.registers
        return registers["EVENTQ_PROD"] & POINTER, registers["EVENTQ_CONS"] & POINTER

    def _overflowed(self) -> Callable[[], None]:
        """Say that records are lost, unless software has still to take note of the last time."""
        registers = self.chip.registers
        if (registers["EVENTQ_PROD"] ^ registers["EVENTQ_CONS"]) & OVERFLOW:
            return tell_nobody
        registers["EVENTQ_PROD"] ^= OVERFLOW
        return partial(self.chip.platform.observe, "smmuv3.overflow", {"queue": "EVENTQ"})

    def _store(self, record: bytes) -> tuple[bool, Callable[[], None]]:
        """Write a record; whether that went well, and whom to tell."""
        ring, registers = event_ring(self.chip), self.chip.registers
        prod, cons = self._pointers()
        if not self.chip.memory.write(ring.address(prod), record):
            return False, partial(self.signals.raise_error, GlobalError.EVENTQ_ABORT)
        registers["EVENTQ_PROD"] = registers["EVENTQ_PROD"] & OVERFLOW | ring.after(prod)
        self._last = record
        return True, tell_nobody if ring.waiting(prod, cons) else partial(self.signals.interrupt, Source.EVENTQ)
