"""RISC-V Sv39, Sv48 and Sv57 page-table entries (privileged architecture; Svnapot, Svpbmt, Svrsw60t59b)."""

from __future__ import annotations

from enum import IntEnum

from viommu.layout import Bit, Bits, Descriptor, Field, Ignored


class PBMT(IntEnum):
    """The page's memory type."""

    PMA = 0
    NC = 1
    IO = 2
    RESERVED = 3


class _Entry(Descriptor, width=64):
    V = Bit(0)
    R = Bit(1)
    W = Bit(2)
    X = Bit(3)
    G = Bit(5)
    RSW = Ignored(9, 8)
    PPN = Bits(53, 10, shift=12)
    RSW60_59 = Ignored(60, 59)  # reserved without Svrsw60t59b


class RiscvPointer(_Entry):
    """An entry that leads to the next table (R, W and X are 0); U, A, D, PBMT and N are reserved in it."""


class RiscvLeaf(_Entry):
    """A page. With N, the low bits of PPN tell the size (Svnapot)."""

    U = Bit(4)
    A = Bit(6)
    D = Bit(7)
    PBMT = Field(62, 61, of=PBMT)
    N = Bit(63)
