"""What the registers make of this IOMMU: its limits, its switches and where its device table lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from attrs import frozen

from viommu.errors import BadRegister
from viommu_amd_viommu.spec.device_table import DTE
from viommu_amd_viommu.spec.gcr3 import INDEX_BITS
from viommu_amd_viommu.spec.registers import (
    EFR,
    Control,
    DeviceTableBase,
    DeviceTableSegmentBase,
    ExclusionBase,
    ExclusionLimit,
    HostLevels,
)

if TYPE_CHECKING:
    from viommu.layout import Descriptor

    Register = TypeVar("Register", bound=Descriptor)

    class Values(Protocol):
        """Register values by name: those that a machine was given, or the registers themselves."""

        def __getitem__(self, name: str, /) -> int: ...


DEVICE_ID_BITS = 16
MOST_SEGMENT_BITS = 3
MOST_GCR3_LEVELS = 3
MOST_PASID_BITS = 20
TABLE_UNIT = 4096

SEGMENT_REGISTERS = ("DEVTAB", *(f"DEVTAB_SEG{number}" for number in range(1, 1 << MOST_SEGMENT_BITS)))
"""The base registers of device-table segments 0 to 7, as captures and tests name them."""


SETTINGS_REGISTERS = (*SEGMENT_REGISTERS, "CONTROL", "EFR", "EXCLBASE", "EXCLLIMIT")
"""The registers that `Settings` are read from."""


@frozen
class Segment:
    """A part of the device table: address and length in bytes."""

    base: int
    length: int


@frozen
class Hosting:
    """Whether hardware can run guests' IOMMUs, and what of it software has switched on."""

    here: bool
    enabled: bool
    """VF MMIO and entries with vImuEn mean something."""
    executes: bool
    """Guests' command buffers run."""
    translates: bool
    """Addresses of guests' buffers are translated."""

    @classmethod
    def of(cls, features: EFR, control: Control) -> Hosting:
        """Take it from registers."""
        here, enabled = bool(features.vIOMMU), bool(features.vIOMMU and control.vIommuEn)
        return cls(here, enabled, bool(enabled and control.vCmdEn), bool(here and control.GstBufferTRPMode))


@frozen
class Settings:
    """Control and feature registers, read once. `of` raises BadRegister."""

    control: Control
    features: EFR
    segments: tuple[Segment, ...]
    """Two to the power of Control.DevTblSegEn of them."""
    exclusion: tuple[int, int] | None
    """(start, last) of the exclusion range, where it is enabled."""
    exclusion_for_all: bool
    hosting: Hosting

    @classmethod
    def of(cls, registers: Values) -> Settings:
        """Decode the registers. BadRegister where a value is no 64-bit number, or asks for too many segments."""
        control = _register(registers, "CONTROL", Control)
        exclusion = _register(registers, "EXCLBASE", ExclusionBase)
        features = _register(registers, "EFR", EFR)
        return cls(
            control=control,
            features=features,
            segments=_segments(registers, control),
            exclusion=_exclusion(exclusion, _register(registers, "EXCLLIMIT", ExclusionLimit)),
            exclusion_for_all=bool(exclusion.Allow),
            hosting=Hosting.of(features, control),
        )

    @property
    def host_levels(self) -> int:
        """The deepest host table that EFR.HATS allows; 0: none."""
        return 0 if self.features.HATS == HostLevels.NONE else 4 + self.features.HATS

    @property
    def guest_translation(self) -> bool:
        """Whether DTE.GV may be set."""
        return bool(self.control.GTEn and self.features.GT)

    @property
    def guest_levels(self) -> int:
        """The deepest guest table that EFR.GATS allows."""
        return 5 if self.features.GATS else 4

    @property
    def gcr3_levels(self) -> int:
        """The deepest GCR3 table that EFR.GLX allows."""
        return min(self.features.GLX + 1, MOST_GCR3_LEVELS)

    def pasid_bits(self, gcr3_levels: int) -> int:
        """The width of the PASIDs that a GCR3 table of so many levels may be asked for."""
        return min(self.features.PASmax + 1, INDEX_BITS * gcr3_levels, MOST_PASID_BITS)

    def device_entry_address(self, device: int) -> int | None:
        """The address of a DeviceID's entry; None where the table ends before it."""
        index_bits = DEVICE_ID_BITS - (len(self.segments).bit_length() - 1)
        number, index = divmod(device, 1 << index_bits)
        if number >= len(self.segments) or index * DTE.size >= self.segments[number].length:
            return None
        return self.segments[number].base + index * DTE.size

    def exclusion_for(self, entry: DTE) -> tuple[tuple[int, int], ...]:
        """(start, last) of each range of addresses that this device reaches untranslated."""
        return (self.exclusion,) if self.exclusion and (self.exclusion_for_all or entry.EX) else ()


def _register(registers: Values, name: str, layout: type[Register]) -> Register:
    try:
        return layout.decode(registers[name])
    except ValueError:
        raise BadRegister(name, registers[name], f"it has {layout.width} bits") from None


def _segments(registers: Values, control: Control) -> tuple[Segment, ...]:
    if control.DevTblSegEn > MOST_SEGMENT_BITS:
        raise BadRegister(
            "CONTROL", int(control), f"DevTblSegEn is {control.DevTblSegEn}, at most {MOST_SEGMENT_BITS} is defined"
        )
    first, *others = SEGMENT_REGISTERS[: 1 << control.DevTblSegEn]
    bases: list[DeviceTableBase | DeviceTableSegmentBase] = [_register(registers, first, DeviceTableBase)]
    bases += [_register(registers, name, DeviceTableSegmentBase) for name in others]
    return tuple(Segment(base.Base, (base.Size + 1) * TABLE_UNIT) for base in bases)


def _exclusion(base: ExclusionBase, limit: ExclusionLimit) -> tuple[int, int] | None:
    return (base.Base, limit.Limit | TABLE_UNIT - 1) if base.Enable else None
