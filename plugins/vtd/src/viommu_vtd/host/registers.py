"""The registers of one unit, as a driver reads and writes them: by layout, at the offsets that are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from attrs import define, field

from viommu_vtd.spec import EVENT_REGISTERS, REGISTERS
from viommu_vtd.spec.faults import FRCD
from viommu_vtd.spec.offsets import OFFSETS, UNIT
from viommu_vtd.spec.registers import CAP, ECAP, GCMD, GSTS

if TYPE_CHECKING:
    from viommu.layout import Descriptor
    from viommu.objects.physical import Mmio

D = TypeVar("D", bound="Descriptor")

SWITCHES = (("TES", "TE"), ("QIES", "QIE"), ("IRES", "IRE"), ("CFIS", "CFI"))
"""Status bits that a command has to repeat, so that it changes nothing but what it is for."""

WORD = 8


@define(eq=False)
class UnitRegisters:
    """Reads and writes registers. ``cap`` and ``ecap`` are read once: they do not change."""

    port: Mmio
    cap: CAP = field(init=False)
    ecap: ECAP = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.cap = self.read(CAP)
        self.ecap = self.read(ECAP)

    def read(self, layout: type[D]) -> D:
        """Read the register that a layout is named for."""
        return layout.decode(self.port.read(OFFSETS[layout.__name__], layout.size))

    def write(self, value: Descriptor) -> None:
        """Write the register that a layout is named for."""
        self.port.write(OFFSETS[type(value).__name__], value.size, int(value))

    def write_event(self, name: str, value: int) -> None:
        """Write one of the registers of an interrupt (``FECTL``, ``PEDATA`` ...)."""
        self.port.write(OFFSETS[name], EVENT_REGISTERS[name].size, value)

    def read_record(self, index: int) -> FRCD:
        """Read a fault recording register."""
        offset = self._record(index)
        return FRCD.decode(self.port.read(offset, WORD) | self.port.read(offset + WORD, WORD) << 64)

    def clear_record(self, index: int) -> None:
        """Write F as 1, which clears it."""
        self.port.write(self._record(index) + WORD, WORD, REGISTERS["FRCD_HI"].fields["F"].mask)

    def command(self, **bits: int) -> GSTS:
        """Give one global command, a copy of the status with one bit changed; the status after it."""
        status = self.read(GSTS)
        kept = {command: getattr(status, told) for told, command in SWITCHES}
        self.write(GCMD(**{**kept, **bits}))
        return self.read(GSTS)

    def _record(self, index: int) -> int:
        return self.cap.FRO * UNIT + index * FRCD.size
