"""VT-d second-stage paging entries (VT-d 9.8)."""

from __future__ import annotations

from viommu.layout import Bit, Bits, Descriptor, Ignored


class _Entry(Descriptor, width=64):
    R = Bit(0)
    W = Bit(1)
    Bits6_2 = Ignored(6, 2)
    A = Bit(8)
    Bit10 = Ignored(10)
    Soft = Ignored(61, 52)
    Bit63 = Ignored(63)


class SecondStageUpperTable(_Entry):
    """An SS-PML4 or SS-PML5 entry: no leaf is possible, bit 7 is reserved."""

    Bit9 = Ignored(9)
    Address = Bits(51, 12, shift=12)


class SecondStageTable(SecondStageUpperTable):
    """An SS-PDP or SS-PD entry that leads to the next table (PS is 0)."""

    PS = Bit(7)


class _Leaf(_Entry):
    D = Bit(9)
    SNP = Bit(11)
    TM = Bit(62)


class SecondStagePage4K(_Leaf):
    """A leaf of 4 KiB."""

    Bit7 = Ignored(7)
    Address = Bits(51, 12, shift=12)


class SecondStagePage2M(_Leaf):
    """A leaf of 2 MiB (PS is 1)."""

    PS = Bit(7)
    Address = Bits(51, 21, shift=21)


class SecondStagePage1G(_Leaf):
    """A leaf of 1 GiB (PS is 1)."""

    PS = Bit(7)
    Address = Bits(51, 30, shift=30)
