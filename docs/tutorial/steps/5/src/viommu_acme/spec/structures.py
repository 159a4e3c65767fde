"""Structures in memory."""

from __future__ import annotations

from enum import IntEnum

from viommu.layout import Bit, Bits, Descriptor, Field


class Mode(IntEnum):
    """What a device table entry does with a device's DMA."""

    BYPASS = 0
    TRANSLATE = 1
    NESTED = 2


class DTE(Descriptor, width=128):
    """Device Table Entry: what governs the DMA of one device."""

    V = Bit(0)
    Mode = Field(3, 1, of=Mode)
    TablePtr = Bits(51, 12, shift=12)
    DomainID = Bits(63, 52)
    GuestTablePtr = Bits(115, 76, shift=12)  # an address that TablePtr translates
    GuestSpace = Bits(127, 116)


class EventCode(IntEnum):
    """Why DMA was refused."""

    BAD_DEVICE = 1
    BAD_ENTRY = 2
    NOT_PRESENT = 3
    NOT_WRITABLE = 4
    TOO_LARGE = 5
    BAD_TABLE = 6
    UNREADABLE = 7


class Event(Descriptor, width=128):
    """What hardware records of DMA that it refused."""

    Code = Field(7, 0, of=EventCode)
    Write = Bit(8)
    DeviceID = Bits(31, 16)
    Address = Bits(127, 64)
