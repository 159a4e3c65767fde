"""Interrupt remapping table entries (VT-d 9.9)."""

from __future__ import annotations

from enum import IntEnum

from viommu.layout import Bit, Bits, Descriptor, Field, Ignored


class SourceValidation(IntEnum):
    """IRTE.SVT: how the requester is held against SID. 3 is reserved."""

    NONE = 0
    SOURCE_ID = 1
    BUS_RANGE = 2


class IRTE(Descriptor, width=128):
    """Interrupt Remapping Table Entry, remapped format."""

    P = Bit(0)
    FPD = Bit(1)
    DM = Bit(2)
    RH = Bit(3)
    TM = Bit(4)
    DLM = Bits(7, 5)
    Available = Ignored(11, 8)
    IM = Bit(15)
    V = Bits(23, 16)
    DST = Bits(63, 32)
    SID = Bits(79, 64)
    SQ = Bits(81, 80)
    SVT = Field(83, 82, of=SourceValidation)
