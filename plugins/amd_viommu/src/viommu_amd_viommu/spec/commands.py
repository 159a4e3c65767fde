"""Commands, 16 bytes each (AMD 48882, 2.4). Bit n of dword d is bit 32d + n here."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from viommu.layout import Bit, Bits, Descriptor, Field, Split

if TYPE_CHECKING:
    from collections.abc import Mapping


class Opcode(IntEnum):
    """Which command an entry of the command buffer is."""

    COMPLETION_WAIT = 0x1
    INVALIDATE_DEVTAB_ENTRY = 0x2
    INVALIDATE_IOMMU_PAGES = 0x3
    INVALIDATE_IOTLB_PAGES = 0x4
    INVALIDATE_INTERRUPT_TABLE = 0x5
    PREFETCH_IOMMU_PAGES = 0x6
    COMPLETE_PPR_REQUEST = 0x7
    INVALIDATE_IOMMU_ALL = 0x8
    INSERT_GUEST_EVENT = 0x9
    RESET_VMMIO = 0xA


class PPRStatus(IntEnum):
    """How COMPLETE_PPR_REQUEST answers. Any other value is a failure too."""

    SUCCESS = 0
    INVALID_REQUEST = 1
    FAILURE = 15


class AnyCommand(Descriptor, width=128):
    """What every command has."""

    Opcode = Field(63, 60, of=Opcode)


class CompletionWait(AnyCommand):
    """COMPLETION_WAIT: earlier commands are done. s: store Data; i: interrupt; f: later ones wait."""

    s = Bit(0)
    i = Bit(1)
    f = Bit(2)
    Address = Bits(51, 3, shift=3)
    Data = Bits(127, 64)


STORE_BYTES = 8
"""What COMPLETION_WAIT stores: all of Data."""


class InvalidateDevtabEntry(AnyCommand):
    """INVALIDATE_DEVTAB_ENTRY: forget a device table entry."""

    DeviceID = Bits(15, 0)


class InvalidateIommuPages(AnyCommand):
    """INVALIDATE_IOMMU_PAGES: forget translations. With S, the lowest zero of Address tells the size."""

    PASID = Bits(19, 0)
    DomainID = Bits(47, 32)
    S = Bit(64)
    PDE = Bit(65)
    GN = Bit(66)
    Address = Bits(127, 76, shift=12)


class InvalidateIotlbPages(AnyCommand):
    """INVALIDATE_IOTLB_PAGES: have a device forget translations that ATS gave it."""

    DeviceID = Bits(15, 0)
    PASID = Split((55, 48), (23, 16), (59, 56))
    MaxPend = Bits(31, 24)
    QueueID = Bits(47, 32)
    S = Bit(64)
    GN = Bit(66)
    Type = Bits(69, 68)
    Address = Bits(127, 76, shift=12)


class InvalidateInterruptTable(AnyCommand):
    """INVALIDATE_INTERRUPT_TABLE: forget a device's interrupt remapping entries."""

    DeviceID = Bits(15, 0)


class PrefetchIommuPages(AnyCommand):
    """PREFETCH_IOMMU_PAGES: a hint that translations will be needed. Inval: forget them first."""

    DeviceID = Bits(15, 0)
    PFCount = Bits(31, 24)
    PASID = Bits(51, 32)
    S = Bit(64)
    GN = Bit(66)
    Inval = Bit(68)
    Address = Bits(127, 76, shift=12)


class CompletePprRequest(AnyCommand):
    """COMPLETE_PPR_REQUEST: answer a group of page requests."""

    DeviceID = Bits(15, 0)
    PASID = Bits(51, 32)
    GN = Bit(66)
    Tag = Bits(104, 96)
    Status = Field(111, 108, of=PPRStatus)


class InvalidateIommuAll(AnyCommand):
    """INVALIDATE_IOMMU_ALL: forget everything."""


class InsertGuestEvent(AnyCommand):
    """INSERT_GUEST_EVENT: put an event into a guest's log."""

    GuestID = Bits(47, 32)


class ResetVmmio(AnyCommand):
    """RESET_VMMIO: clear the registers of a guest's IOMMU."""

    GuestID = Bits(15, 0)
    All = Bit(28)
    vCMD = Bit(31)


COMMANDS: Mapping[int, type[AnyCommand]] = {
    Opcode.COMPLETION_WAIT: CompletionWait,
    Opcode.INVALIDATE_DEVTAB_ENTRY: InvalidateDevtabEntry,
    Opcode.INVALIDATE_IOMMU_PAGES: InvalidateIommuPages,
    Opcode.INVALIDATE_IOTLB_PAGES: InvalidateIotlbPages,
    Opcode.INVALIDATE_INTERRUPT_TABLE: InvalidateInterruptTable,
    Opcode.PREFETCH_IOMMU_PAGES: PrefetchIommuPages,
    Opcode.COMPLETE_PPR_REQUEST: CompletePprRequest,
    Opcode.INVALIDATE_IOMMU_ALL: InvalidateIommuAll,
    Opcode.INSERT_GUEST_EVENT: InsertGuestEvent,
    Opcode.RESET_VMMIO: ResetVmmio,
}
"""How to decode a command of each opcode."""


def decode_command(raw: bytes) -> AnyCommand:
    """Decode a command by its own opcode; of an unknown one only the opcode is told."""
    return COMMANDS.get(AnyCommand.decode(raw).Opcode, AnyCommand).decode(raw)
