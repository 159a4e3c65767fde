"""AMD IOMMU host page-table entries, version 1 (AMD IOMMU 2.2.3)."""

from __future__ import annotations

from enum import IntEnum

from viommu.layout import Bit, Bits, Descriptor, Field, Ignored


class NextLevel(IntEnum):
    """Where an entry leads: the level of the next table, or one of two ways to be a leaf."""

    PAGE = 0
    LEVEL_1 = 1
    LEVEL_2 = 2
    LEVEL_3 = 3
    LEVEL_4 = 4
    LEVEL_5 = 5
    LEVEL_6 = 6
    PAGE_SIZE_IN_ADDRESS = 7


class _Entry(Descriptor, width=64):
    PR = Bit(0)
    Bits4_1 = Ignored(4, 1)
    A = Bit(5)
    NextLevel = Field(11, 9, of=NextLevel)
    Address = Bits(51, 12, shift=12)
    IR = Bit(61)
    IW = Bit(62)
    Bit63 = Ignored(63)


class AmdV1Table(_Entry):
    """An entry that leads to the table of a lower level."""

    Bits8_6 = Ignored(8, 6)


class AmdV1Leaf(_Entry):
    """A page. Where NextLevel is 7, the lowest zero of Address from bit 12 on tells the size."""

    D = Bit(6)
    Bits8_7 = Ignored(8, 7)
    PMC = Bits(58, 57)
    U = Bit(59)
    FC = Bit(60)
