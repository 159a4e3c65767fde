"""MSI page-table entries and memory-resident interrupt files (Advanced Interrupt Architecture 1.0, chapter 8)."""

from __future__ import annotations

from enum import IntEnum

from viommu.layout import Bit, Bits, Descriptor, Field, Split


class MsiMode(IntEnum):
    """What an entry does with an MSI."""

    MRIF = 1
    BASIC = 3


class BasicMsiPte(Descriptor, width=128):
    """Basic translate mode: the page is somewhere else."""

    V = Bit(0)
    M = Field(2, 1, of=MsiMode)
    PPN = Bits(53, 10, shift=12)
    C = Bit(63)


class MrifMsiPte(Descriptor, width=128):
    """MRIF mode: a bit is set in a memory-resident interrupt file, and a notice sent."""

    V = Bit(0)
    M = Field(2, 1, of=MsiMode)
    MRIF = Bits(53, 7, shift=9)
    C = Bit(63)
    NPPN = Bits(117, 74, shift=12)
    NID = Split((73, 64), (124, 124))
