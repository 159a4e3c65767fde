"""The three interrupts of a unit: fault, invalidation and page-request events (VT-d 7.4, 11.4.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.platform import Interrupt
from viommu_vtd.spec.queue_registers import EventControl

if TYPE_CHECKING:
    from viommu_vtd.hardware.live.state import State

UPPER = 32


@frozen
class EventInterrupt:
    """One of them. ``prefix``: FE, IE or PE, as its registers begin."""

    state: State
    source: str
    prefix: str

    def raise_(self) -> None:
        """A condition has arisen: send the message, or hold it back while it is masked."""
        if self._control.IM:
            self._set(IP=1)
        else:
            self._send()

    def unmasked(self) -> None:
        """Software stored the control register: what was held back goes out once IM is 0."""
        if self._control.IP and not self._control.IM:
            self._set(IP=0)
            self._send()

    def serviced(self) -> None:
        """The condition is gone, and with it what was held back."""
        self._set(IP=0)

    @property
    def _control(self) -> EventControl:
        return self.state.registers.decoded(f"{self.prefix}CTL", EventControl)

    def _set(self, **bits: int) -> None:
        self.state.registers[f"{self.prefix}CTL"] = int(self._control.replace(**bits))

    def _send(self) -> None:
        registers = self.state.registers
        address = registers[f"{self.prefix}UADDR"] << UPPER | registers[f"{self.prefix}ADDR"]
        self.state.platform.interrupt(Interrupt(self.source, address, registers[f"{self.prefix}DATA"]))
