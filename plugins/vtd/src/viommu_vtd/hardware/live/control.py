"""Global commands (VT-d 11.4.4): what GCMD sets off, and GSTS tells of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from viommu_vtd.spec.registers import GCMD, RTADDR

if TYPE_CHECKING:
    from viommu_vtd.hardware.live.invalidation import Invalidator
    from viommu_vtd.hardware.live.queue import InvalidationQueue
    from viommu_vtd.hardware.live.state import State

SWITCHES = (("CFI", "CFIS"), ("IRE", "IRES"), ("QIE", "QIES"), ("TE", "TES"))
"""Commands that stay as they are written, with the status that follows them."""


@define(eq=False)
class Control:
    """Does what GCMD asks. WBF, SFL and EAFL are no-ops: there is no write buffer, and no advanced fault log."""

    state: State
    invalidate: Invalidator
    queue: InvalidationQueue

    def command(self, written: int) -> None:
        """Do what differs from the status. Several at once are undefined: pointers first, translation last."""
        self.state.registers["GCMD"] = 0
        command, status = GCMD.decode(written), self.state.status
        switched = [(bit, told) for bit, told in SWITCHES if getattr(command, bit) != getattr(status, told)]
        asked = [name for name in ("SRTP", "SIRTP") if getattr(command, name)] + [bit for bit, _ in switched]
        self.state.platform.observe("vtd.global_command", {"commands": asked, "defined": len(asked) <= 1})
        if command.SRTP:
            self._set_root_pointer()
        if command.SIRTP:
            self.state.set_status(IRTPS=1)
        for bit, told in switched:
            self._switch(bit, told, getattr(command, bit))

    def _set_root_pointer(self) -> None:
        """Latch RTADDR. With ESRTPS everything cached ends with it; else software has to see to that."""
        self.state.set_root(self.state.registers.decoded("RTADDR", RTADDR))
        self.state.set_status(RTPS=1)
        if self.state.cap.ESRTPS:
            self.invalidate.all_contexts()
            self.invalidate.everything_of_iotlb()

    def _switch(self, bit: str, told: str, value: int) -> None:
        if bit == "QIE" and not self.state.ecap.QI:
            return
        self.state.set_status(**{told: value})
        if bit == "QIE" and value:
            self.queue.start()
