"""Records of the fault queue and of the page-request queue (RISC-V IOMMU 1.0, "In-memory queue interface")."""

from __future__ import annotations

from enum import IntEnum

from viommu.layout import Bit, Bits, Descriptor, Field


class Cause(IntEnum):
    """What a fault record tells."""

    INSTRUCTION_ACCESS = 1
    READ_MISALIGNED = 4
    READ_ACCESS = 5
    WRITE_MISALIGNED = 6
    WRITE_ACCESS = 7
    INSTRUCTION_PAGE = 12
    READ_PAGE = 13
    WRITE_PAGE = 15
    INSTRUCTION_GUEST_PAGE = 20
    READ_GUEST_PAGE = 21
    WRITE_GUEST_PAGE = 23
    ALL_DISALLOWED = 256
    DDT_ACCESS = 257
    DDT_NOT_VALID = 258
    DDT_MISCONFIGURED = 259
    TYPE_DISALLOWED = 260
    MSI_ACCESS = 261
    MSI_NOT_VALID = 262
    MSI_MISCONFIGURED = 263
    MRIF_ACCESS = 264
    PDT_ACCESS = 265
    PDT_NOT_VALID = 266
    PDT_MISCONFIGURED = 267
    DDT_CORRUPT = 268
    PDT_CORRUPT = 269
    MSI_CORRUPT = 270
    MRIF_CORRUPT = 271
    INTERNAL = 272
    MSI_WRITE_ACCESS = 273
    PT_CORRUPT = 274


TOLD_IN_SPITE_OF_DTF = frozenset(
    {
        Cause.ALL_DISALLOWED,
        Cause.DDT_ACCESS,
        Cause.DDT_NOT_VALID,
        Cause.DDT_MISCONFIGURED,
        Cause.DDT_CORRUPT,
        Cause.INTERNAL,
        Cause.MSI_WRITE_ACCESS,
    }
)
"""Causes that are reported though tc.DTF is 1."""


class TransactionType(IntEnum):
    """TTYP: what sort of transaction it was."""

    NONE = 0
    UNTRANSLATED_EXECUTE = 1
    UNTRANSLATED_READ = 2
    UNTRANSLATED_WRITE = 3
    TRANSLATED_EXECUTE = 5
    TRANSLATED_READ = 6
    TRANSLATED_WRITE = 7
    TRANSLATION_REQUEST = 8
    MESSAGE = 9


class FaultRecord(Descriptor, width=256):
    """One entry of the fault queue."""

    CAUSE = Field(11, 0, of=Cause)
    PID = Bits(31, 12)
    PV = Bit(32)
    PRIV = Bit(33)
    TTYP = Field(39, 34, of=TransactionType)
    DID = Bits(63, 40)
    custom = Bits(95, 64)
    iotval = Bits(191, 128)
    iotval2 = Bits(255, 192)


PAGE_REQUEST_MESSAGE = 4
"""PCIe's message code of a Page Request: iotval where such a message is disallowed."""

IMPLICIT, IMPLICIT_WRITE = 1, 2
"""Bits of iotval2 of a guest-page fault: an implicit access ran into it; that was a write."""


class PageRequestRecord(Descriptor, width=128):
    """One entry of the page-request queue."""

    PID = Bits(31, 12)
    PV = Bit(32)
    PRIV = Bit(33)
    EXEC = Bit(34)
    DID = Bits(63, 40)
    R = Bit(64)
    W = Bit(65)
    L = Bit(66)
    PRGI = Bits(75, 67)
    address = Bits(127, 76, shift=12)
