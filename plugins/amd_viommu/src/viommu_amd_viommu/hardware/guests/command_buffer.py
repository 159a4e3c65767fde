"""A guest's command buffer: fetched from guest memory in runs, executed by the engine as far as that can."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from attrs import define, field

from viommu_amd_viommu.hardware.guests.commands import NAMES
from viommu_amd_viommu.hardware.logs import ENTRY_BYTES, Ring
from viommu_amd_viommu.spec.events import CommandHardwareError, EventCode, HardwareErrorType
from viommu_amd_viommu.spec.registers import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.commands import Executor
    from viommu.platform import Platform
    from viommu.registers import RegisterFile
    from viommu_amd_viommu.hardware.guests.addresses import TranslatedMemory
    from viommu_amd_viommu.hardware.guests.commands import GuestCommands

PAGE = 4096
RUN_BYTES = 1 << 16
OPCODE_BYTE, OPCODE_SHIFT = 7, 4


@define(eq=False, repr=False)
class GuestCommandBuffer:
    """Executes what lies between head and tail while Status.CmdBufRun is set and ``may_run`` says so.

    ``platform`` is told of what was done, as the host's buffer tells it.
    """

    file: RegisterFile
    memory: TranslatedMemory
    platform: Platform
    executor: Executor
    commands: GuestCommands
    may_run: Callable[[], bool]
    _busy: bool = False
    _starts: int = 0
    _done: Counter[str] = field(factory=Counter)

    def restarted(self) -> None:
        """Software stopped or started the buffer: what was being executed is not carried on with."""
        self._starts += 1

    def run(self) -> None:
        """Execute until the buffer is empty or halts. Does nothing where an interrupt's handler calls it."""
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
        if not self._running or not ring.used:
            return False
        raw = self._fetch(ring)
        if not raw:
            error = HardwareErrorType.MASTER_ABORT
            self._halt()
            self.commands.events.tell(
                CommandHardwareError(EventCode=EventCode.COMMAND_HW_ERROR, Type=error, Address=ring.base + ring.head)
            )
            return False
        return self._execute(ring, raw)

    @property
    def _running(self) -> bool:
        return bool(self.file["STATUS"] & Status.CmdBufRun.mask) and self.may_run()

    def _fetch(self, ring: Ring) -> bytes:
        """Read a run, or as much of it as lies in one page where more cannot be read."""
        address = ring.base + ring.head
        most = min(ring.used * ENTRY_BYTES, ring.size - ring.head, RUN_BYTES)
        return self.memory.read(address, most) or self.memory.read(address, min(most, PAGE - address % PAGE)) or b""

    def _execute(self, ring: Ring, raw: bytes) -> bool:
        """Let the engine do what it can, and do the command that it stops at; the head moves past what is done."""
        starts, at = self._starts, 0
        while at < len(raw):
            count, kinds = self.executor.run(memoryview(raw)[at:])
            self._done.update(kinds)
            at += count * ENTRY_BYTES
            self.file["CMDHEAD"] = (ring.head + at) % ring.size
            if at == len(raw):
                return True
            entry = raw[at : at + ENTRY_BYTES]
            stop = self.commands.execute(entry, ring.base + ring.head + at)
            if self._starts != starts:
                return True
            if stop is not None:
                self._halt()
                if stop.event is not None:
                    self.commands.events.tell(stop.event)
                return False
            self._done[NAMES[entry[OPCODE_BYTE] >> OPCODE_SHIFT]] += 1
            at += ENTRY_BYTES
            self.file["CMDHEAD"] = (ring.head + at) % ring.size
        return True

    def _halt(self) -> None:
        self.file["STATUS"] &= ~Status.CmdBufRun.mask

    def _tell(self) -> None:
        if self._done:
            done, self._done = self._done, Counter()
            facts = {"kinds": dict(done), "head": self.file["CMDHEAD"], "guest": self.commands.maps.guest}
            self.platform.observe("amd.guest_commands", facts)
