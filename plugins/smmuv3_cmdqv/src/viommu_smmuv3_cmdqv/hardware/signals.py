"""Global errors and interrupts, by message or by wire (IHI 0070, 3.18, 6.3.17 and 7.5)."""

from __future__ import annotations

from enum import Enum
from threading import Lock
from typing import TYPE_CHECKING

from attrs import define, field

from viommu.platform import Interrupt
from viommu_smmuv3_cmdqv.spec.queue_registers import (
    EVENTQ_IRQ_CFG0,
    EVENTQ_IRQ_CFG1,
    GERROR,
    IRQ_CTRL,
)

if TYPE_CHECKING:
    from viommu_smmuv3_cmdqv.hardware.silicon import Silicon


class GlobalError(Enum):
    """The errors that this model can meet, as bits of GERROR."""

    CMDQ = int(GERROR(CMDQ_ERR=1))
    EVENTQ_ABORT = int(GERROR(EVENTQ_ABT_ERR=1))
    PRIQ_ABORT = int(GERROR(PRIQ_ABT_ERR=1))
    MSI_CMDQ_ABORT = int(GERROR(MSI_CMDQ_ABT_ERR=1))
    MSI_EVENTQ_ABORT = int(GERROR(MSI_EVENTQ_ABT_ERR=1))
    MSI_PRIQ_ABORT = int(GERROR(MSI_PRIQ_ABT_ERR=1))
    MSI_GERROR_ABORT = int(GERROR(MSI_GERROR_ABT_ERR=1))


class Source(Enum):
    """Who interrupts: the name, its enable in IRQ_CTRL, and the error of a message that aborts."""

    GERROR = ("GERROR", int(IRQ_CTRL(GERROR_IRQEN=1)), GlobalError.MSI_GERROR_ABORT)
    EVENTQ = ("EVENTQ", int(IRQ_CTRL(EVENTQ_IRQEN=1)), GlobalError.MSI_EVENTQ_ABORT)
    PRIQ = ("PRIQ", int(IRQ_CTRL(PRIQ_IRQEN=1)), GlobalError.MSI_PRIQ_ABORT)


def tell_nobody() -> None:
    """Do nothing, where a record sets off neither interrupt nor error."""


@define(eq=False)
class Signals:
    """Raises errors and interrupts of one SMMU."""

    chip: Silicon
    _lock: Lock = field(factory=Lock)

    def is_active(self, error: GlobalError) -> bool:
        """Whether software has yet to acknowledge the error."""
        registers = self.chip.registers
        return bool((registers["GERROR"] ^ registers["GERRORN"]) & error.value)

    def raise_error(self, error: GlobalError) -> None:
        """Activate an error; one that is active already says no more."""
        with self._lock:
            if self.is_active(error):
                return
            self.chip.registers["GERROR"] ^= error.value
        self.chip.platform.observe("smmuv3.gerror", {"error": error.name})
        self.interrupt(Source.GERROR)

    def interrupt(self, source: Source) -> None:
        """Interrupt, if that is enabled: by message where IRQ_CFG0 has an address."""
        name, enable, aborted = source.value
        registers = self.chip.registers
        if not registers["IRQ_CTRL"] & enable:
            return
        address = EVENTQ_IRQ_CFG0.decode(registers[f"{name}_IRQ_CFG0"]).ADDR
        data = EVENTQ_IRQ_CFG1.decode(registers[f"{name}_IRQ_CFG1"]).DATA
        self._send(name, address, data, aborted)

    def complete(self, address: int, data: int) -> None:
        """Tell that a SYNC is complete; IRQ_CTRL has no say in it."""
        self._send("CMD_SYNC", address, data, GlobalError.MSI_CMDQ_ABORT)

    def _send(self, name: str, address: int, data: int, aborted: GlobalError) -> None:
        if not (address and self.chip.features.idr0.MSI):
            self.chip.platform.interrupt(Interrupt(name))
        elif self._is_read_only(address):
            self.raise_error(aborted)
        else:
            self.chip.platform.interrupt(Interrupt(name, address, data))

    def _is_read_only(self, address: int) -> bool:
        """Whether a message would abort. One to where no memory is has an interrupt controller as its target."""
        regions = self.chip.memory.engine.regions()
        return any(start <= address <= last and not writable for start, last, writable in regions)
