"""The invalidation queue: what is described runs in the engine, the rest one by one; order, errors (VT-d 6.5.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu import commands
from viommu_vtd.hardware.live.command_rules import judged
from viommu_vtd.hardware.live.commands import Executor
from viommu_vtd.hardware.live.queue_setup import QueueSetup
from viommu_vtd.spec.command_meanings import CommandAbilities, CommandTables, meanings
from viommu_vtd.spec.commands import InvalidationType
from viommu_vtd.spec.faults import FSTS
from viommu_vtd.spec.queue_registers import IQERCD, QueueError
from viommu_vtd.spec.registers import GSTS

if TYPE_CHECKING:
    from viommu.commands import Meanings
    from viommu_vtd.hardware.live.fault_log import FaultLog
    from viommu_vtd.hardware.live.invalidation import Invalidator
    from viommu_vtd.hardware.live.state import State
    from viommu_vtd.spec.registers import RTADDR

STOPPED = int(FSTS(IQE=1, ITE=1))
"""Errors that software has to clear before the queue goes on."""

NAMES = {int(kind): kind.name.lower() for kind in InvalidationType}
"""What descriptors are counted as, by type."""

ERROR_RECORDS = (("IQE", "IQEI"), ("ITE", "ITESID"), ("ICE", "ICESID"))
"""For each error bit of FSTS, the field of IQERCD that counts while it is set."""


@define(eq=False)
class InvalidationQueue:
    """Executes what lies between IQH and IQT."""

    state: State
    invalidate: Invalidator
    faults: FaultLog
    others: Executor = field(init=False)
    """Executes what has no neutral meaning."""
    _executor: commands.Executor = field(init=False)
    _meanings: dict[tuple[bool, bool], Meanings] = field(init=False, factory=dict)
    """What descriptors mean, by whether those of scalable mode exist, and whether they are wide."""
    _setup: QueueSetup = field(init=False)
    _known: tuple[int, RTADDR | None] = field(init=False, default=(0, None))
    """IQA and RTADDR that the setup was read from."""
    _running: bool = False
    """An interrupt handler that writes IQT finds the queue running; that goes on to the new tail by itself."""

    def __attrs_post_init__(self) -> None:
        self.others = Executor(self.state, self.invalidate)
        self._executor = commands.Executor(self.state.platform, self._described(scalable=False, wide=False))

    def run(self) -> None:
        """Execute until the queue is empty or stops."""
        if self._running:
            return
        self._running = True
        try:
            while self._go_on():
                pass
        finally:
            self._running = False

    def start(self) -> None:
        """Software enabled the queue."""
        self.state.registers["IQH"] = 0
        self.run()

    def errors_cleared(self) -> None:
        """Software cleared error bits of FSTS: what IQERCD says of them ends, and fetching begins again."""
        status = self.state.registers.decoded("FSTS", FSTS)
        ended = {name: 0 for bit, name in ERROR_RECORDS if not getattr(status, bit)}
        self._set_error_record(**ended)
        self.run()

    def _go_on(self) -> bool:
        """Execute one run, or say what is wrong; False where nothing is left to do."""
        registers = self.state.registers
        if not registers["GSTS"] & GSTS.QIES.mask or registers["FSTS"] & STOPPED:
            return False
        setup, tail = self._set_up(), registers["IQT"]
        error = setup.error or setup.tail_error(tail)
        if error is not None:
            self._stop(error)
            return True
        head = setup.index(registers["IQH"])
        count = setup.index(tail) - head
        return self._execute(setup, head, count % (1 << setup.entries_lg2)) if count else self._time_out()

    def _set_up(self) -> QueueSetup:
        registered, unit = self.state.registers["IQA"], self.state.unit
        if self._known[0] != registered or self._known[1] is not unit.root:
            self._setup = QueueSetup.of(registered, unit)
            self._known = registered, unit.root
            self._executor.understand(self._described(scalable=self._setup.able.scalable, wide=self._setup.wide))
        return self._setup

    def _execute(self, setup: QueueSetup, head: int, count: int) -> bool:
        """Execute descriptors up to the first that is refused, or after which the queue has to look about."""
        kinds: dict[str, int] = {}
        done = 0
        outcome: QueueError | bool = True
        while done < count and outcome is True:
            ran, of_kinds = self._executor.run_ring(setup.base, setup.entries_lg2, head + done, count - done)
            done += ran
            for name, number in of_kinds.items():
                kinds[name] = kinds.get(name, 0) + number
            if done < count:
                outcome = self._execute_one(setup, setup.offset(head + done), kinds)
                done += not isinstance(outcome, QueueError)
        self.state.registers["IQH"] = setup.offset(head + done)
        self.state.platform.observe("vtd.commands", {"kinds": kinds})
        if isinstance(outcome, QueueError):
            self._stop(outcome)
        elif not outcome:
            self._after_wait()
        return True

    def _execute_one(self, setup: QueueSetup, offset: int, kinds: dict[str, int]) -> QueueError | bool:
        """Execute a descriptor that has no neutral meaning; False: the queue has to look about."""
        raw = self.state.memory.read(setup.base + offset, 1 << setup.entry_lg2)
        if raw is None:
            return QueueError.FETCH
        command = judged(raw, setup.able)
        if isinstance(command, QueueError):
            return command
        name = NAMES[command.Type]
        kinds[name] = kinds.get(name, 0) + 1
        return self.others.execute(command)

    def _described(self, *, scalable: bool, wide: bool) -> Meanings:
        found = self._meanings.get((scalable, wide))
        if found is None:
            cap, ecap = self.state.cap, self.state.ecap
            able = CommandAbilities(wide=wide, scalable=scalable, psi=bool(cap.PSI), mamv=cap.MAMV, pds=bool(ecap.PDS))
            tables = CommandTables(self.invalidate.domains.nested, self.others.unanswered)
            found = self._meanings[scalable, wide] = meanings(able, tables)
        return found

    def _after_wait(self) -> None:
        """A wait descriptor was aborted, or interrupts: then software may have changed anything."""
        if not self._time_out():
            self.others.completed()

    def _stop(self, error: QueueError) -> None:
        """Stay at the descriptor until software clears IQE, which it may do while it is told."""
        self._set_error_record(IQEI=error)
        self.state.platform.observe("vtd.queue_stopped", {"error": error.name, "head": self.state.registers["IQH"]})
        self.faults.raise_(IQE=1)
        self._time_out()

    def _time_out(self) -> bool:
        """Tell of a device that did not answer; False where all did."""
        requester = self.others.take_timed_out()
        if requester is None:
            return False
        # A wrong completion leaves the right one owed: who sends it times out as well.
        wrong = self.others.take_wrong()
        self._set_error_record(ITESID=requester, **({} if wrong is None else {"ICESID": wrong}))
        self.state.platform.observe("vtd.device_timed_out", {"requester": requester})
        self.faults.raise_(ITE=1, **({} if wrong is None else {"ICE": 1}))
        return True

    def _set_error_record(self, **fields: int) -> None:
        record = self.state.registers.decoded("IQERCD", IQERCD)
        self.state.registers["IQERCD"] = int(record.replace(**fields))
