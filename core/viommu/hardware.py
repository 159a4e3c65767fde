"""Holds a driver's hardware model to its promises: what it breaks is told as a DriverBug that names it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu._engine import Context
from viommu.errors import DriverBug, ViommuError, told
from viommu.faults import Refusal, Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.drivers import BoundDriver
    from viommu.faults import ConfigurationLog, Fault
    from viommu.hookspecs import HardwareModel, Registers
    from viommu.memory import PhysicalMemory

OUTCOMES = ("fault", "abort")


@frozen
class Silence:
    """A ConfigurationLog that nobody reads."""

    def fetched(self, structure: type, address: int, raw: bytes | None, note: str = "") -> None:
        """Forget what was read."""

    def note(self, text: str) -> None:
        """Forget what was said."""


@frozen(eq=False)
class CheckedHardware:
    """A hardware model whose answers can be relied upon."""

    driver: str
    model: HardwareModel

    @classmethod
    def made_by(cls, driver: BoundDriver, memory: PhysicalMemory, registers: Registers) -> CheckedHardware:
        """Ask a driver for its silicon. Raises BadRegister, DriverBug."""
        return cls(driver.info.name, driver.hardware(memory, registers))

    def configure(self, requester: int, pasid: int | None, log: ConfigurationLog) -> Context | Refusal:
        """Find what governs one (requester, PASID). Raises DriverBug."""
        found = self._call("configure", lambda: self.model.configure(requester, pasid, log))
        if not isinstance(found, Context | Refusal):
            raise DriverBug(self.driver, "configure", f"it returned {type(found).__name__}, not a Context or Refusal")
        return found

    def report(self, fault: Fault) -> Report:
        """Say what the hardware would record of a fault. Raises DriverBug."""
        report = self._call("report", lambda: self.model.report(fault))
        if not isinstance(report, Report):
            raise DriverBug(self.driver, "report", f"it returned {type(report).__name__}, not a Report")
        if report.outcome not in OUTCOMES:
            raise DriverBug(
                self.driver, "report", f"its outcome is {report.outcome!r}, not one of {', '.join(OUTCOMES)}"
            )
        return report

    def _call(self, what: str, ask: Callable[[], object]) -> object:
        try:
            return ask()
        except ViommuError:
            raise
        except Exception as error:
            raise DriverBug(self.driver, what, told(error)) from error
