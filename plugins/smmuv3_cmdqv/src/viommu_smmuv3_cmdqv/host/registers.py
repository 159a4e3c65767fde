"""The registers of one SMMU, as a driver reads and writes them: by layout, at the offsets that are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from attrs import frozen

from viommu_smmuv3_cmdqv.spec.queue_registers import GERROR, GERRORN
from viommu_smmuv3_cmdqv.spec.register_map import REGISTERS

if TYPE_CHECKING:
    from viommu.layout import Descriptor

D = TypeVar("D", bound="Descriptor")


class RegisterPort(Protocol):
    """The register pages of an SMMU: offsets and sizes in bytes, sizes 4 or 8."""

    def read(self, offset: int, size: int) -> int:
        """Read a register."""

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register; what that sets off is done when this returns."""


@frozen(eq=False)
class SmmuRegisters:
    """Reads and writes registers."""

    port: RegisterPort

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
