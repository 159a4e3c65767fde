"""Registers of the command buffer and of the logs (AMD 48882, 3.4)."""

from __future__ import annotations

from viommu.layout import Bit, Bits, Descriptor


class QueuePointer(Descriptor, width=64):
    """Head or tail of the command buffer, an event log or a PPR log (0x2000 to 0x2078): a byte offset."""

    Offset = Bits(18, 4, shift=4)


class GuestApicLogPointer(Descriptor, width=64):
    """Head or tail of the guest virtual APIC log (0x2040, 0x2048): a byte offset."""

    Offset = Bits(15, 3, shift=3)


class GuestApicLogTailAddress(Descriptor, width=64):
    """Guest Virtual APIC Log Tail Address (0xe8)."""

    Address = Bits(51, 3, shift=3)


class PPRAutoResponse(Descriptor, width=64):
    """PPR Log Auto Response (0x2080): MaskGN leaves the PASID out of an automatic response."""

    Code = Bits(3, 0)
    MaskGN = Bit(4)


class PPROverflowEarly(Descriptor, width=64):
    """PPR Log Overflow Early Indicator (0x2088, 0x2090): entries in the log from which on it warns."""

    Threshold = Bits(14, 0)
    IntEn = Bit(30)
    En = Bit(31)
