"""Arm VMSAv8-64 translation table descriptors (Arm ARM DDI 0487, D8.3), as an SMMUv3 reads them.

Bits 49:48 are address bits with 52-bit 4K and 16K tables (DS) and else take no part. With 64K tables and
52-bit addresses, address bits 51:48 stand in bits 15:12. A walk's ``output`` has them in place.
"""

from __future__ import annotations

from enum import IntEnum

from viommu.layout import Bit, Bits, Descriptor, Field, Ignored


class UpperType(IntEnum):
    """Bits 1:0 above the last level."""

    INVALID = 0
    BLOCK = 1
    INVALID_2 = 2
    TABLE = 3


class LastType(IntEnum):
    """Bits 1:0 at the last level."""

    INVALID = 0
    RESERVED = 1
    INVALID_2 = 2
    PAGE = 3


class APTable(IntEnum):
    """What a stage-1 table takes away from everything below it."""

    NO_EFFECT = 0
    NO_UNPRIVILEGED = 1
    READ_ONLY = 2
    READ_ONLY_NO_UNPRIVILEGED = 3


class AP(IntEnum):
    """Stage-1 data access: what the privileged may do, and whether the unprivileged may too."""

    RW_PRIVILEGED = 0
    RW = 1
    RO_PRIVILEGED = 2
    RO = 3


class S2AP(IntEnum):
    """Stage-2 data access."""

    NONE = 0
    READ = 1
    WRITE = 2
    READ_WRITE = 3


class SH(IntEnum):
    """Shareability."""

    NON_SHAREABLE = 0
    RESERVED = 1
    OUTER = 2
    INNER = 3


class _Table(Descriptor, width=64):
    Type = Field(1, 0, of=UpperType)
    Low = Ignored(9, 2)
    AF = Ignored(10)  # looked at with HAFT alone
    Bit11 = Ignored(11)
    Address = Bits(47, 12, shift=12)
    AddressHigh = Ignored(50, 48)
    Soft = Ignored(58, 51)


class ArmStage1Table(_Table):
    """Stage 1, a descriptor that leads to the next table."""

    PXNTable = Bit(59)
    XNTable = Bit(60)
    APTable = Field(62, 61, of=APTable)
    NSTable = Bit(63)


class ArmStage2Table(_Table):
    """Stage 2, a descriptor that leads to the next table; nothing is inherited from it."""


class _Stage1Leaf(Descriptor, width=64):
    AttrIndx = Bits(4, 2)
    NS = Bit(5)
    AP = Field(7, 6, of=AP)
    SH = Field(9, 8, of=SH)
    AF = Bit(10)
    nG = Bit(11)
    AddressHigh = Ignored(50, 48)
    DBM = Bit(51)
    Contiguous = Bit(52)
    PXN = Bit(53)
    UXN = Bit(54)
    SW = Ignored(58, 55)
    PBHA = Ignored(62, 59)
    Bit63 = Ignored(63)


class ArmStage1Page(_Stage1Leaf):
    """Stage 1, a leaf of the last level."""

    Type = Field(1, 0, of=LastType)
    Address = Bits(47, 12, shift=12)


class ArmStage1Block(_Stage1Leaf):
    """Stage 1, a leaf above the last level."""

    Type = Field(1, 0, of=UpperType)
    Address51_48 = Ignored(15, 12)  # reserved but with 64K tables and 52-bit addresses
    nT = Bit(16)
    Address = Bits(47, 21, shift=21)


class _Stage2Leaf(Descriptor, width=64):
    MemAttr = Bits(5, 2)
    S2AP = Field(7, 6, of=S2AP)
    SH = Field(9, 8, of=SH)
    AF = Bit(10)
    Bit11 = Ignored(11)
    AddressHigh = Ignored(50, 48)
    DBM = Bit(51)
    Contiguous = Bit(52)
    XN = Bits(54, 53)
    SW = Ignored(58, 55)
    PBHA = Ignored(62, 59)
    Bit63 = Ignored(63)


class ArmStage2Page(_Stage2Leaf):
    """Stage 2, a leaf of the last level."""

    Type = Field(1, 0, of=LastType)
    Address = Bits(47, 12, shift=12)


class ArmStage2Block(_Stage2Leaf):
    """Stage 2, a leaf above the last level."""

    Type = Field(1, 0, of=UpperType)
    Address51_48 = Ignored(15, 12)  # reserved but with 64K tables and 52-bit addresses
    nT = Bit(16)
    Address = Bits(47, 21, shift=21)
