"""Registers by name, through a port."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from attrs import frozen

from viommu_riscv.spec.registers import LAYOUTS

if TYPE_CHECKING:
    from viommu.layout import Descriptor
    from viommu.objects.physical import Mmio

LayoutT = TypeVar("LayoutT", bound="Descriptor")


@frozen
class HostRegisters:
    """The registers of one IOMMU."""

    port: Mmio

    def __getitem__(self, name: str) -> int:
        offset, layout = LAYOUTS[name]
        return self.port.read(offset, layout.size)

    def __setitem__(self, name: str, value: int) -> None:
        offset, layout = LAYOUTS[name]
        self.port.write(offset, layout.size, value)

    def decoded(self, name: str, layout: type[LayoutT]) -> LayoutT:
        """Read a register's fields."""
        return layout.decode(self[name])
