"""Registers of invalidation and page requests, and of the interrupts that tell of events (VT-d 11.4.6 to 11.4.12)."""

from __future__ import annotations

from enum import IntEnum

from viommu.layout import Bit, Bits, Descriptor, Field


class QueueError(IntEnum):
    """IQERCD.IQEI: why the invalidation queue stopped with FSTS.IQE."""

    TAIL = 1
    """IQT lies outside the queue, or has reserved bits set."""
    FETCH = 2
    """The descriptor could not be read."""
    TYPE = 3
    """No descriptor type, or none that this mode and these capabilities have."""
    RESERVED = 4
    """A reserved field is set, or a granularity or address mask that does not exist."""
    WIDTH = 5
    """IQA.DW does not suit the translation table mode."""
    TAIL_ALIGNMENT = 6
    """IQT is no multiple of the descriptor width."""
    TABLE_MODE = 7
    """The translation table mode is reserved or not supported."""


class ContextGranularity(IntEnum):
    """CCMD.CIRG and CAIG. 0 as CAIG: hardware refused the request."""

    REFUSED = 0
    GLOBAL = 1
    DOMAIN = 2
    DEVICE = 3


class IotlbGranularity(IntEnum):
    """IOTLB.IIRG and IAIG. 0 as IAIG: hardware refused the request."""

    REFUSED = 0
    GLOBAL = 1
    DOMAIN = 2
    PAGE = 3


class CCMD(Descriptor, width=64):
    """Context Command Register (0x28): context-cache invalidation without a queue; ICC starts it and clears after."""

    DID = Bits(15, 0)
    SID = Bits(31, 16)
    FM = Bits(33, 32)
    CAIG = Field(60, 59, of=ContextGranularity)
    CIRG = Field(62, 61, of=ContextGranularity)
    ICC = Bit(63)


class IVA(Descriptor, width=64):
    """Invalidate Address Register (at ECAP.IRO): 2^AM pages from ADDR. IH: only leaves have changed."""

    AM = Bits(5, 0)
    IH = Bit(6)
    ADDR = Bits(63, 12, shift=12)


class IOTLB(Descriptor, width=64):
    """IOTLB Invalidate Register (8 bytes after IVA): IVT starts an invalidation and clears after."""

    DID = Bits(47, 32)
    DW = Bit(48)
    DR = Bit(49)
    IAIG = Field(58, 57, of=IotlbGranularity)
    IIRG = Field(61, 60, of=IotlbGranularity)
    IVT = Bit(63)


class IQH(Descriptor, width=64):
    """Invalidation Queue Head Register (0x80): the offset of the next descriptor that hardware fetches."""

    QH = Bits(18, 4, shift=4)


class IQT(Descriptor, width=64):
    """Invalidation Queue Tail Register (0x88): the offset where software will write next."""

    QT = Bits(18, 4, shift=4)


class IQA(Descriptor, width=64):
    """Invalidation Queue Address Register (0x90): 2^QS pages. DW: descriptors have 256 bits."""

    QS = Bits(2, 0)
    DW = Bit(11)
    Address = Bits(63, 12, shift=12)


class ICS(Descriptor, width=32):
    """Invalidation Completion Status Register (0x9c). IWC: a wait descriptor with IF has completed."""

    IWC = Bit(0)


class IQERCD(Descriptor, width=64):
    """Invalidation Queue Error Record Register (0xb0). A field counts while IQE, ITE or ICE is set in FSTS."""

    IQEI = Field(3, 0, of=QueueError)
    ITESID = Bits(47, 32)
    ICESID = Bits(63, 48)


class PQH(Descriptor, width=64):
    """Page Request Queue Head Register (0xc0): the offset that software reads next."""

    PQH = Bits(18, 5, shift=5)


class PQT(Descriptor, width=64):
    """Page Request Queue Tail Register (0xc8): the offset where hardware writes next."""

    PQT = Bits(18, 5, shift=5)


class PQA(Descriptor, width=64):
    """Page Request Queue Address Register (0xd0): 2^PQS pages."""

    PQS = Bits(2, 0)
    Address = Bits(63, 12, shift=12)


class PRS(Descriptor, width=32):
    """Page Request Status Register (0xdc). PPR: requests are pending; PRO: the queue overflowed."""

    PPR = Bit(0)
    PRO = Bit(1)


class EventControl(Descriptor, width=32):
    """FECTL, IECTL and PECTL (0x38, 0xa0, 0xe0). IM holds messages back; IP: one is held back."""

    IP = Bit(30)
    IM = Bit(31)


class EventData(Descriptor, width=32):
    """FEDATA, IEDATA and PEDATA: the data of the interrupt message."""

    Data = Bits(31, 0)


class EventAddress(Descriptor, width=32):
    """FEADDR, IEADDR and PEADDR: the low half of the message's address."""

    Address = Bits(31, 2, shift=2)


class EventUpperAddress(Descriptor, width=32):
    """FEUADDR, IEUADDR and PEUADDR: the high half of the message's address."""

    Address = Bits(31, 0)
