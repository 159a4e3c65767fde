"""MMIO registers (AMD 48882, 3.4)."""

from __future__ import annotations

from enum import IntEnum

from viommu.layout import Bit, Bits, Descriptor, Field


class InvalidationTimeout(IntEnum):
    """Control.InvTimeOut: how long an invalidation of a device TLB may take."""

    NONE = 0
    MS_1 = 1
    MS_10 = 2
    MS_100 = 3
    S_1 = 4
    S_10 = 5
    S_100 = 6


class DualLog(IntEnum):
    """Control.DualPPRLogEn and DualEventLogEn: which of logs A and B are in use. 3 is reserved."""

    A = 0
    B = 1
    SWAP = 2


class HostLevels(IntEnum):
    """EFR.HATS: the deepest host table. 3: host translation is not to be used."""

    LEVELS_4 = 0
    LEVELS_5 = 1
    LEVELS_6 = 2
    NONE = 3


class Control(Descriptor, width=64):
    """IOMMU Control Register (0x18)."""

    IommuEn = Bit(0)
    HtTunEn = Bit(1)
    EventLogEn = Bit(2)
    EventIntEn = Bit(3)
    ComWaitIntEn = Bit(4)
    InvTimeOut = Field(7, 5, of=InvalidationTimeout)
    PassPW = Bit(8)
    ResPassPW = Bit(9)
    Coherent = Bit(10)
    Isoc = Bit(11)
    CmdBufEn = Bit(12)
    PPRLogEn = Bit(13)
    PPRIntEn = Bit(14)
    PPREn = Bit(15)
    GTEn = Bit(16)
    GAEn = Bit(17)
    SmiFEn = Bit(22)
    SlfWBDis = Bit(23)
    SmiFLogEn = Bit(24)
    GAMEn = Bits(27, 25)
    GALogEn = Bit(28)
    GAIntEn = Bit(29)
    DualPPRLogEn = Field(31, 30, of=DualLog)
    DualEventLogEn = Field(33, 32, of=DualLog)
    DevTblSegEn = Bits(36, 34)
    PrivAbrtEn = Bits(38, 37)
    PPRAutoRspEn = Bit(39)
    MARCEn = Bit(40)
    BlkStopMrkEn = Bit(41)
    PPRAutoRspAon = Bit(42)
    NumIntRemapMode = Bits(44, 43)
    EPHEn = Bit(45)
    HADUpdate = Bits(47, 46)
    GDUpdateDis = Bit(48)
    XTEn = Bit(50)
    IntCapXTEn = Bit(51)
    vCmdEn = Bit(52)
    vIommuEn = Bit(53)
    GAUpdateDis = Bit(54)
    GAPPIEn = Bit(55)
    TMPMEn = Bit(56)
    GCR3TRPMode = Bit(58)
    IRTCacheDis = Bit(59)
    GstBufferTRPMode = Bit(60)
    SNPAVICEn = Bits(63, 61)


class EFR(Descriptor, width=64):
    """Extended Feature Register (0x30)."""

    PreF = Bit(0)
    PPR = Bit(1)
    XT = Bit(2)
    NX = Bit(3)
    GT = Bit(4)
    GAPPI = Bit(5)
    IA = Bit(6)
    GA = Bit(7)
    HE = Bit(8)
    PC = Bit(9)
    HATS = Field(11, 10, of=HostLevels)
    GATS = Bits(13, 12)
    GLX = Bits(15, 14)
    SmiF = Bits(17, 16)
    SmiFRC = Bits(20, 18)
    GAM = Bits(23, 21)
    DualPPRLog = Bits(25, 24)
    DualEventLog = Bits(29, 28)
    SATS = Bit(31)
    PASmax = Bits(36, 32)
    US = Bit(37)
    DevTblSeg = Bits(39, 38)
    PPROverflowEarly = Bit(40)
    PPRAutoRsp = Bit(41)
    MARC = Bits(43, 42)
    BlkStopMrk = Bit(44)
    PerfOpt = Bit(45)
    MsiCapMmio = Bit(46)
    Snoop = Bit(47)
    GIO = Bit(48)
    HA = Bit(49)
    EPH = Bit(50)
    AttrFW = Bit(51)
    HD = Bit(52)
    V2HDDis = Bit(53)
    InvIotlbType = Bit(54)
    vIOMMU = Bit(55)
    VmGuardIO = Bit(56)
    VmTableSize = Bits(60, 57)
    V2HADis = Bit(61)
    ForcePhyDest = Bit(62)
    SNP = Bit(63)


class EFR2(Descriptor, width=64):
    """Extended Feature 2 Register (0x1a0)."""

    SEVSNPIO = Bit(1)
    TMPM = Bit(2)
    GCR3TRPMode = Bit(3)
    GAPPIDis = Bit(4)
    SNPAVIC = Bits(7, 5)
    NumIntRemapSup = Bits(9, 8)
    HTRangeIgnore = Bit(11)


class DeviceTableBase(Descriptor, width=64):
    """Device Table Base Address (0x00). Size: 4 KiB units less one."""

    Size = Bits(8, 0)
    Base = Bits(51, 12, shift=12)


class DeviceTableSegmentBase(Descriptor, width=64):
    """Device Table Segment 1 to 7 Base Address (0x100 to 0x130). Size: 4 KiB units less one."""

    Size = Bits(7, 0)
    Base = Bits(51, 12, shift=12)


class BufferBase(Descriptor, width=64):
    """Base of the command buffer or of a log (0x08, 0x10, 0x38, 0xe0, 0xf0, 0xf8). Length: log2 of its entries."""

    Base = Bits(51, 12, shift=12)
    Length = Bits(59, 56)


class ExclusionBase(Descriptor, width=64):
    """Exclusion Base (0x20). Allow: every device is excluded, else those with DTE.EX."""

    Enable = Bit(0)
    Allow = Bit(1)
    Base = Bits(51, 12, shift=12)


class ExclusionLimit(Descriptor, width=64):
    """Exclusion Limit (0x28): the last page, itself excluded."""

    Limit = Bits(51, 12, shift=12)


class Status(Descriptor, width=64):
    """IOMMU Status Register (0x2020)."""

    EventOverflow = Bit(0)
    EventLogInt = Bit(1)
    ComWaitInt = Bit(2)
    EventLogRun = Bit(3)
    CmdBufRun = Bit(4)
    PPROverflow = Bit(5)
    PPRInt = Bit(6)
    PPRRun = Bit(7)
    GALogRun = Bit(8)
    GALogOverflow = Bit(9)
    GALogInt = Bit(10)
    PPROverflowB = Bit(11)
    PPRActive = Bit(12)
    EventOverflowB = Bit(15)
    EventActive = Bit(16)
    PPROverflowEarlyB = Bit(17)
    PPROverflowEarly = Bit(18)
