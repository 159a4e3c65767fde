"""The GCR3 tables: from a PASID to the root of its guest page table (AMD 48882, 2.2.6)."""

from __future__ import annotations

from viommu.layout import Bit, Bits, Descriptor, Ignored

INDEX_BITS = 9
"""PASID bits that one level resolves: a table is 4 KiB of 8-byte entries."""


class GCR3Entry(Descriptor, width=64):
    """One entry of any level: the next table or, at the last level, the guest's CR3.

    Hardware is not known to check the remaining bits; software leaves them zero.
    """

    V = Bit(0)
    UnusedLow = Ignored(11, 1)
    Address = Bits(51, 12, shift=12)
    UnusedHigh = Ignored(63, 52)
