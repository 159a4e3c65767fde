"""The host's side of the event log and of the PPR log: enabled, read, started anew after an overflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, frozen

from viommu_amd_viommu.spec.registers import BufferBase, Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from viommu.memory import PhysicalMemory
    from viommu_amd_viommu.host.registers import HostRegisters

ENTRY = 16
LENGTH_LG2 = 9
"""512 entries, as Linux has them."""
SIZE = ENTRY << LENGTH_LG2
PAGES = SIZE // 4096


@frozen
class LogNames:
    """One log by the names of its registers and bits."""

    registers: str
    enable: Mapping[str, int]
    interrupt: int
    overflow: int


EVENTS = LogNames("EVT", {"EventLogEn": 1, "EventIntEn": 1}, Status.EventLogInt.mask, Status.EventOverflow.mask)
PAGE_REQUESTS = LogNames("PPR", {"PPRLogEn": 1, "PPRIntEn": 1, "PPREn": 1}, Status.PPRInt.mask, Status.PPROverflow.mask)


@define(eq=False, repr=False)
class HostLog:
    """A log at ``base``."""

    registers: HostRegisters
    memory: PhysicalMemory
    names: LogNames
    base: int
    overflows: int = 0
    """How often entries were lost."""

    def enable(self) -> None:
        """Hand it to hardware, empty."""
        name = self.names.registers
        self.registers[f"{name}BASE"] = int(BufferBase(Base=self.base, Length=LENGTH_LG2))
        self.registers[f"{name}HEAD"] = 0
        self.registers[f"{name}TAIL"] = 0
        self.registers.switch(**self.names.enable)

    def take(self) -> Iterator[bytes]:
        """Give what hardware has logged, until it has logged no more.

        The interrupt is acknowledged first, so that what comes now interrupts again. What comes just while it is
        acknowledged sets the bit without interrupting, which would be the last one: hence the bit is looked at again.
        """
        while True:
            self.registers["STATUS"] = self.names.interrupt
            yield from self._take_waiting()
            if int(self.registers.status) & self.names.overflow:
                self._start_anew()
            if not int(self.registers.status) & self.names.interrupt:
                return

    def _take_waiting(self) -> Iterator[bytes]:
        name = self.names.registers
        head, tail = self.registers[f"{name}HEAD"], self.registers[f"{name}TAIL"]
        while head != tail:
            raw = self.memory.read(self.base + head, ENTRY) or bytes(ENTRY)
            self.memory.write(self.base + head, bytes(ENTRY))
            yield raw
            head = (head + ENTRY) % SIZE
        self.registers[f"{name}HEAD"] = head

    def _start_anew(self) -> None:
        """Begin anew once all was read: a log that overflowed takes nothing until then."""
        self.overflows += 1
        self.registers.switch(**dict.fromkeys(self.names.enable, 0))
        self.registers["STATUS"] = self.names.overflow
        self.enable()
