"""The event queue: records in memory, overflow, stall records that wait for room (IHI 0070, 7.2 and 7.4)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from attrs import define, field

from viommu_smmuv3_cmdqv.hardware.ring import OVERFLOW, POINTER, event_ring
from viommu_smmuv3_cmdqv.hardware.signals import GlobalError, Source

if TYPE_CHECKING:
    from viommu_smmuv3_cmdqv.hardware.signals import Signals
    from viommu_smmuv3_cmdqv.hardware.silicon import Silicon
    from viommu_smmuv3_cmdqv.hardware.stalls import Stalls


@define(eq=False)
class EventQueue:
    """Writes records. What finds no room is lost, and OVFLG says so; but a stall record waits."""

    chip: Silicon
    signals: Signals
    stalls: Stalls
    _waiting: deque[tuple[int, bytes]] = field(factory=deque)
    """(tag, record): at most one for each stalled access."""
    _last: bytes = b""
    _flushing: bool = False

    def append(self, record: bytes, *, may_merge: bool = False) -> None:
        """Write a record, if the queue can be written; ``may_merge``: not if the last unread one says the same."""
        if not self._is_open():
            return
        prod, cons = self._pointers()
        if may_merge and record == self._last and event_ring(self.chip).waiting(prod, cons):
            return
        if event_ring(self.chip).is_full(prod, cons):
            self._overflow()
        else:
            self._store(record)

    def append_stall(self, tag: int, record: bytes) -> None:
        """Write the record of a stalled access, now or when there is room."""
        self._waiting.append((tag, record))
        self.flush()

    def flush(self) -> None:
        """Write what waits, as far as there is room; what nobody waits for any more is forgotten.

        Called by software that an interrupt called, it leaves the rest to the call that is under way.
        """
        if self._flushing:
            return
        self._flushing = True
        try:
            while self._waiting and self._is_open() and self._settled(*self._waiting[0]):
                self._waiting.popleft()
        finally:
            self._flushing = False

    def _settled(self, tag: int, record: bytes) -> bool:
        return tag not in self.stalls.held or self._stored_if_room(record)

    def _is_open(self) -> bool:
        return bool(self.chip.features.cr0.EVTQEN) and not self.signals.is_active(GlobalError.EVENTQ_ABORT)

    def _pointers(self) -> tuple[int, int]:
        registers = self.chip.registers
        return registers["EVENTQ_PROD"] & POINTER, registers["EVENTQ_CONS"] & POINTER

    def _overflow(self) -> None:
        """Tell that records are lost, unless software has still to take note of the last time."""
        registers = self.chip.registers
        if not (registers["EVENTQ_PROD"] ^ registers["EVENTQ_CONS"]) & OVERFLOW:
            registers["EVENTQ_PROD"] ^= OVERFLOW
            self.chip.platform.observe("smmuv3.overflow", {"queue": "EVENTQ"})

    def _stored_if_room(self, record: bytes) -> bool:
        return not event_ring(self.chip).is_full(*self._pointers()) and self._store(record)

    def _store(self, record: bytes) -> bool:
        ring, registers = event_ring(self.chip), self.chip.registers
        prod, cons = self._pointers()
        if not self.chip.memory.write(ring.address(prod), record):
            self.signals.raise_error(GlobalError.EVENTQ_ABORT)
            return False
        registers["EVENTQ_PROD"] = registers["EVENTQ_PROD"] & OVERFLOW | ring.after(prod)
        self._last = record
        if not ring.waiting(prod, cons):
            self.signals.interrupt(Source.EVENTQ)
        return True
