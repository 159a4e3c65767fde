"""The command buffer: described commands run in the engine, others one by one, in order (AMD 48882, 2.4)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from attrs import define, field

from viommu_amd_viommu.hardware.logs import ENTRY_BYTES, Ring
from viommu_amd_viommu.spec.commands import AnyCommand, Opcode
from viommu_amd_viommu.spec.events import CommandHardwareError, EventCode, HardwareErrorType
from viommu_amd_viommu.spec.registers import Status

if TYPE_CHECKING:
    from viommu.commands import Executor
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
    executor: Executor
    commands: Commands
    events: Events
    _busy: bool = False
    _starts: int = 0
    _done: Counter[str] = field(factory=Counter)

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
        """Execute what has a neutral meaning, and the command after that; whether there may be more to do."""
        ring = Ring.of(self.file, "CMDBASE", "CMDHEAD", "CMDTAIL")
        if not self.file["STATUS"] & Status.CmdBufRun.mask or not ring.used:
            return False
        count, kinds = self.executor.run_ring(ring.base, ring.entries_lg2, ring.head // ENTRY_BYTES, ring.used)
        self._done.update(kinds)
        offset = ring.after(ring.head, count)
        self.file["CMDHEAD"] = offset
        return count == ring.used or self._execute(ring, offset)

    def _execute(self, ring: Ring, offset: int) -> bool:
        """Execute one command; the head moves past it when it is done."""
        starts, address = self._starts, ring.base + offset
        raw = self.memory.read(address, ENTRY_BYTES)
        if raw is None:
            self._halt(_unreadable(address))
            return False
        progress = self.commands.execute(raw, address)
        if self._starts != starts:
            return True
        if progress is not None:
            return self._stopped(progress)
        self._done[NAMES[AnyCommand.decode(raw).Opcode]] += 1
        self.file["CMDHEAD"] = ring.after(offset)
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
            self.platform.observe("amd.commands", {"kinds": dict(done), "head": self.file["CMDHEAD"]})


def _unreadable(address: int) -> CommandHardwareError:
    return CommandHardwareError(
        EventCode=EventCode.COMMAND_HW_ERROR, Type=HardwareErrorType.MASTER_ABORT, Address=address
    )
