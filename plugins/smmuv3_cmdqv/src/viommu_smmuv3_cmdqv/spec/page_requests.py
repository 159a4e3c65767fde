"""Page requests, as the SMMU writes them into the PRI queue (IHI 0070, chapter 8)."""

from __future__ import annotations

from viommu.layout import Bit, Bits, Descriptor


class PageRequestRecord(Descriptor, width=128):
    """A device asks for a page (PCIe PRI). Last: it ends its group, which one PRI_RESP answers."""

    SID = Bits(31, 0)
    SSID = Bits(51, 32)
    Priv = Bit(58)
    Exec = Bit(59)
    Read = Bit(60)
    Write = Bit(61)
    Last = Bit(62)
    SSID_V = Bit(63)
    PRGIndex = Bits(72, 64)
    Address = Bits(127, 76, shift=12)
