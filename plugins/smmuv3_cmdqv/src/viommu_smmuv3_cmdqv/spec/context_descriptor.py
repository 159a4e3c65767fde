"""Context descriptors: stage 1 of one (stream, substream) (IHI 0070, 5.3 and 5.4)."""

from __future__ import annotations

from viommu.layout import Bit, Bits, Descriptor, Field, Ignored
from viommu_smmuv3_cmdqv.spec.sizes import AddressSize, Granule, Granule1, Shareability, WalkCacheability


class L1CD(Descriptor, width=64):
    """Level 1 context descriptor: where a leaf table of CDs is."""

    V = Bit(0)
    L2PTR = Bits(51, 12, shift=12)


class CD(Descriptor, width=512):
    """Context descriptor, for VMSAv8-64 tables. Fields of VMSAv9-128 and of MPAM are left as reserved bits."""

    T0SZ = Bits(5, 0)
    TG0 = Field(7, 6, of=Granule)
    IR0 = Field(9, 8, of=WalkCacheability)
    OR0 = Field(11, 10, of=WalkCacheability)
    SH0 = Field(13, 12, of=Shareability)
    EPD0 = Bit(14)
    ENDI = Bit(15)
    T1SZ = Bits(21, 16)
    TG1 = Field(23, 22, of=Granule1)
    IR1 = Field(25, 24, of=WalkCacheability)
    OR1 = Field(27, 26, of=WalkCacheability)
    SH1 = Field(29, 28, of=Shareability)
    EPD1 = Bit(30)
    V = Bit(31)
    IPS = Field(34, 32, of=AddressSize)
    AFFD = Bit(35)
    WXN = Bit(36)
    UWXN = Bit(37)
    TBI0 = Bit(38)
    TBI1 = Bit(39)
    PAN = Bit(40)
    AA64 = Bit(41)
    HD = Bit(42)
    HA = Bit(43)
    S = Bit(44)
    R = Bit(45)
    A = Bit(46)
    ASET = Bit(47)
    ASID = Bits(63, 48)

    NSCFG0 = Bit(64)
    HAD0 = Bit(65)
    E0PD0 = Bit(66)
    HAFT = Bit(67)
    TTB0 = Bits(115, 68, shift=4)
    HWU059 = Bit(124)
    HWU060 = Bit(125)
    HWU061 = Bit(126)
    HWU062 = Bit(127)

    NSCFG1 = Bit(128)
    HAD1 = Bit(129)
    E0PD1 = Bit(130)
    TTB1 = Bits(179, 132, shift=4)
    DS = Bit(186)
    HWU159 = Bit(188)
    HWU160 = Bit(189)
    HWU161 = Bit(190)
    HWU162 = Bit(191)

    MAIR = Bits(255, 192)
    AMAIR = Ignored(319, 256)
    IMPDEF_5 = Ignored(351, 320)
