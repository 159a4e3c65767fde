"""x86-64 paging entries: VT-d first stage (VT-d 9.7), AMD v2 (AMD IOMMU 2.2.6)."""

from __future__ import annotations

from viommu.layout import Bit, Bits, Descriptor, Ignored


class _Entry(Descriptor, width=64):
    P = Bit(0)
    RW = Bit(1)
    US = Bit(2)
    PWT = Bit(3)
    PCD = Bit(4)
    A = Bit(5)
    EA = Ignored(10)  # looked at with extended-accessed enabled (EAFE) alone
    Bit11 = Ignored(11)
    Soft = Ignored(62, 52)
    XD = Bit(63)


class X86UpperTable(_Entry):
    """A PML4 or PML5 entry: no leaf is possible, bit 7 is reserved."""

    Bit6 = Ignored(6)
    Bits9_8 = Ignored(9, 8)
    Address = Bits(51, 12, shift=12)


class X86Table(X86UpperTable):
    """A PDP or PD entry that leads to the next table (PS is 0)."""

    PS = Bit(7)


class _Leaf(_Entry):
    D = Bit(6)
    G = Bit(8)
    Bit9 = Ignored(9)


class X86Page4K(_Leaf):
    """A leaf of 4 KiB."""

    PAT = Bit(7)
    Address = Bits(51, 12, shift=12)


class X86Page2M(_Leaf):
    """A leaf of 2 MiB (PS is 1)."""

    PS = Bit(7)
    PAT = Bit(12)
    Address = Bits(51, 21, shift=21)


class X86Page1G(_Leaf):
    """A leaf of 1 GiB (PS is 1)."""

    PS = Bit(7)
    PAT = Bit(12)
    Address = Bits(51, 30, shift=30)
