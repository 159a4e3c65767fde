"""A command buffer, the host's or a guest's: described commands run in the engine (AMD 48882, 2.4)."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Protocol

from attrs import define, field, frozen

from viommu_amd_viommu.hardware.logs import ENTRY_BYTES, MOST_LENGTH, Ring
from viommu_amd_viommu.spec.commands import AnyCommand, Opcode
from viommu_amd_viommu.spec.events import CommandHardwareError, EventCode, HardwareErrorType
from viommu_amd_viommu.spec.registers import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu.commands import Executor
    from viommu.memory import PhysicalMemory
    from viommu.registers import RegisterFile
    from viommu_amd_viommu.hardware.events import Events
    from viommu_amd_viommu.spec.events import EventEntry

NAMES = {opcode.value: opcode.name for opcode in Opcode}
RUNS = Status.CmdBufRun.mask


@frozen
class Halt:
    """A command that did not complete, and at which the buffer stays.

    ``event``: why the buffer halts, told where its owner looks. ``waits``: it does not halt, but tries again later.
    """

    event: EventEntry | None = None
    waits: bool = False


class Effects(Protocol):
    """What commands do that the engine leaves to hardware."""

    def execute(self, raw: bytes, address: int, /) -> Halt | None:
        """Do one command; ``address`` is where software wrote it. None: it is done."""


class Reach(Protocol):
    """How the addresses of a buffer come to memory."""

    def run_at(self, address: int, length: int, /) -> tuple[int, int] | None:
        """Give where an address lies, and how many of ``length`` bytes follow it there; None: nowhere."""


@frozen
class Untranslated:
    """The host's buffer lies at physical addresses."""

    def run_at(self, address: int, length: int, /) -> tuple[int, int]:
        """Give the same."""
        return address, length


@define(eq=False, repr=False)
class CommandBuffer:
    """Executes what lies between head and tail while Status.CmdBufRun is set and ``may_run`` says so.

    A command that halts it stays at the head: software repairs or skips it, clears Control.CmdBufEn and sets it again.
    ``told`` hears how many commands of each name were done, and where the head is.
    """

    file: RegisterFile
    memory: PhysicalMemory
    reach: Reach
    executor: Executor
    effects: Effects
    events: Events
    told: Callable[[Mapping[str, int], int], None]
    may_run: Callable[[], bool] = lambda: True
    _turn: Lock = field(factory=Lock)
    _asked: bool = False
    _starts: int = 0
    _done: dict[str, int] = field(factory=dict)

    def restarted(self) -> None:
        """Software stopped or started the buffer: what was being executed is not carried on with."""
        self._starts += 1

    def run(self) -> None:
        """Execute until the buffer is empty, halts, or waits.

        Where somebody is at it already (another thread, or who called an interrupt's handler), that one goes on.
        """
        self._asked = True
        while self._asked and self._turn.acquire(blocking=False):
            try:
                self._asked = False
                self._run_all()
            finally:
                self._turn.release()

    def _run_all(self) -> None:
        try:
            while self._run_once():
                pass
        finally:
            if self._done:
                done, self._done = self._done, {}
                self.told(done, self.file["CMDHEAD"])

    def _run_once(self) -> bool:
        """Execute what is described, and the command after that; whether there may be more to do."""
        file = self.file
        if not file["STATUS"] & RUNS or file["CMDHEAD"] == file["CMDTAIL"] or not self.may_run():
            return False
        ring = Ring.of(file, "CMDBASE", "CMDHEAD", "CMDTAIL")
        if ring.head == ring.tail:
            return False
        end = ring.tail if ring.tail > ring.head else ring.size
        address = ring.base + ring.head
        place = self.reach.run_at(address, end - ring.head)
        if place is None:
            return self._unreadable(address)
        pa, length = place
        wanted = length // ENTRY_BYTES
        count, kinds = self.executor.run_ring(pa, MOST_LENGTH, 0, wanted)
        self._count(kinds)
        ring = ring.on(count)
        file["CMDHEAD"] = ring.head
        return count == wanted or self._execute(ring, pa + count * ENTRY_BYTES)

    def _execute(self, ring: Ring, pa: int) -> bool:
        """Execute one command; the head moves past it when it is done."""
        starts, address = self._starts, ring.base + ring.head
        raw = self.memory.read(pa, ENTRY_BYTES)
        if raw is None:
            return self._unreadable(address)
        halt = self.effects.execute(raw, address)
        if self._starts != starts:
            return True
        if halt is not None:
            return self._stopped(halt)
        self._count({NAMES[AnyCommand.decode(raw).Opcode]: 1})
        self.file["CMDHEAD"] = ring.on(1).head
        return True

    def _count(self, kinds: Mapping[str, int]) -> None:
        for name, count in kinds.items():
            self._done[name] = self._done.get(name, 0) + count

    def _unreadable(self, address: int) -> bool:
        error = HardwareErrorType.MASTER_ABORT
        return self._stopped(
            Halt(CommandHardwareError(EventCode=EventCode.COMMAND_HW_ERROR, Type=error, Address=address))
        )

    def _stopped(self, halt: Halt) -> bool:
        if not halt.waits:
            self.file.change("STATUS", clears=RUNS)
        if halt.event is not None:
            self.events.tell(halt.event)
        return False
