"""Fault recording registers and fault reasons and fault status (VT-d 7.1 to 7.3, 11.4.7)."""

from __future__ import annotations

from enum import IntEnum

from viommu.layout import Bit, Bits, Descriptor, Field


class FaultReason(IntEnum):
    """FRCD.FR: why a request was refused.

    Legacy mode has the codes below 0x20, interrupt remapping 0x20 to 0x2f, scalable mode those above.
    """

    ROOT_NOT_PRESENT = 0x01
    CONTEXT_NOT_PRESENT = 0x02
    CONTEXT_INVALID = 0x03
    """AW or TT that hardware lacks, or a top-level page table that cannot be read."""
    ADDRESS_BEYOND_MGAW = 0x04
    WRITE_DENIED = 0x05
    READ_DENIED = 0x06
    NEXT_TABLE_ACCESS = 0x07
    ROOT_ACCESS = 0x08
    CONTEXT_ACCESS = 0x09
    ROOT_RESERVED = 0x0A
    CONTEXT_RESERVED = 0x0B
    PAGE_ENTRY_RESERVED = 0x0C
    TRANSLATION_REQUEST_BLOCKED = 0x0D
    INTERRUPT_RANGE = 0x0E

    IR_REQUEST_RESERVED = 0x20
    IR_INDEX_BEYOND_TABLE = 0x21
    IR_ENTRY_NOT_PRESENT = 0x22
    IR_TABLE_ACCESS = 0x23
    IR_ENTRY_RESERVED = 0x24
    IR_COMPATIBILITY_BLOCKED = 0x25
    IR_SOURCE_INVALID = 0x26
    IR_POSTED_DESCRIPTOR_ACCESS = 0x27
    IR_POSTED_DESCRIPTOR_RESERVED = 0x28
    IR_UNTRANSLATED_WITH_PASID = 0x29

    TABLE_MODE_INVALID = 0x30
    PASID_IN_LEGACY_MODE = 0x31
    PAGE_GROUP_IN_LEGACY_MODE = 0x32
    ABORT_DMA_MODE = 0x33
    SM_ROOT_ACCESS = 0x38
    SM_ROOT_NOT_PRESENT = 0x39
    SM_ROOT_RESERVED = 0x3A
    SM_CONTEXT_ACCESS = 0x40
    SM_CONTEXT_NOT_PRESENT = 0x41
    SM_CONTEXT_RESERVED = 0x42
    SM_CONTEXT_INVALID = 0x43
    DEVICE_TLB_DISABLED = 0x44
    PASID_DISABLED = 0x45
    PASID_TOO_LARGE = 0x46
    PAGE_REQUEST_DISABLED = 0x47
    RID_PASID_INVALID = 0x48
    PASID_DIRECTORY_ACCESS = 0x50
    PASID_DIRECTORY_NOT_PRESENT = 0x51
    PASID_DIRECTORY_RESERVED = 0x52
    PASID_TABLE_ACCESS = 0x58
    PASID_ENTRY_NOT_PRESENT = 0x59
    PASID_ENTRY_RESERVED = 0x5A
    PASID_ENTRY_INVALID = 0x5B
    EXECUTE_DISABLED = 0x5C
    SUPERVISOR_DISABLED = 0x5D

    FS_ENTRY_ACCESS = 0x70
    FS_NOT_PRESENT = 0x71
    FS_RESERVED = 0x72
    FS_TOP_ENTRY_ACCESS = 0x73
    FS_TABLE_BEYOND_SS = 0x74
    FS_TOP_READ_DENIED_BY_SS = 0x75
    FS_READ_DENIED_BY_SS = 0x76
    FS_UPDATE_DENIED_BY_SS = 0x77
    SS_ENTRY_ACCESS = 0x78
    SS_NOT_PRESENT = 0x79
    SS_RESERVED = 0x7A
    SS_TOP_ENTRY_ACCESS = 0x7B
    SS_UPDATE_NOT_SNOOPED = 0x7C
    SS_UPDATE_FAILED = 0x7D
    FS_NOT_CANONICAL = 0x80
    FS_USER_DENIED = 0x81
    FS_EXECUTE_DENIED = 0x82
    ADDRESS_BEYOND_HOST = 0x83
    ADDRESS_BEYOND_SS = 0x84
    SM_WRITE_DENIED = 0x85
    SM_READ_DENIED = 0x86
    SM_INTERRUPT_RANGE = 0x87
    GENERAL_9 = 0x88
    """88 and 89 exist; no source says what for."""
    GENERAL_10 = 0x89
    FS_UPDATE_NOT_SNOOPED = 0x90
    FS_UPDATE_FAILED = 0x91


UNQUALIFIED = frozenset(
    {
        FaultReason.ROOT_NOT_PRESENT,
        FaultReason.ROOT_ACCESS,
        FaultReason.ROOT_RESERVED,
        FaultReason.CONTEXT_ACCESS,
        FaultReason.SM_ROOT_ACCESS,
        FaultReason.SM_ROOT_NOT_PRESENT,
        FaultReason.SM_ROOT_RESERVED,
        FaultReason.SM_CONTEXT_ACCESS,
        FaultReason.PASID_DIRECTORY_ACCESS,
        FaultReason.PASID_TABLE_ACCESS,
    }
)
"""Faults that FPD does not silence: the structure that would say so could not be trusted."""


class AddressType(IntEnum):
    """FRCD.AT: what kind of request faulted."""

    UNTRANSLATED = 0
    TRANSLATION_REQUEST = 1
    TRANSLATED = 2


class FRCD(Descriptor, width=128):
    """Fault Recording Register. T is set for a read, T and T2 for an atomic operation."""

    FI = Bits(63, 12, shift=12)
    SID = Bits(79, 64)
    T2 = Bit(92)
    PRIV = Bit(93)
    EXE = Bit(94)
    PP = Bit(95)
    FR = Field(103, 96, of=FaultReason)
    PASID = Bits(123, 104)
    AT = Field(125, 124, of=AddressType)
    T = Bit(126)
    F = Bit(127)


class FRCD_LO(Descriptor, width=64):
    """Low half of a Fault Recording Register."""

    FI = Bits(63, 12, shift=12)


class FRCD_HI(Descriptor, width=64):
    """High half of a Fault Recording Register; writing F as 1 clears it."""

    SID = Bits(15, 0)
    T2 = Bit(28)
    PRIV = Bit(29)
    EXE = Bit(30)
    PP = Bit(31)
    FR = Field(39, 32, of=FaultReason)
    PASID = Bits(59, 40)
    AT = Field(61, 60, of=AddressType)
    T = Bit(62)
    F = Bit(63)


class FSTS(Descriptor, width=32):
    """Fault Status Register (0x34). PPF is the OR of all FRCD.F; FRI is the first record since PPF was last set.

    PRO is of older revisions: page-request overflow is told by PRS.
    """

    PFO = Bit(0)
    PPF = Bit(1)
    AFO = Bit(2)
    APF = Bit(3)
    IQE = Bit(4)
    ICE = Bit(5)
    ITE = Bit(6)
    PRO = Bit(7)
    FRI = Bits(15, 8)
