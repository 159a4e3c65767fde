"""Fault recording registers and fault status (VT-d 7.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu_vtd.hardware.live.events import EventInterrupt
from viommu_vtd.spec.faults import FRCD, FRCD_HI, FSTS

if TYPE_CHECKING:
    from viommu_vtd.hardware.live.state import State

CONDITIONS = ("PFO", "PPF", "AFO", "APF", "IQE", "ICE", "ITE")
"""Bits of FSTS that tell of something. While one is set, another is no new reason for an interrupt."""

WORD = 64


@define(eq=False)
class FaultLog:
    """Writes fault records and raises the fault event."""

    state: State
    interrupt: EventInterrupt = field(init=False)
    _next: int = field(init=False)
    """Index of the record that the next fault takes."""

    def __attrs_post_init__(self) -> None:
        self.interrupt = EventInterrupt(self.state, "fault", "FE")
        self._next = self.status.FRI % self.count
        while self.status.PPF and self._is_full(self._next):
            self._next = (self._next + 1) % self.count
            if self._next == self.status.FRI % self.count:
                break

    @property
    def count(self) -> int:
        """How many records there are."""
        return self.state.cap.NFR + 1

    @property
    def status(self) -> FSTS:
        """Fault status."""
        return self.state.registers.decoded("FSTS", FSTS)

    def record(self, record: FRCD) -> bool:
        """Write a record down; False where there is no room, or there was none for an earlier one."""
        if self.status.PFO:
            return False
        index = self._next
        if self._is_full(index):
            self.raise_(PFO=1)
            return False
        raw = int(record)
        self.state.registers[f"FRCD{index}_LO"] = raw & (1 << WORD) - 1
        self.state.registers[f"FRCD{index}_HI"] = raw >> WORD
        self._next = (index + 1) % self.count
        self.raise_(PPF=1, **({} if self.status.PPF else {"FRI": index}))
        return True

    def raise_(self, **bits: int) -> None:
        """Set status bits; the first of them is an interrupt."""
        before = self.status
        self._set(before.replace(**bits))
        if not _tells(before):
            self.interrupt.raise_()

    def cleared(self) -> None:
        """Software cleared status bits or records: PPF follows the records, the held-back interrupt what is left."""
        if self.status.PPF and not any(self._is_full(index) for index in range(self.count)):
            self._set(self.status.replace(PPF=0))
        if not _tells(self.status):
            self.interrupt.serviced()

    def _is_full(self, index: int) -> bool:
        return bool(self.state.registers[f"FRCD{index}_HI"] & FRCD_HI.F.mask)

    def _set(self, status: FSTS) -> None:
        self.state.registers["FSTS"] = int(status)


def _tells(status: FSTS) -> bool:
    return any(getattr(status, name) for name in CONDITIONS)
