"""`LiveUnit`: one remapping unit that software can program (a `viommu.hookspecs.LiveHardware`)."""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING

from attrs import define, field

from viommu.faults import Report
from viommu.formats import Context
from viommu.platform import Completion
from viommu_vtd.hardware.live import ats, cures
from viommu_vtd.hardware.live.admissions import Admissions
from viommu_vtd.hardware.live.control import Control
from viommu_vtd.hardware.live.fault_log import FaultLog
from viommu_vtd.hardware.live.invalidation import Invalidator
from viommu_vtd.hardware.live.page_requests import PageRequestQueue
from viommu_vtd.hardware.live.queue import InvalidationQueue
from viommu_vtd.hardware.live.register_invalidation import RegisterInvalidation
from viommu_vtd.hardware.live.register_map import register_file, with_reset_values
from viommu_vtd.hardware.live.state import State
from viommu_vtd.hardware.model import VtdHardware, is_unrecorded
from viommu_vtd.spec.faults import FRCD, AddressType
from viommu_vtd.spec.registers import PMEN
from viommu_vtd.translate import TRANSLATED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu.faults import ConfigurationLog, Fault, Refusal
    from viommu.hookspecs import Registers
    from viommu.memory import PhysicalMemory
    from viommu.platform import PageRequest, Platform, RequestKind
    from viommu.registers import Store
    from viommu.stale import StaleUse


@define(eq=False)
class LiveUnit:
    """One remapping unit. What one caller does to it is done before another's turn; interrupt handlers may call in."""

    state: State
    faults: FaultLog = field(init=False)
    queue: InvalidationQueue = field(init=False)
    page_requests: PageRequestQueue = field(init=False)
    _invalidate: Invalidator = field(init=False)
    _reactions: Mapping[str, Callable[[Store], None]] = field(init=False)
    admissions: Admissions = field(init=False, factory=lambda: Admissions(ats.judge))
    _lock: RLock = field(init=False, factory=RLock)

    def __attrs_post_init__(self) -> None:
        self.faults = FaultLog(self.state)
        self._invalidate = Invalidator(self.state)
        self.queue = InvalidationQueue(self.state, self._invalidate, self.faults)
        self.page_requests = PageRequestQueue(self.state)
        self._reactions = _reactions(self, RegisterInvalidation(self.state, self._invalidate))

    @classmethod
    def of(cls, memory: PhysicalMemory, registers: Registers, platform: Platform) -> LiveUnit:
        """Make one as its registers stand; nothing happens yet. Raises as `RemappingUnit`."""
        initial = with_reset_values(registers)
        translation = VtdHardware.of(memory, initial)
        return cls(State(memory, platform, register_file(initial), translation))

    def configure(self, requester: int, pasid: int | None, log: ConfigurationLog) -> Context | Refusal:
        """Find what governs one (source-id, PASID), as registers are now."""
        with self._lock:  # an invalidation by domain must know of every context that is being made
            found = self.state.translation.configure(requester, pasid, log)
            if isinstance(found, Context) and self.state.unit.status.TES:
                self._invalidate.domains.add(requester, pasid, found)
            return found

    def report(self, fault: Fault) -> Report:
        """Say what would be recorded."""
        told = self.state.translation.report(fault)
        translated = fault.driver_bits & TRANSLATED or isinstance(fault.refusal, ats.TranslatedRefusal)
        return _changed(told, AT=AddressType.TRANSLATED) if translated else told

    def record(self, fault: Fault) -> Report:
        """Record a fault in FRCD."""
        return self._record(self.report(fault))

    def read(self, offset: int, size: int) -> int:
        """Read a register."""
        with self._lock:
            return self.state.registers.read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register."""
        with self._lock:
            for store in self.state.registers.write(offset, size, value):
                react = self._reactions.get(store.name)
                if react is not None:
                    react(store)

    def admit(
        self, requester: int, pasid: int | None, kind: RequestKind, log: ConfigurationLog
    ) -> Context | Refusal | None:
        """Say whether a device may send an ATS request."""
        return ats.admit(self.state, self.admissions, requester, pasid, kind, log)

    def complete(self, fault: Fault) -> Completion:
        """End a refused translation request; record it unless it only found no rights."""
        if fault.refusal is not None and fault.refusal.silent:
            return Completion.UNSUPPORTED_REQUEST
        if is_unrecorded(fault):
            return Completion.UNSUPPORTED_REQUEST
        ending = ats.completion(self.state.translation.reason(fault))
        if ending is not Completion.NO_ACCESS:
            self._record(_changed(self.report(fault), AT=AddressType.TRANSLATION_REQUEST))
        return ending

    def page_request(self, request: PageRequest) -> None:
        """Queue a page request, or answer it."""
        with self._lock:
            fault = self.page_requests.take(request)
        if fault is not None:
            self._record(_changed(self.report(fault), T=0, T2=1))

    def cure(self, use: StaleUse) -> str:
        """Name an invalidation that would have been enough (the sanitizer asks)."""
        return cures.cure(use, self.state.unit)

    def _record(self, report: Report) -> Report:
        with self._lock:
            written = report.record is not None and self.faults.record(FRCD.decode(report.record))
            self.state.platform.observe("vtd.fault", {"reason": report.reason, "recorded": written})
        return report


def _changed(report: Report, **fields: int) -> Report:
    """The same with other values in its record, if it has one."""
    if report.record is None:
        return report
    return Report(report.outcome, report.reason, FRCD.decode(report.record).replace(**fields).encode())


def _reactions(unit: LiveUnit, registers: RegisterInvalidation) -> dict[str, Callable[[Store], None]]:
    """What a store to each register sets off. Other registers only hold what was stored."""
    control = Control(unit.state, unit._invalidate, unit.queue)  # noqa: SLF001 - a part of it
    reactions: dict[str, Callable[[Store], None]] = {
        "GCMD": lambda store: control.command(store.written),
        "CCMD": lambda _: registers.context_command(),
        "IOTLB": lambda _: registers.iotlb_command(),
        "IQT": lambda _: unit.queue.run(),
        "IQA": lambda store: _kept_while_in_use(unit.state, store),
        "FSTS": lambda store: _status_cleared(unit, store),
        "ICS": lambda store: unit.queue.others.interrupt.serviced() if not store.after else None,
        "PRS": lambda _: unit.page_requests.serviced(),
        "FECTL": lambda _: unit.faults.interrupt.unmasked(),
        "IECTL": lambda _: unit.queue.others.interrupt.unmasked(),
        "PECTL": lambda _: unit.page_requests.interrupt.unmasked(),
        "PMEN": lambda _: _protect(unit.state),
    }
    reactions |= {f"FRCD{index}_HI": lambda _: unit.faults.cleared() for index in range(unit.faults.count)}
    bounds = ("PLMBASE", "PLMLIMIT", "PHMBASE", "PHMLIMIT")
    return reactions | {name: lambda _: unit.state.set_protection() for name in bounds}


def _status_cleared(unit: LiveUnit, store: Store) -> None:
    unit.faults.cleared()
    if store.changed:
        unit.queue.errors_cleared()


def _kept_while_in_use(state: State, store: Store) -> None:
    """The queue may not move while it is in use: the store is ignored."""
    if state.status.QIES:
        state.registers["IQA"] = store.before


def _protect(state: State) -> None:
    """PRS follows EPM at once."""
    enabled = state.registers.decoded("PMEN", PMEN)
    state.registers["PMEN"] = int(enabled.replace(PRS=enabled.EPM))
    state.set_protection()
