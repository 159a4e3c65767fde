"""Registers by which the IOMMU's own interrupts are programmed (AMD 48882, 3.4)."""

from __future__ import annotations

from viommu.layout import Bit, Bits, Descriptor, Split


class MsiVector0(Descriptor, width=32):
    """MSI Vector Register 0 (0x150), the capability's Miscellaneous Information 0."""

    MsiNum = Bits(4, 0)
    GVAsize = Bits(7, 5)
    PAsize = Bits(14, 8)
    VAsize = Bits(21, 15)
    HtAtsResv = Bit(22)
    MsiNumPPR = Bits(31, 27)


class MsiVector1(Descriptor, width=32):
    """MSI Vector Register 1 (0x154), the capability's Miscellaneous Information 1."""

    MsiNumGA = Bits(4, 0)


class MsiCapabilityHeader(Descriptor, width=32):
    """MSI Capability Header (0x158). MsiMultMessEn: log2 of the messages that software allotted."""

    MsiCapId = Bits(7, 0)
    MsiCapPtr = Bits(15, 8)
    MsiEn = Bit(16)
    MsiMultMessCap = Bits(19, 17)
    MsiMultMessEn = Bits(22, 20)
    Msi64En = Bit(23)


class MsiAddressLow(Descriptor, width=32):
    """MSI Address, low half (0x15c)."""

    Address = Bits(31, 2, shift=2)


class MsiAddressHigh(Descriptor, width=32):
    """MSI Address, high half (0x160)."""

    Address = Bits(31, 0)


class MsiData(Descriptor, width=32):
    """MSI Data (0x164)."""

    Data = Bits(15, 0)


class MsiMapping(Descriptor, width=32):
    """MSI Mapping Capability (0x168)."""

    MsiMapCapId = Bits(7, 0)
    MsiMapCapPtr = Bits(15, 8)
    MsiMapEn = Bit(16)
    MsiMapFixd = Bit(17)
    MsiMapCapType = Bits(31, 27)


class XTInterrupt(Descriptor, width=64):
    """XT IOMMU Interrupt Control: of general (event), PPR and GA log interrupts (0x170, 0x178, 0x180)."""

    DestMode = Bit(2)
    Destination = Split((31, 8), (63, 56))
    Vector = Bits(39, 32)
    DeliveryMode = Bit(40)
