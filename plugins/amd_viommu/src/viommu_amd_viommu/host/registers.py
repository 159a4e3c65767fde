"""The registers of one IOMMU, as its driver reads and writes them: by name, at the offsets that are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from attrs import define, field

from viommu_amd_viommu.spec.places import PLACES
from viommu_amd_viommu.spec.registers import EFR, EFR2, Control, Status

if TYPE_CHECKING:
    from viommu.layout import Descriptor
    from viommu.objects.physical import Mmio

LayoutT = TypeVar("LayoutT", bound="Descriptor")


@define(eq=False, repr=False)
class HostRegisters:
    """Reads and writes registers. ``efr`` and ``efr2`` are read once: they do not change."""

    mmio: Mmio
    efr: EFR = field(init=False)
    efr2: EFR2 = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.efr = self.decoded("EFR", EFR)
        self.efr2 = self.decoded("EFR2", EFR2)

    def __getitem__(self, name: str) -> int:
        place = PLACES[name]
        return self.mmio.read(place.offset, place.layout.size)

    def __setitem__(self, name: str, value: int) -> None:
        place = PLACES[name]
        self.mmio.write(place.offset, place.layout.size, value)

    def decoded(self, name: str, layout: type[LayoutT]) -> LayoutT:
        """Read a register's fields."""
        return layout.decode(self[name])

    @property
    def status(self) -> Status:
        """The Status register as it is now."""
        return self.decoded("STATUS", Status)

    def switch(self, **bits: int) -> Control:
        """Change bits of the Control register and leave the others; what stuck is returned."""
        self["CONTROL"] = int(self.decoded("CONTROL", Control).replace(**bits))
        return self.decoded("CONTROL", Control)
