"""The three interrupts of a unit: fault, invalidation and page-request events (VT-d 7.4, 11.4.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.platform import Interrupt
from viommu_vtd.spec.queue_registers import EventControl

if TYPE_CHECKING:
    from viommu_vtd.hardware.live.state import State

UPPER = 32
MASKED, HELD_BACK = EventControl.IM.mask, EventControl.IP.mask


@frozen
class EventInterrupt:
    """One of them. ``prefix``: FE, IE or PE, as its registers begin."""

    state: State
    source: str
    prefix: str

    def raise_(self) -> None:
        """A condition has arisen: send the message, or hold it back while it is masked."""
        if self._control & MASKED:
            self._set(self._control | HELD_BACK)
        else:
            self._send()

    def unmasked(self) -> None:
        """Software stored the control register: what was held back goes out once IM is 0."""
        if self._control & (HELD_BACK | MASKED) == HELD_BACK:
            self.serviced()
            self._send()

    def serviced(self) -> None:
        """The condition is gone, and with it what was held back."""
        if self._control & HELD_BACK:
            self._set(self._control & ~HELD_BACK)

    @property
    def _control(self) -> int:
        return self.state.registers[f"{self.prefix}CTL"]

    def _set(self, value: int) -> None:
        self.state.registers[f"{self.prefix}CTL"] = value

    def _send(self) -> None:
        registers = self.state.registers
        address = registers[f"{self.prefix}UADDR"] << UPPER | registers[f"{self.prefix}ADDR"]
        self.state.platform.interrupt(Interrupt(self.source, address, registers[f"{self.prefix}DATA"]))
