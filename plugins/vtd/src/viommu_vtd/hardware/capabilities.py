"""What one remapping unit can do, from its capability registers."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from attrs import field, frozen

from viommu.errors import BadRegister, OutOfRange
from viommu_vtd.hardware.reserved import reserved_masks
from viommu_vtd.spec.registers import CAP, ECAP, GSTS, PHMBASE, PHMLIMIT, PLMBASE, PLMLIMIT, PMEN, RTADDR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.hookspecs import Registers
    from viommu.layout import Descriptor
    from viommu.registers import RegisterFile

R = TypeVar("R", bound="Descriptor")

NARROWEST_ADDRESS = 32
WIDEST_ADDRESS = 52
"""Bits of a physical address on x86, and of the address in a page-table entry."""

MIB = 1 << 20
"""What base and limit of protected memory are multiples of."""


@frozen
class RemappingUnit:
    """The registers that decide how requests are translated.

    ``host_address_width`` (HAW, bits) stands in no register, yet decides which address bits are reserved. It
    defaults to MGAW, at most 52: so the recordings show it, which treat bit 48 of every pointer as reserved
    where MGAW is 48. Silicon whose second stage takes more than its memory bus does has another: give it.

    Raises BadRegister where a value is wider than its register or, with translation on, MGAW is below 32;
    OutOfRange for a ``host_address_width`` outside 32 to 52.
    """

    cap: CAP
    ecap: ECAP
    status: GSTS
    root: RTADDR
    host_address_width: int
    protected: tuple[tuple[int, int], ...] = ()
    """(start, last) of what PMEN keeps from devices that are not translated (bytes)."""
    reserved: Mapping[type[Descriptor], int] = field(init=False)
    """For each structure, the bits that must be zero in it."""

    @reserved.default
    def _reserved(self) -> Mapping[type[Descriptor], int]:
        return reserved_masks(self.ecap, self.host_address_width)

    @classmethod
    def of(cls, registers: Registers, host_address_width: int | None = None) -> RemappingUnit:
        """Read the registers."""
        cap = _register(registers, CAP)
        status = _register(registers, GSTS)
        if status.TES and cap.MGAW + 1 < NARROWEST_ADDRESS:
            raise BadRegister("CAP", int(cap), f"MGAW (21:16) gives {cap.MGAW + 1} bits, at least {NARROWEST_ADDRESS}")
        if host_address_width is None:
            host_address_width = min(max(cap.MGAW + 1, NARROWEST_ADDRESS), WIDEST_ADDRESS)
        if not NARROWEST_ADDRESS <= host_address_width <= WIDEST_ADDRESS:
            raise OutOfRange("host_address_width", host_address_width, WIDEST_ADDRESS, NARROWEST_ADDRESS)
        return cls(
            cap,
            _register(registers, ECAP),
            status,
            _register(registers, RTADDR),
            host_address_width,
            protected_ranges(cap, registers),
        )

    @property
    def guest_address_width(self) -> int:
        """MGAW: the widest input of second stage (bits). Less than 32 is no width that hardware has."""
        return max(self.cap.MGAW + 1, NARROWEST_ADDRESS)

    def supports_width(self, address_width: int) -> bool:
        """Whether SAGAW has this AW."""
        return 1 <= address_width <= 3 and bool(self.cap.SAGAW >> address_width & 1)

    @property
    def widest(self) -> int:
        """The largest AW that SAGAW has; 0 where it has none."""
        return max((width for width in (1, 2, 3) if self.supports_width(width)), default=0)


def protected_ranges(cap: CAP, registers: Registers | RegisterFile) -> tuple[tuple[int, int], ...]:
    """What PMEN protects: low and high memory, from the base's MiB to the limit's. Raises BadRegister."""
    if not _register(registers, PMEN).EPM:
        return ()
    low = (_register(registers, PLMBASE).Base, _register(registers, PLMLIMIT).Limit | MIB - 1)
    high = (_register(registers, PHMBASE).Base, _register(registers, PHMLIMIT).Limit | MIB - 1)
    regions = [region for region, there in ((low, cap.PLMR), (high, cap.PHMR)) if there and region[0] <= region[1]]
    return tuple(sorted(regions))


def _register(registers: Registers | RegisterFile, register: type[R]) -> R:
    value = registers[register.__name__]
    if not 0 <= value < 1 << register.width:
        raise BadRegister(register.__name__, value, f"the register has {register.width} bits")
    return register.decode(value)
