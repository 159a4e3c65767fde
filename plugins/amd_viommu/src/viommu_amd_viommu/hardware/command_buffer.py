"""The command buffer: fetched in runs, executed in order, halted by what it cannot do (AMD 48882, 2.4)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from attrs import define, field

from viommu.rings import read_entries
from viommu_amd_viommu.hardware.commands import groups
from viommu_amd_viommu.hardware.logs import ENTRY_BYTES, Ring
from viommu_amd_viommu.spec.commands import Opcode
from viommu_amd_viommu.spec.events import CommandHardwareError, EventCode, HardwareErrorType
from viommu_amd_viommu.spec.registers import Status

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from viommu.memory import PhysicalMemory
    from viommu.platform import Platform
    from viommu.registers import RegisterFile
    from viommu_amd_viommu.hardware.commands import Commands, Halt
    from viommu_amd_viommu.hardware.events import Events
    from viommu_amd_viommu.spec.events import EventEntry

NAMES = {opcode.value: opcode.name for opcode in Opcode}


@define(eq=False)
class CommandBuffer:
    """Executes what lies between head and tail while Status.CmdBufRun is set.

    A command that halts it stays at the head: software repairs or skips it, clears Control.CmdBufEn and sets it again.
    """

    file: RegisterFile
    memory: PhysicalMemory
    platform: Platform
    commands: Commands
    events: Events
    _busy: bool = False
    _starts: int = 0
    _done: Counter[int] = field(factory=Counter)

    def restarted(self) -> None:
        """Software stopped or started the buffer: what was being executed is not carried on with."""
        self._starts += 1

    def run(self) -> None:
        """Execute until the buffer is empty, halts, or waits. Does nothing where an interrupt's handler calls it."""
        if self._busy:
            return
        self._busy = True
        try:
            while self._run_once():
                pass
        finally:
            self._busy = False
            self._tell()

    def _run_once(self) -> bool:
        """Fetch and execute one run; whether there may be more to do."""
        ring = Ring.of(self.file, "CMDBASE", "CMDHEAD", "CMDTAIL")
        if not self.file["STATUS"] & Status.CmdBufRun.mask or not ring.used:
            return False
        start = ring.head // ENTRY_BYTES
        rows = read_entries(self.memory, ring.base, ring.size // ENTRY_BYTES, ENTRY_BYTES, start, ring.used)
        if not len(rows):
            self._halt(_unreadable(ring.base + ring.head))
            return False
        return self._execute(ring, rows)

    def _execute(self, ring: Ring, rows: NDArray[np.uint8]) -> bool:
        """Execute fetched commands; the head moves past each that is done."""
        starts, offset = self._starts, ring.head
        for opcode, first, group in groups(rows):
            begin = ring.base + ring.head + first * ENTRY_BYTES
            addresses = list(range(begin, begin + len(group) * ENTRY_BYTES, ENTRY_BYTES))
            for progress in self.commands.execute(opcode, group, addresses):
                if self._starts != starts:
                    return True
                if progress is not None:
                    return self._stopped(progress)
                self._done[opcode] += 1
                offset = ring.after(offset)
                self.file["CMDHEAD"] = offset
        return True

    def _stopped(self, halt: Halt) -> bool:
        if halt.event is not None:
            self._halt(halt.event)
        return False

    def _halt(self, event: EventEntry) -> None:
        self.file["STATUS"] &= ~Status.CmdBufRun.mask
        self.events.tell(event)

    def _tell(self) -> None:
        if self._done:
            done, self._done = self._done, Counter()
            kinds = {NAMES.get(opcode, hex(opcode)): count for opcode, count in done.items()}
            self.platform.observe("amd.commands", {"kinds": kinds, "head": self.file["CMDHEAD"]})


def _unreadable(address: int) -> CommandHardwareError:
    return CommandHardwareError(
        EventCode=EventCode.COMMAND_HW_ERROR, Type=HardwareErrorType.MASTER_ABORT, Address=address
    )
