"""What all parts of a live unit share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, evolve

from viommu_vtd.hardware.capabilities import protected_ranges
from viommu_vtd.hardware.model import VtdHardware
from viommu_vtd.spec.registers import GSTS

if TYPE_CHECKING:
    from viommu.memory import PhysicalMemory
    from viommu.platform import Platform
    from viommu.registers import RegisterFile
    from viommu_vtd.hardware.capabilities import RemappingUnit
    from viommu_vtd.spec.registers import CAP, ECAP, RTADDR


@define(eq=False)
class State:
    """Registers, surroundings, and how requests are translated now: `VtdHardware`, made anew when that changes."""

    memory: PhysicalMemory
    platform: Platform
    registers: RegisterFile
    translation: VtdHardware

    @property
    def unit(self) -> RemappingUnit:
        """The registers that translation depends on, as they are in force."""
        return self.translation.unit

    @property
    def cap(self) -> CAP:
        """Capabilities."""
        return self.unit.cap

    @property
    def ecap(self) -> ECAP:
        """Extended capabilities."""
        return self.unit.ecap

    @property
    def status(self) -> GSTS:
        """Global status."""
        return self.registers.decoded("GSTS", GSTS)

    def set_status(self, **bits: int) -> None:
        """Change bits of the global status; translation that is switched starts from no cached context."""
        status = self.status.replace(**bits)
        self.registers["GSTS"] = int(status)
        switched = status.TES != self.unit.status.TES
        self.translation = VtdHardware(self.memory, evolve(self.unit, status=status))
        if switched:
            self.platform.caches.invalidate_contexts()

    def set_root(self, root: RTADDR) -> None:
        """Put another root table into force."""
        self.translation = VtdHardware(self.memory, evolve(self.unit, root=root))

    def set_protection(self) -> None:
        """Read the protected memory registers; contexts that were made under others end."""
        ranges = protected_ranges(self.cap, self.registers)
        if ranges != self.unit.protected:
            self.translation = VtdHardware(self.memory, evolve(self.unit, protected=ranges))
            self.platform.caches.invalidate_contexts()
