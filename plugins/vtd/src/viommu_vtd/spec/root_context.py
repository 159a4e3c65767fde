"""Root and context tables: from a source-id to what governs it (VT-d 9.1 to 9.4)."""

from __future__ import annotations

from enum import IntEnum

from viommu.layout import Bit, Bits, Descriptor, Field, Ignored


class TranslationType(IntEnum):
    """ContextEntry.TT: which requests are translated, and how. 3 is reserved."""

    UNTRANSLATED = 0
    """Untranslated requests go through second stage; ATS is refused."""
    ALL = 1
    """The same, and ATS is allowed. Needs ECAP.DT."""
    PASS_THROUGH = 2
    """Untranslated requests pass. Needs ECAP.PT."""


class AddressWidth(IntEnum):
    """AW: the adjusted guest address width, and so the levels of second stage (AW + 2)."""

    BITS_39 = 1
    BITS_48 = 2
    BITS_57 = 3


class RootEntry(Descriptor, width=128):
    """Root entry of legacy mode: the context table of one bus."""

    P = Bit(0)
    CTP = Bits(63, 12, shift=12)


class ScalableRootEntry(Descriptor, width=128):
    """Root entry of scalable mode: two context tables of one bus, for devfn 0 to 127 and 128 to 255."""

    LP = Bit(0)
    LCTP = Bits(63, 12, shift=12)
    UP = Bit(64)
    UCTP = Bits(127, 76, shift=12)


class ContextEntry(Descriptor, width=128):
    """Context entry of legacy mode, indexed by devfn."""

    P = Bit(0)
    FPD = Bit(1)
    TT = Field(3, 2, of=TranslationType)
    SSPTPTR = Bits(63, 12, shift=12)
    AW = Field(66, 64, of=AddressWidth)
    Available = Ignored(70, 67)
    DID = Bits(87, 72)


class ScalableContextEntry(Descriptor, width=256):
    """Context entry of scalable mode, indexed by the low 7 bits of devfn. The directory has 2^(PDTS + 7) entries."""

    P = Bit(0)
    FPD = Bit(1)
    DTE = Bit(2)
    PASIDE = Bit(3)
    PRE = Bit(4)
    PDTS = Bits(11, 9)
    PASIDDIRPTR = Bits(63, 12, shift=12)
    RID_PASID = Bits(83, 64)
    RID_PRIV = Bit(84)
