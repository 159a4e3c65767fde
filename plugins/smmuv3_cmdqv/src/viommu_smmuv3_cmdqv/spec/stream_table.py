"""The stream table: what the SMMU does with one StreamID (IHI 0070, 5.1 and 5.2)."""

from __future__ import annotations

from enum import IntEnum

from viommu.layout import Bit, Bits, Descriptor, Field, Ignored
from viommu_smmuv3_cmdqv.spec.sizes import AddressSize, FetchCacheability, Granule, Shareability, WalkCacheability


class StreamConfig(IntEnum):
    """STE.Config. Bit 0 is stage 1, bit 1 stage 2, bit 2 lets traffic pass; 1 to 3 act as ABORT."""

    ABORT = 0
    BYPASS = 4
    STAGE1 = 5
    STAGE2 = 6
    NESTED = 7


class ContextTableFormat(IntEnum):
    """STE.S1Fmt; 3 acts as LINEAR."""

    LINEAR = 0
    TWO_LEVEL_4K = 1
    TWO_LEVEL_64K = 2


class DefaultSubstream(IntEnum):
    """STE.S1DSS: a transaction without SubstreamID on a stream that has substreams. 3 acts as TERMINATE."""

    TERMINATE = 0
    BYPASS_STAGE1 = 1
    SUBSTREAM_0 = 2


class AtsMode(IntEnum):
    """STE.EATS."""

    DISABLED = 0
    FULL = 1
    SPLIT_STAGE = 2
    DPT = 3


class World(IntEnum):
    """STE.STRW of a Non-secure stream; 1 and 3 are reserved."""

    EL1 = 0
    EL2 = 2


class ShareabilityOverride(IntEnum):
    """STE.SHCFG."""

    NON = 0
    INCOMING = 1
    OUTER = 2
    INNER = 3


class PrivilegeOverride(IntEnum):
    """STE.PRIVCFG; 1 acts as INCOMING."""

    INCOMING = 0
    UNPRIVILEGED = 2
    PRIVILEGED = 3


class InstructionOverride(IntEnum):
    """STE.INSTCFG, which is for reads alone; 1 acts as INCOMING."""

    INCOMING = 0
    DATA = 2
    INSTRUCTION = 3


class L1STD(Descriptor, width=64):
    """Level 1 stream table descriptor. SPAN 0 (and what is not 1 to 11) is invalid."""

    SPAN = Bits(4, 0)
    L2PTR = Bits(51, 6, shift=6)


class STE(Descriptor, width=512):
    """Stream table entry. Fields of the Secure and Realm states and of MPAM are left as reserved bits."""

    V = Bit(0)
    Config = Field(3, 1, of=StreamConfig)
    S1Fmt = Field(5, 4, of=ContextTableFormat)
    S1ContextPtr = Bits(51, 6, shift=6)
    S1CDMax = Bits(63, 59)

    S1DSS = Field(65, 64, of=DefaultSubstream)
    S1CIR = Field(67, 66, of=FetchCacheability)
    S1COR = Field(69, 68, of=FetchCacheability)
    S1CSH = Field(71, 70, of=Shareability)
    S2HWU59 = Bit(72)
    S2HWU60 = Bit(73)
    S2HWU61 = Bit(74)
    S2HWU62 = Bit(75)
    DRE = Bit(76)
    CONT = Bits(80, 77)
    DCP = Bit(81)
    PPAR = Bit(82)
    MEV = Bit(83)
    SW_RESERVED = Ignored(87, 84)
    S2FWB = Bit(89)
    S1MPAM = Bit(90)
    S1STALLD = Bit(91)
    EATS = Field(93, 92, of=AtsMode)
    STRW = Field(95, 94, of=World)
    MemAttr = Bits(99, 96)
    MTCFG = Bit(100)
    ALLOCCFG = Bits(104, 101)
    SHCFG = Field(109, 108, of=ShareabilityOverride)
    NSCFG = Bits(111, 110)
    PRIVCFG = Field(113, 112, of=PrivilegeOverride)
    INSTCFG = Field(115, 114, of=InstructionOverride)
    IMPDEF_1 = Ignored(127, 116)

    S2VMID = Bits(143, 128)
    IMPDEF_2 = Ignored(159, 144)
    S2T0SZ = Bits(165, 160)
    S2SL0 = Bits(167, 166)
    S2IR0 = Field(169, 168, of=WalkCacheability)
    S2OR0 = Field(171, 170, of=WalkCacheability)
    S2SH0 = Field(173, 172, of=Shareability)
    S2TG = Field(175, 174, of=Granule)
    S2PS = Field(178, 176, of=AddressSize)
    S2AA64 = Bit(179)
    S2ENDI = Bit(180)
    S2AFFD = Bit(181)
    S2PTW = Bit(182)
    S2HD = Bit(183)
    S2HA = Bit(184)
    S2S = Bit(185)
    S2R = Bit(186)
    S2HAFT = Bit(187)

    S2SL0_2 = Bit(194)
    S2DS = Bit(195)
    S2TTB = Bits(243, 196, shift=4)

    IMPDEF_4 = Ignored(271, 256)
