"""Device and process directories: entries and contexts (RISC-V IOMMU 1.0, "Data Structures")."""

from __future__ import annotations

from enum import IntEnum

from viommu.layout import Bit, Bits, Descriptor, Field


class StageMode(IntEnum):
    """iosatp.MODE and iohgatp.MODE: how a stage translates. With SXL or GXL 1, 8 is Sv32."""

    Bare = 0
    Sv39 = 8
    Sv48 = 9
    Sv57 = 10


class PdtpMode(IntEnum):
    """How wide process ids are."""

    Bare = 0
    PD8 = 1
    PD17 = 2
    PD20 = 3


class MsiptpMode(IntEnum):
    """Whether accesses to interrupt files are recognised."""

    Off = 0
    Flat = 1


class DirectoryEntry(Descriptor, width=64):
    """A non-leaf entry of the device or process directory."""

    V = Bit(0)
    PPN = Bits(53, 10, shift=12)


class TranslationControl(Descriptor, width=64):
    """tc: what a device may do, and how it is translated."""

    V = Bit(0)
    EN_ATS = Bit(1)
    EN_PRI = Bit(2)
    T2GPA = Bit(3)
    DTF = Bit(4)
    PDTV = Bit(5)
    PRPR = Bit(6)
    GADE = Bit(7)
    SADE = Bit(8)
    DPE = Bit(9)
    SBE = Bit(10)
    SXL = Bit(11)
    custom = Bits(31, 24)


class Iohgatp(Descriptor, width=64):
    """Where the second stage begins."""

    PPN = Bits(43, 0, shift=12)
    GSCID = Bits(59, 44)
    MODE = Field(63, 60, of=StageMode)


class DeviceAttributes(Descriptor, width=64):
    """ta of a device context; RCID and MCID are reserved without capabilities.QOSID."""

    PSCID = Bits(31, 12)
    RCID = Bits(51, 40)
    MCID = Bits(63, 52)


class FirstStageContext(Descriptor, width=64):
    """fsc: where the first stage begins (iosatp)."""

    PPN = Bits(43, 0, shift=12)
    MODE = Field(63, 60, of=StageMode)


class ProcessDirectory(Descriptor, width=64):
    """fsc with tc.PDTV: where the process directory begins (pdtp)."""

    PPN = Bits(43, 0, shift=12)
    MODE = Field(63, 60, of=PdtpMode)


class Msiptp(Descriptor, width=64):
    """Where the MSI page table begins."""

    PPN = Bits(43, 0, shift=12)
    MODE = Field(63, 60, of=MsiptpMode)


class MsiPages(Descriptor, width=64):
    """msi_addr_mask or msi_addr_pattern: bits of a guest page number."""

    pages = Bits(51, 0)


class ProcessAttributes(Descriptor, width=64):
    """ta of a process context."""

    V = Bit(0)
    ENS = Bit(1)
    SUM = Bit(2)
    PSCID = Bits(31, 12)


class DeviceContext(Descriptor, width=256):
    """The base format: tc, iohgatp, ta, fsc. Its fields are those of these four words."""

    V = Bit(0)
    EN_ATS = Bit(1)
    EN_PRI = Bit(2)
    T2GPA = Bit(3)
    DTF = Bit(4)
    PDTV = Bit(5)
    PRPR = Bit(6)
    GADE = Bit(7)
    SADE = Bit(8)
    DPE = Bit(9)
    SBE = Bit(10)
    SXL = Bit(11)
    custom = Bits(31, 24)
    iohgatp_PPN = Bits(107, 64, shift=12)
    GSCID = Bits(123, 108)
    iohgatp_MODE = Field(127, 124, of=StageMode)
    PSCID = Bits(159, 140)
    RCID = Bits(179, 168)
    MCID = Bits(191, 180)
    fsc_PPN = Bits(235, 192, shift=12)
    fsc_MODE = Bits(255, 252)


class ExtendedDeviceContext(DeviceContext, width=512):
    """The extended format, of an IOMMU with capabilities.MSI_FLAT: four words more."""

    msiptp_PPN = Bits(299, 256, shift=12)
    msiptp_MODE = Field(319, 316, of=MsiptpMode)
    msi_addr_mask = Bits(371, 320)
    msi_addr_pattern = Bits(435, 384)


class ProcessContext(Descriptor, width=128):
    """The context of one process id: ta, fsc."""

    V = Bit(0)
    ENS = Bit(1)
    SUM = Bit(2)
    PSCID = Bits(31, 12)
    fsc_PPN = Bits(107, 64, shift=12)
    fsc_MODE = Field(127, 124, of=StageMode)
