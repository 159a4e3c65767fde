"""Registers of identity, control and status (VT-d 11.4.1 to 11.4.5, and 11.4.16: protected memory)."""

from __future__ import annotations

from enum import IntEnum

from viommu.layout import Bit, Bits, Descriptor, Field


class TranslationTableMode(IntEnum):
    """RTADDR.TTM: what the root table is made of. 2 is reserved."""

    LEGACY = 0
    SCALABLE = 1
    ABORT_DMA = 3


class VER(Descriptor, width=32):
    """Version Register (0x00)."""

    MIN = Bits(3, 0)
    MAX = Bits(7, 4)


class CAP(Descriptor, width=64):
    """Capability Register (0x08). MGAW and NFR hold one less than they mean."""

    ND = Bits(2, 0)
    AFL = Bit(3)
    RWBF = Bit(4)
    PLMR = Bit(5)
    PHMR = Bit(6)
    CM = Bit(7)
    SAGAW = Bits(12, 8)
    MGAW = Bits(21, 16)
    ZLR = Bit(22)
    FRO = Bits(33, 24)
    SSLPS = Bits(37, 34)
    PSI = Bit(39)
    NFR = Bits(47, 40)
    MAMV = Bits(53, 48)
    DWD = Bit(54)
    DRD = Bit(55)
    FL1GP = Bit(56)
    PI = Bit(59)
    FL5LP = Bit(60)
    ECMDS = Bit(61)
    ESIRTPS = Bit(62)
    ESRTPS = Bit(63)


class ECAP(Descriptor, width=64):
    """Extended Capability Register (0x10). PSS holds one less than the PASID bits."""

    C = Bit(0)
    QI = Bit(1)
    DT = Bit(2)
    IR = Bit(3)
    EIM = Bit(4)
    PT = Bit(6)
    SC = Bit(7)
    IRO = Bits(17, 8)
    MHMV = Bits(23, 20)
    MTS = Bit(25)
    NEST = Bit(26)
    DIS = Bit(27)
    PRS = Bit(29)
    ERS = Bit(30)
    SRS = Bit(31)
    NWFS = Bit(33)
    EAFS = Bit(34)
    PSS = Bits(39, 35)
    PASID = Bit(40)
    DIT = Bit(41)
    PDS = Bit(42)
    SMTS = Bit(43)
    VCS = Bit(44)
    SSADS = Bit(45)
    SSTS = Bit(46)
    FSTS = Bit(47)
    SMPWCS = Bit(48)
    RPS = Bit(49)
    PMS = Bit(51)
    ADMS = Bit(52)
    RPRIVS = Bit(53)
    SMS = Bit(58)


class GCMD(Descriptor, width=32):
    """Global Command Register (0x18), which reads as zero. One command at a time: a copy of GSTS with one bit changed.

    TE, QIE, IRE and CFI switch; SRTP, SFL, WBF and SIRTP are done once each time they are written as 1.
    """

    CFI = Bit(23)
    SIRTP = Bit(24)
    IRE = Bit(25)
    QIE = Bit(26)
    WBF = Bit(27)
    EAFL = Bit(28)
    SFL = Bit(29)
    SRTP = Bit(30)
    TE = Bit(31)


class GSTS(Descriptor, width=32):
    """Global Status Register (0x1c)."""

    CFIS = Bit(23)
    IRTPS = Bit(24)
    IRES = Bit(25)
    QIES = Bit(26)
    WBFS = Bit(27)
    AFLS = Bit(28)
    FLS = Bit(29)
    RTPS = Bit(30)
    TES = Bit(31)


class RTADDR(Descriptor, width=64):
    """Root Table Address Register (0x20)."""

    TTM = Field(11, 10, of=TranslationTableMode)
    RTA = Bits(63, 12, shift=12)


class IRTA(Descriptor, width=64):
    """Interrupt Remapping Table Address Register (0xb8). The table has 2^(S + 1) entries."""

    S = Bits(3, 0)
    EIME = Bit(11)
    Address = Bits(63, 12, shift=12)


class PMEN(Descriptor, width=32):
    """Protected Memory Enable Register (0x64). PRS follows EPM once protection is on or off."""

    PRS = Bit(0)
    EPM = Bit(31)


class PLMBASE(Descriptor, width=32):
    """Protected Low-Memory Base Register (0x68), in MiB."""

    Base = Bits(31, 20, shift=20)


class PLMLIMIT(Descriptor, width=32):
    """Protected Low-Memory Limit Register (0x6c): the last MiB that is protected."""

    Limit = Bits(31, 20, shift=20)


class PHMBASE(Descriptor, width=64):
    """Protected High-Memory Base Register (0x70), in MiB."""

    Base = Bits(63, 20, shift=20)


class PHMLIMIT(Descriptor, width=64):
    """Protected High-Memory Limit Register (0x78): the last MiB that is protected."""

    Limit = Bits(63, 20, shift=20)
