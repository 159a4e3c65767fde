"""Registers that say what the SMMU can do, and those that switch it (IHI 0070, chapter 6.3)."""

from __future__ import annotations

from enum import IntEnum

from viommu.layout import Bit, Bits, Descriptor, Field
from viommu_smmuv3_cmdqv.spec.sizes import AddressSize


class TableFormats(IntEnum):
    """IDR0.TTF: page-table formats, one bit for each execution state."""

    AARCH32 = 1
    AARCH64 = 2
    BOTH = 3


class HardwareUpdate(IntEnum):
    """IDR0.HTTU: what hardware can write into page tables."""

    NONE = 0
    ACCESS_FLAG = 1
    ACCESS_FLAG_AND_DIRTY = 2
    TABLE_ACCESS_FLAG = 3


class TableEndian(IntEnum):
    """IDR0.TTENDIAN: byte orders that page tables may have. 1 is reserved."""

    MIXED = 0
    LITTLE = 2
    BIG = 3


class StallModel(IntEnum):
    """IDR0.STALL_MODEL: whether a faulting transaction may wait for software. 3 is reserved."""

    STALL_AND_TERMINATE = 0
    NO_STALL = 1
    FORCED_STALL = 2


class StreamTableLevels(IntEnum):
    """IDR0.ST_LEVEL."""

    LINEAR = 0
    TWO_LEVEL = 1


class StreamTableFormat(IntEnum):
    """STRTAB_BASE_CFG.FMT; other values act as LINEAR."""

    LINEAR = 0
    TWO_LEVEL = 1


class VirtualAddressExtend(IntEnum):
    """IDR5.VAX: the largest virtual address of one half. 3 is reserved."""

    BITS_48 = 0
    BITS_52 = 1
    BITS_56 = 2


class IDR0(Descriptor, width=32):
    """Features: stages, formats, tags, stalls."""

    S2P = Bit(0)
    S1P = Bit(1)
    TTF = Field(3, 2, of=TableFormats)
    COHACC = Bit(4)
    BTM = Bit(5)
    HTTU = Field(7, 6, of=HardwareUpdate)
    DORMHINT = Bit(8)
    HYP = Bit(9)
    ATS = Bit(10)
    NS1ATS = Bit(11)
    ASID16 = Bit(12)
    MSI = Bit(13)
    SEV = Bit(14)
    ATOS = Bit(15)
    PRI = Bit(16)
    VMW = Bit(17)
    VMID16 = Bit(18)
    CD2L = Bit(19)
    VATOS = Bit(20)
    TTENDIAN = Field(22, 21, of=TableEndian)
    ATSRECERR = Bit(23)
    STALL_MODEL = Field(25, 24, of=StallModel)
    TERM_MODEL = Bit(26)
    ST_LEVEL = Field(28, 27, of=StreamTableLevels)
    RME_IMPL = Bit(30)


class IDR1(Descriptor, width=32):
    """Features: sizes of StreamIDs, SubstreamIDs and queues (log2)."""

    SIDSIZE = Bits(5, 0)
    SSIDSIZE = Bits(10, 6)
    PRIQS = Bits(15, 11)
    EVTQS = Bits(20, 16)
    CMDQS = Bits(25, 21)
    ATTR_PERMS_OVR = Bit(26)
    ATTR_TYPES_OVR = Bit(27)
    REL = Bit(28)
    QUEUES_PRESET = Bit(29)
    TABLES_PRESET = Bit(30)
    ECMDQ = Bit(31)


class IDR2(Descriptor, width=32):
    """Features: where the page of VATOS is, in units of 64 KB."""

    BA_VATOS = Bits(9, 0)


class IDR3(Descriptor, width=32):
    """Features: page-table extensions."""

    HAD = Bit(2)
    PBHA = Bit(3)
    XNX = Bit(4)
    PPS = Bit(5)
    MPAM = Bit(7)
    FWB = Bit(8)
    STT = Bit(9)
    RIL = Bit(10)
    BBML = Bits(12, 11)
    E0PD = Bit(13)
    PTWNNC = Bit(14)
    DPT = Bit(15)


class IDR4(Descriptor, width=32):
    """Features: the implementer's own."""

    IMPDEF = Bits(31, 0)


class IDR5(Descriptor, width=32):
    """Features: address sizes and granules."""

    OAS = Field(2, 0, of=AddressSize)
    GRAN4K = Bit(4)
    GRAN16K = Bit(5)
    GRAN64K = Bit(6)
    DS = Bit(7)
    D128 = Bit(8)
    VAX = Field(11, 10, of=VirtualAddressExtend)
    STALL_MAX = Bits(31, 16)


class IIDR(Descriptor, width=32):
    """Who made it."""

    Implementer = Bits(11, 0)
    Revision = Bits(15, 12)
    Variant = Bits(19, 16)
    ProductID = Bits(31, 20)


class AIDR(Descriptor, width=32):
    """Which version of the architecture: SMMUv3.minor."""

    ArchMinorRev = Bits(3, 0)
    ArchMajorRev = Bits(7, 4)


class PIDR(Descriptor, width=32):
    """One byte of the peripheral's identity (a CoreSight convention)."""

    ID = Bits(7, 0)


class CIDR(Descriptor, width=32):
    """One byte of the component's class (a CoreSight convention)."""

    PRMBL = Bits(7, 0)


class CR0(Descriptor, width=32):
    """Control: what is switched on."""

    SMMUEN = Bit(0)
    PRIQEN = Bit(1)
    EVTQEN = Bit(2)
    CMDQEN = Bit(3)
    ATSCHK = Bit(4)
    VMW = Bits(8, 6)
    DPT_WALK_EN = Bit(10)


class CR0ACK(CR0):
    """What of CR0 has taken effect."""


class CR1(Descriptor, width=32):
    """Control: how structures and queues are read and written. Cacheability: 0 none, 1 write-back, 2 write-through."""

    QUEUE_IC = Bits(1, 0)
    QUEUE_OC = Bits(3, 2)
    QUEUE_SH = Bits(5, 4)
    TABLE_IC = Bits(7, 6)
    TABLE_OC = Bits(9, 8)
    TABLE_SH = Bits(11, 10)


class CR2(Descriptor, width=32):
    """Control: EL2 with E2H, records of invalid StreamIDs, broadcast maintenance."""

    E2H = Bit(0)
    RECINVSID = Bit(1)
    PTM = Bit(2)
    REC_CFG_ATS = Bit(3)


class STATUSR(Descriptor, width=32):
    """Whether the SMMU sleeps."""

    DORMANT = Bit(0)


class GBPA(Descriptor, width=32):
    """Global bypass attributes: what becomes of transactions while CR0.SMMUEN is 0."""

    MEMATTR = Bits(3, 0)
    MTCFG = Bit(4)
    ALLOCCFG = Bits(11, 8)
    SHCFG = Bits(13, 12)
    PRIVCFG = Bits(17, 16)
    INSTCFG = Bits(19, 18)
    ABORT = Bit(20)
    UPDATE = Bit(31)


class AGBPA(Descriptor, width=32):
    """Global bypass attributes: the implementer's own."""

    IMPDEF = Bits(31, 0)


class STRTAB_BASE(Descriptor, width=64):
    """Where the stream table is."""

    ADDR = Bits(51, 6, shift=6)
    RA = Bit(62)


class STRTAB_BASE_CFG(Descriptor, width=32):
    """How large the stream table is, and its format."""

    LOG2SIZE = Bits(5, 0)
    SPLIT = Bits(10, 6)
    FMT = Field(17, 16, of=StreamTableFormat)
