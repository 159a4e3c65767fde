"""Event records, as the SMMU writes them into the event queue (IHI 0070, 7.3)."""

from __future__ import annotations

from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from viommu.layout import Bit, Bits, Descriptor, Field, Ignored

if TYPE_CHECKING:
    from collections.abc import Mapping


class EventId(IntEnum):
    """What happened. Names are the specification's."""

    F_UUT = 0x01
    C_BAD_STREAMID = 0x02
    F_STE_FETCH = 0x03
    C_BAD_STE = 0x04
    F_BAD_ATS_TREQ = 0x05
    F_STREAM_DISABLED = 0x06
    F_TRANSL_FORBIDDEN = 0x07
    C_BAD_SUBSTREAMID = 0x08
    F_CD_FETCH = 0x09
    C_BAD_CD = 0x0A
    F_WALK_EABT = 0x0B
    F_TRANSLATION = 0x10
    F_ADDR_SIZE = 0x11
    F_ACCESS = 0x12
    F_PERMISSION = 0x13
    F_TLB_CONFLICT = 0x20
    F_CFG_CONFLICT = 0x21
    E_PAGE_REQUEST = 0x24
    F_VMS_FETCH = 0x25


class OperationClass(IntEnum):
    """CLASS: the operation that met the fault. 3 is reserved."""

    CD = 0
    TT = 1
    IN = 2


class EventRecord(Descriptor, width=256):
    """What every record has; alone it is F_STREAM_DISABLED."""

    ID = Field(7, 0, of=EventId)
    SID = Bits(63, 32)


class BadSubstreamRecord(EventRecord):
    """C_BAD_SUBSTREAMID: SSID is always valid, so there is no SSV."""

    SSID = Bits(31, 12)


class StreamRecord(EventRecord):
    """C_BAD_STREAMID, C_BAD_STE, C_BAD_CD."""

    SSV = Bit(11)
    SSID = Bits(31, 12)


class ConflictRecord(StreamRecord):
    """F_CFG_CONFLICT."""

    Reason = Bits(79, 64)


class FetchRecord(StreamRecord):
    """F_STE_FETCH, F_CD_FETCH, F_VMS_FETCH: a structure could not be read."""

    Reason = Bits(79, 64)
    FetchAddr = Bits(243, 195, shift=3)


class TransactionRecord(StreamRecord):
    """What a record has that tells of the access: its kind and its address."""

    PnU = Bit(97)
    InD = Bit(98)
    RnW = Bit(99)
    InputAddr = Bits(191, 128)


class UnsupportedRecord(TransactionRecord):
    """F_UUT."""

    Reason = Bits(79, 64)


class ForbiddenRecord(StreamRecord):
    """F_TRANSL_FORBIDDEN: an access with an address that ATS gave, where none may be."""

    RnW = Bit(99)
    InputAddr = Bits(191, 128)


class BadRequestRecord(StreamRecord):
    """F_BAD_ATS_TREQ: an ATS translation request where none may be."""

    InputAddr = Bits(191, 140, shift=12)


class PageRequestHintRecord(StreamRecord):
    """E_PAGE_REQUEST; what it says of the page is not named."""

    Payload1 = Ignored(127, 64)
    Payload2 = Ignored(191, 128)
    Payload3 = Ignored(255, 192)


class WalkRecord(TransactionRecord):
    """What a record has that tells of a stage: which, and for whose sake."""

    NSIPA = Bit(102)
    S2 = Bit(103)
    CLASS = Field(105, 104, of=OperationClass)


class WalkAbortRecord(WalkRecord):
    """F_WALK_EABT: a page-table entry could not be read or updated."""

    Reason = Bits(79, 64)
    FetchAddr = Bits(243, 195, shift=3)


class TlbConflictRecord(WalkRecord):
    """F_TLB_CONFLICT."""

    Reason = Bits(79, 64)
    IPA = Bits(243, 204, shift=12)


class TranslationRecord(WalkRecord):
    """F_TRANSLATION, F_ADDR_SIZE, F_ACCESS, F_PERMISSION. TTRnW is of F_PERMISSION with CLASS TT alone."""

    STAG = Bits(79, 64)
    STALL = Bit(95)
    TTRnW = Bit(108)
    IPA = Bits(243, 204, shift=12)


RECORDS: Mapping[EventId, type[EventRecord]] = MappingProxyType(
    {
        EventId.F_UUT: UnsupportedRecord,
        EventId.C_BAD_STREAMID: StreamRecord,
        EventId.F_STE_FETCH: FetchRecord,
        EventId.C_BAD_STE: StreamRecord,
        EventId.F_BAD_ATS_TREQ: BadRequestRecord,
        EventId.F_STREAM_DISABLED: EventRecord,
        EventId.F_TRANSL_FORBIDDEN: ForbiddenRecord,
        EventId.C_BAD_SUBSTREAMID: BadSubstreamRecord,
        EventId.F_CD_FETCH: FetchRecord,
        EventId.C_BAD_CD: StreamRecord,
        EventId.F_WALK_EABT: WalkAbortRecord,
        EventId.F_TRANSLATION: TranslationRecord,
        EventId.F_ADDR_SIZE: TranslationRecord,
        EventId.F_ACCESS: TranslationRecord,
        EventId.F_PERMISSION: TranslationRecord,
        EventId.F_TLB_CONFLICT: TlbConflictRecord,
        EventId.F_CFG_CONFLICT: ConflictRecord,
        EventId.E_PAGE_REQUEST: PageRequestHintRecord,
        EventId.F_VMS_FETCH: FetchRecord,
    }
)
"""The layout of each event's record."""
