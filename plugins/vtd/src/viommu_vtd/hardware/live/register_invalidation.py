"""Invalidation through registers, in legacy mode and without the queue: CCMD, and IVA with IOTLB (VT-d 6.5.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from viommu_vtd.spec.queue_registers import CCMD, IOTLB, IVA, ContextGranularity, IotlbGranularity
from viommu_vtd.spec.registers import TranslationTableMode

if TYPE_CHECKING:
    from viommu_vtd.hardware.live.invalidation import Invalidator
    from viommu_vtd.hardware.live.state import State


@define(eq=False)
class RegisterInvalidation:
    """Invalidates at once, and tells in CAIG and IAIG what it did; 0 where it refuses."""

    state: State
    invalidate: Invalidator

    def context_command(self) -> None:
        """Software stored the upper half of CCMD."""
        command = self.state.registers.decoded("CCMD", CCMD)
        if command.ICC:
            done = self._context_cache(command) if self._allowed else ContextGranularity.REFUSED
            self.state.registers["CCMD"] = int(command.replace(ICC=0, CAIG=done))

    def iotlb_command(self) -> None:
        """Software stored the upper half of IOTLB."""
        command = self.state.registers.decoded("IOTLB", IOTLB)
        if command.IVT:
            address = self.state.registers.decoded("IVA", IVA)
            done = self._iotlb(command, address) if self._allowed else IotlbGranularity.REFUSED
            self.state.registers["IOTLB"] = int(command.replace(IVT=0, IAIG=done))

    @property
    def _allowed(self) -> bool:
        return not self.state.status.QIES and self.state.unit.root.TTM == TranslationTableMode.LEGACY

    def _context_cache(self, command: CCMD) -> int:
        match command.CIRG:
            case ContextGranularity.GLOBAL:
                self.invalidate.all_contexts()
            case ContextGranularity.DOMAIN:
                self.invalidate.contexts_of_domain(command.DID)
            case ContextGranularity.DEVICE:
                self.invalidate.contexts_of_device(command.SID, command.FM)
        return command.CIRG

    def _iotlb(self, command: IOTLB, address: IVA) -> int:
        match command.IIRG:
            case IotlbGranularity.GLOBAL:
                self.invalidate.everything_of_iotlb()
            case IotlbGranularity.DOMAIN:
                self.invalidate.iotlb_of_domain(command.DID)
            case IotlbGranularity.PAGE if self.state.cap.PSI and address.AM <= self.state.cap.MAMV:
                self.invalidate.iotlb_pages(command.DID, address.ADDR, address.AM, leaf_only=bool(address.IH))
            case _:
                return IotlbGranularity.REFUSED
        return command.IIRG
