"""Invalidation descriptors (VT-d 6.5.2): what software puts into the invalidation queue.

Each has 128 bits; in a queue of 256-bit descriptors (IQA.DW) the upper half is reserved (`WIDE`). Bits 11:9 are the
upper bits of the type, zero in every known one.
"""

from __future__ import annotations

from enum import IntEnum
from types import new_class

from viommu.layout import Bit, Bits, Descriptor, Field, Split

TYPE_BITS = ((3, 0), (11, 9))
"""Where the type lies, its low part first."""


class InvalidationType(IntEnum):
    """What a descriptor asks for."""

    CONTEXT_CACHE = 1
    IOTLB = 2
    DEVICE_TLB = 3
    INTERRUPT_ENTRY_CACHE = 4
    WAIT = 5
    PASID_IOTLB = 6
    PASID_CACHE = 7
    PASID_DEVICE_TLB = 8
    PAGE_GROUP_RESPONSE = 9


class ContextCacheGranularity(IntEnum):
    """What context entries are dropped: all, those of a domain, those of a device (and its FM-masked neighbours)."""

    GLOBAL = 1
    DOMAIN = 2
    DEVICE = 3


class IotlbGranularity(IntEnum):
    """What is dropped of the IOTLB: all, a domain, pages of a domain."""

    GLOBAL = 1
    DOMAIN = 2
    PAGE = 3


class InterruptGranularity(IntEnum):
    """What is dropped of the interrupt entry cache: all, or 2^IM entries from IIDX."""

    GLOBAL = 0
    INDEX = 1


class PasidIotlbGranularity(IntEnum):
    """What is dropped of the IOTLB: a PASID of a domain, or pages of it."""

    PASID = 2
    PAGE = 3


class PasidCacheGranularity(IntEnum):
    """What PASID table entries are dropped: those of a domain, those of a PASID in a domain, all."""

    DOMAIN = 0
    PASID = 1
    GLOBAL = 3


class ResponseCode(IntEnum):
    """How software answered a page group. Linux writes its own 2 for a failure."""

    SUCCESS = 0
    INVALID = 1
    FAILURE_OF_LINUX = 2
    FAILURE = 15


class Invalidation(Descriptor, width=128):
    """What all descriptors have in common."""

    Type = Field(3, 0, of=InvalidationType)


class ContextCacheInvalidate(Invalidation):
    """Type 1: drop context entries (6.5.2.1). FM: bits of the function number to ignore, from bit 2 down."""

    G = Field(5, 4, of=ContextCacheGranularity)
    DID = Bits(31, 16)
    SID = Bits(47, 32)
    FM = Bits(49, 48)


class IotlbInvalidate(Invalidation):
    """Type 2: drop translations of a domain (6.5.2.3): 2^AM pages from ADDR; IH: only leaves have changed."""

    G = Field(5, 4, of=IotlbGranularity)
    DW = Bit(6)
    DR = Bit(7)
    DID = Bits(31, 16)
    AM = Bits(69, 64)
    IH = Bit(70)
    ADDR = Bits(127, 76, shift=12)


class DeviceTlbInvalidate(Invalidation):
    """Type 3: tell a device to drop translations without PASID (6.5.2.5).

    With S the lowest zero bit of ADDR, from bit 12 on, tells the size: bit n is 2^(n + 1) bytes.
    """

    PFSID = Split((15, 12), (63, 52))
    MIP = Bits(20, 16)
    SID = Bits(47, 32)
    S = Bit(64)
    ADDR = Bits(127, 76, shift=12)


class InterruptEntryCacheInvalidate(Invalidation):
    """Type 4: drop interrupt remapping entries (6.5.2.7)."""

    G = Field(4, 4, of=InterruptGranularity)
    IM = Bits(31, 27)
    IIDX = Bits(47, 32)


class InvalidationWait(Invalidation):
    """Type 5: tell when all before is done (6.5.2.8).

    SW: store STDATA at STADDR; IF: set ICS.IWC; FN: nothing after it starts before; PD: page requests have reached
    their queue.
    """

    IF = Bit(4)
    SW = Bit(5)
    FN = Bit(6)
    PD = Bit(7)
    STDATA = Bits(63, 32)
    STADDR = Bits(127, 66, shift=2)


class PasidIotlbInvalidate(Invalidation):
    """Type 6: drop first-stage and nested translations of a PASID of a domain (6.5.2.4)."""

    G = Field(5, 4, of=PasidIotlbGranularity)
    DID = Bits(31, 16)
    PASID = Bits(51, 32)
    AM = Bits(69, 64)
    IH = Bit(70)
    ADDR = Bits(127, 76, shift=12)


class PasidCacheInvalidate(Invalidation):
    """Type 7: drop PASID table entries (6.5.2.2)."""

    G = Field(5, 4, of=PasidCacheGranularity)
    DID = Bits(31, 16)
    PASID = Bits(51, 32)


class PasidDeviceTlbInvalidate(Invalidation):
    """Type 8: tell a device to drop translations of a PASID (6.5.2.6); G: whatever their PASID."""

    MIP = Bits(8, 4)
    PFSID = Split((15, 12), (63, 52))
    SID = Bits(31, 16)
    PASID = Bits(51, 32)
    G = Bit(64)
    S = Bit(75)
    ADDR = Bits(127, 76, shift=12)


class PageGroupResponse(Invalidation):
    """Type 9: answer a group of page requests (7.7.1)."""

    PASID_P = Bit(4)
    RESP = Field(15, 12, of=ResponseCode)
    RID = Bits(31, 16)
    PASID = Bits(51, 32)
    PRGI = Bits(75, 67)


COMMANDS: dict[InvalidationType, type[Invalidation]] = {
    InvalidationType.CONTEXT_CACHE: ContextCacheInvalidate,
    InvalidationType.IOTLB: IotlbInvalidate,
    InvalidationType.DEVICE_TLB: DeviceTlbInvalidate,
    InvalidationType.INTERRUPT_ENTRY_CACHE: InterruptEntryCacheInvalidate,
    InvalidationType.WAIT: InvalidationWait,
    InvalidationType.PASID_IOTLB: PasidIotlbInvalidate,
    InvalidationType.PASID_CACHE: PasidCacheInvalidate,
    InvalidationType.PASID_DEVICE_TLB: PasidDeviceTlbInvalidate,
    InvalidationType.PAGE_GROUP_RESPONSE: PageGroupResponse,
}


def _wide(layout: type[Invalidation]) -> type[Invalidation]:
    """The same descriptor in a queue of 256-bit ones: the upper half is reserved."""
    made: type[Invalidation] = new_class(
        f"{layout.__name__}256", (layout,), {"width": 256}, lambda body: body.update(__doc__=layout.__doc__)
    )
    return made


WIDE: dict[InvalidationType, type[Invalidation]] = {kind: _wide(layout) for kind, layout in COMMANDS.items()}
"""The layouts of 256 bits."""
