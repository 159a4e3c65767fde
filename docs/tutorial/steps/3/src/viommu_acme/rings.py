"""The two queues in memory: commands that hardware executes, events that it writes."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from attrs import define, field
from viommu.commands import Executor
from viommu.platform import Interrupt

from viommu_acme.spec import MEANINGS, RING, STATUS

if TYPE_CHECKING:
    from viommu.platform import Platform
    from viommu.registers import RegisterFile

    from viommu_acme.spec import Event

ENTRY = 16


@define(eq=False)
class CommandQueue:
    """Executes what lies between CMDHEAD and CMDTAIL, up to a command that it refuses."""

    registers: RegisterFile
    platform: Platform
    _executor: Executor = field(init=False)
    _turn: Lock = field(factory=Lock, init=False)

    def __attrs_post_init__(self) -> None:
        self._executor = Executor(self.platform, MEANINGS)

    def drain(self) -> None:
        """Execute what waits, unless a command was refused and software has not seen to it."""
        with self._turn:
            kinds, is_refused = self._run()
        if kinds:
            self.platform.observe("acme.commands", {"kinds": kinds})
        if is_refused:
            self.platform.interrupt(Interrupt("command refused"))

    def _run(self) -> tuple[dict[str, int], bool]:
        """Let the engine execute, without Python, whatever MEANINGS says: commands by name, and whether one is not."""
        if self.registers["STATUS"] & int(STATUS(CommandRefused=1)):
            return {}, False
        base = self.registers.decoded("CMDBASE", RING)
        entries = 1 << base.SizeLg2
        head, tail = (self.registers[name] % entries for name in ("CMDHEAD", "CMDTAIL"))
        waiting = (tail - head) % entries
        done, kinds = self._executor.run_ring(base.Address, base.SizeLg2, head, waiting)
        self.registers["CMDHEAD"] = (head + done) % entries
        if done < waiting:
            self.registers.change("STATUS", sets=int(STATUS(CommandRefused=1)))
        return kinds, done < waiting


@define(eq=False)
class EventQueue:
    """Writes events at EVTTAIL; where software has left no room, they are lost, and STATUS says so."""

    registers: RegisterFile
    platform: Platform
    _turn: Lock = field(factory=Lock, init=False)

    def put(self, event: Event) -> None:
        """Write one event, and tell software."""
        with self._turn:
            base = self.registers.decoded("EVTBASE", RING)
            entries = 1 << base.SizeLg2
            head, tail = (self.registers[name] % entries for name in ("EVTHEAD", "EVTTAIL"))
            after = (tail + 1) % entries
            if after == head or not self.platform.memory.write(base.Address + ENTRY * tail, event.encode()):
                self.registers.change("STATUS", sets=int(STATUS(EventsLost=1)))
            else:
                self.registers["EVTTAIL"] = after
        self.platform.interrupt(Interrupt("event"))
