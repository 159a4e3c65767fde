"""Page request descriptors (VT-d 7.5.1.1): what hardware puts into the page request queue."""

from __future__ import annotations

from viommu.layout import Bit, Bits, Descriptor

PAGE_REQUEST = 1
"""PageRequestDescriptor.Type."""


class PageRequestDescriptor(Descriptor, width=256):
    """One page request of a device. LPIG ends the group PRGI; with neither RD nor WR it is a stop marker."""

    Type = Bits(7, 0)
    PASIDP = Bit(8)
    RID = Bits(31, 16)
    PASID = Bits(51, 32)
    EXE = Bit(52)
    PRIV = Bit(53)
    RD = Bit(64)
    WR = Bit(65)
    LPIG = Bit(66)
    PRGI = Bits(75, 67)
    ADDR = Bits(127, 76, shift=12)
    PrivateData0 = Bits(191, 128)
    PrivateData1 = Bits(255, 192)
