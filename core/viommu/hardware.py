"""Holds a driver's hardware model to its promises: what it breaks is told as a DriverBug that names it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

from attrs import field, frozen

from viommu._engine import Context, Translation
from viommu.errors import DriverBug, ViommuError, told
from viommu.faults import Refusal, Report
from viommu.hookspecs import GrantingHardware, ListeningHardware, LiveHardware, RedirectingHardware
from viommu.platform import Completion

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.drivers import BoundDriver
    from viommu.faults import ConfigurationLog, Fault
    from viommu.hookspecs import HardwareModel, Registers
    from viommu.memory import PhysicalMemory
    from viommu.platform import PageRequest, Platform, RequestKind, TlbBroadcast
    from viommu.stale import StaleUse

__all__ = [
    "Silence",
]

OUTCOMES = ("fault", "abort", "stall")

P = ParamSpec("P")
AnswerT = TypeVar("AnswerT")


@frozen
class Silence:
    """A ConfigurationLog that nobody reads (addresses in bytes, as everywhere)."""

    def fetched(self, structure: type, address: int, raw: bytes | None, note: str = "") -> None:
        """Forget what was read."""

    def note(self, text: str) -> None:
        """Forget what was said."""


@frozen(eq=False)
class CheckedHardware:
    """A hardware model whose answers can be relied upon. A model without registers is asked about translation only."""

    driver: str
    model: HardwareModel
    live: LiveHardware | None = field(init=False, repr=False)
    """The model, where software can program it."""

    redirecting: RedirectingHardware | None = field(init=False, repr=False)
    """The model, where some of its pages lead to no memory."""

    granting: GrantingHardware | None = field(init=False, repr=False)
    """The model, where it has a say in what a translation request is answered."""

    @live.default
    def _live(self) -> LiveHardware | None:
        return self.model if isinstance(self.model, LiveHardware) else None

    @redirecting.default
    def _redirecting(self) -> RedirectingHardware | None:
        return self.model if isinstance(self.model, RedirectingHardware) else None

    @granting.default
    def _granting(self) -> GrantingHardware | None:
        # Once: to ask a protocol whether something implements it takes longer than a translation.
        return self.model if isinstance(self.model, GrantingHardware) else None

    @classmethod
    def made_by(
        cls, driver: BoundDriver, memory: PhysicalMemory, registers: Registers, platform: Platform
    ) -> CheckedHardware:
        """Ask a driver for its silicon. Raises BadRegister, DriverBug."""
        return cls(driver.info.name, driver.hardware(memory, registers, platform))

    def configure(self, requester: int, pasid: int | None, log: ConfigurationLog) -> Context | Refusal:
        """Find what governs one (requester, PASID). Raises DriverBug."""
        found = self._call("configure", self.model.configure, requester, pasid, log)
        if not isinstance(found, Context | Refusal):
            raise self._bug("configure", found, "a Context or Refusal")
        return found

    def report(self, fault: Fault) -> Report:
        """Say what the hardware would record of a fault. Raises DriverBug."""
        return self._report("report", self.model.report, fault)

    def record(self, fault: Fault) -> Report:
        """Have the hardware write a fault down; one without registers only tells. Raises DriverBug."""
        live = self.live
        return self.report(fault) if live is None else self._report("record", live.record, fault)

    def read(self, offset: int, size: int) -> int:
        """Read a register; without any, zero. Raises DriverBug."""
        live = self.live
        return 0 if live is None else self._call("read", live.read, offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register. Raises DriverBug."""
        live = self.live
        if live is not None:
            self._call("write", live.write, offset, size, value)

    def admit(
        self, requester: int, pasid: int | None, kind: RequestKind, log: ConfigurationLog
    ) -> Context | Refusal | None:
        """Say whether an ATS request may be sent; without registers, none may. Raises DriverBug."""
        live = self.live
        if live is None:
            return Refusal("no ATS", silent=True, detail="this hardware model knows no ATS")
        found = self._call("admit", live.admit, requester, pasid, kind, log)
        if not isinstance(found, Context | Refusal | None):
            raise self._bug("admit", found, "a Context, Refusal or None")
        return found

    def complete(self, fault: Fault) -> Completion:
        """Say how a refused translation request ends. Raises DriverBug."""
        live = self.live
        if live is None:
            return Completion.UNSUPPORTED_REQUEST
        found = self._call("complete", live.complete, fault)
        if not isinstance(found, Completion):
            raise self._bug("complete", found, "a Completion")
        return found

    def granted(self, requester: int, pasid: int | None, translation: Translation) -> Translation | Completion:
        """Say what answers a translation request that was translated so. Raises DriverBug."""
        model = self.granting
        if model is None:
            return translation
        found = self._call("granted", model.granted, requester, pasid, translation)
        if not isinstance(found, Translation | Completion):
            raise self._bug("granted", found, "a Translation or Completion")
        return found

    def load(self, requester: int, pasid: int | None, translation: Translation, length: int) -> bytes | None:
        """Read from a page that may lead to no memory (`RedirectingHardware`). Raises DriverBug."""
        model = self.redirecting
        return None if model is None else self._call("load", model.load, requester, pasid, translation, length)

    def store(self, requester: int, pasid: int | None, translation: Translation, data: bytes) -> bool | None:
        """Write to a page that may lead to no memory (`RedirectingHardware`). Raises DriverBug."""
        model = self.redirecting
        return None if model is None else self._call("store", model.store, requester, pasid, translation, data)

    def cure(self, use: StaleUse) -> str:
        """Name an invalidation that would have prevented a stale use, in the vendor's words. Raises DriverBug."""
        live = self.live
        return "" if live is None else self._call("cure", live.cure, use)

    def broadcast(self, message: TlbBroadcast) -> None:
        """Let the hardware hear a CPU's TLB invalidation; most has no ears. Raises DriverBug."""
        model = self.model
        if isinstance(model, ListeningHardware):
            self._call("broadcast", model.broadcast, message)

    def page_request(self, request: PageRequest) -> None:
        """Take a page request; without registers it is lost. Raises DriverBug."""
        live = self.live
        if live is not None:
            self._call("page_request", live.page_request, request)

    def _report(self, what: str, ask: Callable[[Fault], object], fault: Fault) -> Report:
        report = self._call(what, ask, fault)
        if not isinstance(report, Report):
            raise self._bug(what, report, "a Report")
        if report.outcome not in OUTCOMES:
            raise DriverBug(self.driver, what, f"its outcome is {report.outcome!r}, not one of {', '.join(OUTCOMES)}")
        return report

    def _bug(self, what: str, found: object, owed: str) -> DriverBug:
        return DriverBug(self.driver, what, f"it returned {type(found).__name__}, not {owed}")

    def _call(self, what: str, ask: Callable[P, AnswerT], *arguments: P.args, **named: P.kwargs) -> AnswerT:
        try:
            return ask(*arguments, **named)
        except ViommuError:
            raise
        except Exception as error:
            raise DriverBug(self.driver, what, told(error)) from error
