"""The registers of one SMMU, as a driver reads and writes them: by layout, at the offsets that are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from attrs import frozen

from viommu_smmuv3_cmdqv.spec.queue_registers import GERROR, GERRORN
from viommu_smmuv3_cmdqv.spec.register_map import REGISTERS

if TYPE_CHECKING:
    from viommu.layout import Descriptor
    from viommu.objects.physical import Mmio

D = TypeVar("D", bound="Descriptor")


@frozen(eq=False)
class SmmuRegisters:
    """Reads and writes registers."""

    port: Mmio

    def read(self, layout: type[D]) -> D:
        """Read the register that a layout is named for."""
        offset, _ = REGISTERS[layout.__name__]
        return layout.decode(self.port.read(offset, layout.size))

    def write(self, value: Descriptor) -> None:
        """Write the register that a layout is named for."""
        offset, layout = REGISTERS[type(value).__name__]
        self.port.write(offset, layout.size, int(value))

    def active_errors(self) -> GERROR:
        """Say which global errors nobody has acknowledged."""
        return GERROR.decode(int(self.read(GERROR)) ^ int(self.read(GERRORN)))

    def acknowledge(self, errors: GERROR) -> None:
        """Acknowledge global errors."""
        self.write(GERRORN.decode(int(self.read(GERRORN)) ^ int(errors)))
