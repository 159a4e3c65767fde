"""The event log, and the registers that keep the last hardware error (AMD 48882, 2.5 and 3.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu_amd_viommu.hardware.logs import EVENT_LOG, RecordLog
from viommu_amd_viommu.spec.events import EventCode
from viommu_amd_viommu.spec.other_registers import HardwareEventStatus
from viommu_amd_viommu.spec.registers import EFR

if TYPE_CHECKING:
    from viommu.memory import PhysicalMemory
    from viommu.platform import Platform
    from viommu.registers import RegisterFile
    from viommu_amd_viommu.hardware.interrupts import Interrupts
    from viommu_amd_viommu.spec.events import AnyEvent

HARDWARE_ERRORS = (EventCode.DEV_TAB_HW_ERROR, EventCode.PAGE_TAB_HW_ERROR, EventCode.COMMAND_HW_ERROR)


@define(eq=False, repr=False)
class Events:
    """Where events go."""

    file: RegisterFile
    platform: Platform
    interrupts: Interrupts
    log: RecordLog = field(init=False)

    @classmethod
    def of(cls, file: RegisterFile, memory: PhysicalMemory, platform: Platform, interrupts: Interrupts) -> Events:
        """Make the event log of one IOMMU."""
        made = cls(file, platform, interrupts)
        made.log = RecordLog(EVENT_LOG, file, memory)
        return made

    def tell(self, event: AnyEvent) -> None:
        """Log an event, if logging runs; a hardware error is kept in registers too."""
        if event.EventCode in HARDWARE_ERRORS and self.file.decoded("EFR", EFR).HE:
            self._keep(event)
        logged = self.log.append(event.encode())
        code = EventCode(event.EventCode).name
        self.platform.observe("amd.event", {"code": code, "logged": logged, "record": code if logged else None})
        self.interrupts.update()

    def _keep(self, event: AnyEvent) -> None:
        status = self.file.decoded("HWEVTSTATUS", HardwareEventStatus)
        self.file["HWEVTSTATUS"] = int(status.replace(HEV=1, HEO=status.HEV | status.HEO))
        self.file["HWEVTHI"] = int(event) & (1 << 64) - 1
        self.file["HWEVTLO"] = int(event) >> 64
