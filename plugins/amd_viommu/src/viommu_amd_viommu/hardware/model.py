"""The silicon: it reads the device table, decides, and says what it would log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.faults import Refusal
from viommu_amd_viommu import translate
from viommu_amd_viommu.hardware import reporting
from viommu_amd_viommu.hardware.decision import Decision
from viommu_amd_viommu.hardware.refusals import NOT_PRESENT, device_table_error, illegal_entry
from viommu_amd_viommu.hardware.settings import Settings
from viommu_amd_viommu.spec.device_table import DTE

if TYPE_CHECKING:
    from viommu.faults import ConfigurationLog, Fault, Report
    from viommu.formats import Context
    from viommu.hookspecs import Registers
    from viommu.memory import PhysicalMemory
    from viommu_amd_viommu.hardware.refusals import EventRefusal


@frozen
class AmdIommu:
    """One IOMMU: a `viommu.hookspecs.HardwareModel`."""

    memory: PhysicalMemory
    settings: Settings

    @classmethod
    def of(cls, memory: PhysicalMemory, registers: Registers) -> AmdIommu:
        """Raises BadRegister where the registers describe no such IOMMU."""
        return cls(memory, Settings.of(registers))

    def configure(self, requester: int, pasid: int | None, log: ConfigurationLog) -> Context | Refusal:
        """What governs one (DeviceID, PASID)."""
        if not self.settings.control.IommuEn:
            log.note("Control.IommuEn=0: forwarded untranslated")
            return translate.UNTRANSLATED
        entry = self._device_entry(requester, log)
        if isinstance(entry, Refusal):
            return entry
        return Decision(self.memory, self.settings, entry, pasid, log).outcome()

    def report(self, fault: Fault) -> Report:
        """The event that tells of a refused access."""
        return reporting.report(fault)

    def _device_entry(self, requester: int, log: ConfigurationLog) -> DTE | EventRefusal:
        address = self.settings.device_entry_address(requester)
        if address is None:
            return illegal_entry(NOT_PRESENT, f"DeviceID {requester:#x} lies beyond the device table")
        raw = self.memory.read(address, DTE.size)
        log.fetched(DTE, address, raw)
        return device_table_error(address) if raw is None else DTE.decode(raw)
