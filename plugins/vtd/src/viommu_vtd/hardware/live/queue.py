"""The invalidation queue: fetching, order, errors (VT-d 6.5.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.rings import read_entries
from viommu_vtd.hardware.live.command_rules import Abilities, Run
from viommu_vtd.hardware.live.commands import Executor
from viommu_vtd.spec.commands import InvalidationType
from viommu_vtd.spec.faults import FSTS
from viommu_vtd.spec.queue_registers import IQA, IQERCD, IQT, QueueError
from viommu_vtd.spec.registers import TranslationTableMode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from viommu_vtd.hardware.live.fault_log import FaultLog
    from viommu_vtd.hardware.live.invalidation import Invalidator
    from viommu_vtd.hardware.live.state import State

PAGE_LG2 = 12
NARROW_LG2, WIDE_LG2 = 4, 5
"""log2 of a descriptor's bytes."""

ERROR_RECORDS = (("IQE", "IQEI"), ("ITE", "ITESID"), ("ICE", "ICESID"))
"""For each error bit of FSTS, the field of IQERCD that counts while it is set."""


@define(eq=False)
class InvalidationQueue:
    """Executes what lies between IQH and IQT."""

    state: State
    invalidate: Invalidator
    faults: FaultLog
    executor: Executor = field(init=False)
    _running: bool = False
    """An interrupt handler that writes IQT finds the queue running; that goes on to the new tail by itself."""

    def __attrs_post_init__(self) -> None:
        self.executor = Executor(self.state, self.invalidate)

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
        status = self.state.registers.decoded("FSTS", FSTS)
        if not self.state.status.QIES or status.IQE or status.ITE:
            return False
        address = self.state.registers.decoded("IQA", IQA)
        error = self._queue_error(address)
        if error is not None:
            self._stop(error)
            return True
        entry_lg2 = WIDE_LG2 if address.DW else NARROW_LG2
        entries = 1 << PAGE_LG2 + address.QS - entry_lg2
        head = (self.state.registers["IQH"] >> entry_lg2) % entries
        tail = self.state.registers["IQT"] >> entry_lg2
        if head == tail:
            return self._time_out()
        count = tail - head if tail > head else entries - head
        raw = read_entries(self.state.memory, address.Address, entries, 1 << entry_lg2, head, count)
        if not len(raw):
            self._stop(QueueError.FETCH)
            return True
        return self._execute(raw, head, entries, entry_lg2)

    def _execute(self, raw: NDArray[np.uint8], head: int, entries: int, entry_lg2: int) -> bool:
        """Execute descriptors up to the first that is refused, or after which the queue has to look about."""
        run = Run.of(raw, self._abilities)
        done = 0
        paused = False
        for step in self.executor.steps(run):
            paused = not step()
            done += 1
            if paused:
                break
        self.state.registers["IQH"] = (head + done) % entries << entry_lg2
        self._observe(run.types[:done])
        if paused:
            self._after_wait()
        elif done < len(run.errors):
            self._stop(QueueError(run.errors[done]))
        return True

    def _after_wait(self) -> None:
        """A wait descriptor was aborted, or interrupts: then software may have changed anything."""
        if not self._time_out():
            self.executor.completed()

    def _queue_error(self, address: IQA) -> QueueError | None:
        ecap, root = self.state.ecap, self.state.unit.root
        match root.TTM:
            case TranslationTableMode.LEGACY:
                wide_needed = False
            case TranslationTableMode.SCALABLE if ecap.SMTS:
                wide_needed = True
            case TranslationTableMode.ABORT_DMA if ecap.ADMS:
                wide_needed = True
            case _:
                return QueueError.TABLE_MODE
        if (wide_needed and not address.DW) or (address.DW and not (ecap.SMTS or ecap.ADMS)):
            return QueueError.WIDTH
        tail = self.state.registers["IQT"]
        if tail & IQT.reserved_mask or tail >> PAGE_LG2 + address.QS:
            return QueueError.TAIL
        return QueueError.TAIL_ALIGNMENT if address.DW and tail & 1 << NARROW_LG2 else None

    @property
    def _abilities(self) -> Abilities:
        scalable = self.state.unit.root.TTM != TranslationTableMode.LEGACY
        return Abilities(self.state.cap, self.state.ecap, scalable)

    def _stop(self, error: QueueError) -> None:
        """Stay at the descriptor until software clears IQE, which it may do while it is told."""
        self._set_error_record(IQEI=error)
        self.state.platform.observe("vtd.queue_stopped", {"error": error.name, "head": self.state.registers["IQH"]})
        self.faults.raise_(IQE=1)
        self._time_out()

    def _time_out(self) -> bool:
        """Tell of a device that did not answer; False where all did."""
        requester, self.executor.timed_out = self.executor.timed_out, None
        if requester is None:
            return False
        self._set_error_record(ITESID=requester)
        self.state.platform.observe("vtd.device_timed_out", {"requester": requester})
        self.faults.raise_(ITE=1)
        return True

    def _set_error_record(self, **fields: int) -> None:
        record = self.state.registers.decoded("IQERCD", IQERCD)
        self.state.registers["IQERCD"] = int(record.replace(**fields))

    def _observe(self, kinds: list[int]) -> None:
        counted = {InvalidationType(kind).name.lower(): kinds.count(kind) for kind in set(kinds)}
        self.state.platform.observe("vtd.commands", {"kinds": counted})
