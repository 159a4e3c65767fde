"""The PASID directory and tables: from a PASID to its page tables (VT-d 9.5, 9.6)."""

from __future__ import annotations

from enum import IntEnum

from viommu.layout import Bit, Bits, Descriptor, Field, Ignored
from viommu_vtd.spec.root_context import AddressWidth

TABLE_BITS = 6
"""PASID bits that index a PASID table (64 entries); the bits above index the directory."""

DIRECTORY_BITS = 7
"""PASID bits that index the smallest directory; ScalableContextEntry.PDTS adds to them."""


class PasidTranslationType(IntEnum):
    """PasidTableEntry.PGTT: how requests with this PASID are translated. Other values are invalid."""

    FIRST_STAGE = 1
    SECOND_STAGE = 2
    NESTED = 3
    PASS_THROUGH = 4


class FirstStagePaging(IntEnum):
    """PasidTableEntry.FSPM: levels of the first stage. 2 and 3 are reserved."""

    LEVELS_4 = 0
    LEVELS_5 = 1


class PasidDirectoryEntry(Descriptor, width=64):
    """Scalable-mode PASID directory entry, indexed by PASID[19:6]."""

    P = Bit(0)
    FPD = Bit(1)
    SMPTBLPTR = Bits(63, 12, shift=12)


class PasidTableEntry(Descriptor, width=512):
    """Scalable-mode PASID table entry, indexed by PASID[5:0].

    Older revisions had SLEE (5), EMT (93:91), PWT (94), PCD (95) and ERE (129), reserved since, and NXE (133)
    and SMEP (134), ignored since.
    """

    P = Bit(0)
    FPD = Bit(1)
    AW = Field(4, 2, of=AddressWidth)
    PGTT = Field(8, 6, of=PasidTranslationType)
    SSADE = Bit(9)
    SSPTPTR = Bits(63, 12, shift=12)

    DID = Bits(79, 64)
    PWSNP = Bit(87)
    PGSNP = Bit(88)
    CD = Bit(89)
    EMTE = Bit(90)
    PAT = Bits(127, 96)

    SRE = Bit(128)
    FSPM = Field(131, 130, of=FirstStagePaging)
    WPE = Bit(132)
    Unused = Ignored(134, 133)
    EAFE = Bit(135)
    FSPTPTR = Bits(191, 140, shift=12)
