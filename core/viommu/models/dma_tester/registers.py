"""The registers of `dma-tester`, as docs/devices/dma-tester.md prints them."""

from __future__ import annotations

from enum import IntEnum

from viommu.layout import Bit, Bits, Descriptor, Field
from viommu.registers import Register

MAGIC = 0x54414D44
"""``DMAT`` in ASCII."""
VERSION = 1
BAR_SIZE = 0x10000
MSIX_TABLE = 0x8000
RINGS_AT, RING_BYTES = 0x1000, 0x40
"""Where the registers of ring 0 begin, and how far those of the next ring are."""
MOST_RINGS = 8
MOST_SIZE_LG2 = 16


class RingError(IntEnum):
    """Why a ring stopped."""

    NONE = 0
    """It has not."""
    FETCH = 1
    """A descriptor could not be read; `ERROR_ADDRESS` says where."""
    COMPLETION = 2
    """A completion record could not be written; likewise."""
    TAIL = 3
    """TAIL was set further ahead of HEAD than the ring is long."""
    SIZE = 4
    """The ring was enabled with a SIZE that is too large."""


class Identity(Descriptor, width=32):
    """What every tester has here."""

    Magic = Bits(31, 0)


class Version(Descriptor, width=32):
    """Which edition of this page the device follows."""

    Number = Bits(31, 0)


class Abilities(Descriptor, width=64):
    """What this device can, as its options say. Its IOMMU may be able to do less."""

    ATS = Bit(0)
    PageRequests = Bit(1)
    Privileged = Bit(2)
    Execute = Bit(3)
    Stalls = Bit(4)
    PasidBits = Bits(12, 8)
    Rings = Bits(19, 16)
    SizeLg2 = Bits(28, 24)
    InFlight = Bits(47, 32)


class Control(Descriptor, width=32):
    """The device's own TLB. DropTlb empties it, and reads as zero; Deaf lets invalidations go unanswered."""

    DropTlb = Bit(0)
    Deaf = Bit(1)


class Number(Descriptor, width=32):
    """A number."""

    Value = Bits(31, 0)


class LongNumber(Descriptor, width=64):
    """A number."""

    Value = Bits(63, 0)


class TlbEntries(Number):
    """How many translations the device's own TLB holds."""


class Invalidations(LongNumber):
    """How many invalidations have reached the device's own TLB, DropTlb among them."""


class PageRequests(LongNumber):
    """How many pages the device has asked for since it was reset."""


class PageResponses(LongNumber):
    """How many groups of page requests were answered."""


class RingBase(Descriptor, width=64):
    """The IOVA of the ring's descriptors."""

    Address = Bits(63, 6, shift=6)


class RingCompletions(Descriptor, width=64):
    """The IOVA of the ring's completion records, of which there are as many as descriptors."""

    Address = Bits(63, 5, shift=5)


class RingSize(Descriptor, width=32):
    """How many descriptors the ring has: 2 to this."""

    Lg2 = Bits(4, 0)


class RingPasid(Descriptor, width=32):
    """The PASID by which the ring itself is read and its completion records are written; none unless Valid."""

    Pasid = Bits(19, 0)
    Valid = Bit(31)


class RingControl(Descriptor, width=32):
    """Enabling clears HEAD, TAIL, DONE and the error; disabling forgets whatever is under way, without a record."""

    Enable = Bit(0)


class RingStatus(Descriptor, width=32):
    """A ring that has stopped for an error stays so until it is enabled anew."""

    Running = Bit(0)
    Error = Field(15, 8, of=RingError)


class RingTail(Number):
    """How many descriptors software has written since the ring was enabled: what it stores lets the device work."""


class RingHead(Number):
    """How many of them the device has begun; the next one is at HEAD modulo the ring's length."""


class RingDone(Number):
    """How many completion records it has written."""


class RingActive(Number):
    """How many descriptors are under way."""


class ErrorAddress(Descriptor, width=64):
    """The IOVA that stopped the ring."""

    Address = Bits(63, 0)


DEVICE = {
    "ID": Register(0x00, Identity, writable=0),
    "VERSION": Register(0x04, Version, writable=0),
    "ABILITIES": Register(0x08, Abilities, writable=0),
    "CONTROL": Register(0x10, Control),
    "TLB_ENTRIES": Register(0x14, TlbEntries, writable=0),
    "INVALIDATIONS": Register(0x18, Invalidations, writable=0),
    "PAGE_REQUESTS": Register(0x20, PageRequests, writable=0),
    "PAGE_RESPONSES": Register(0x28, PageResponses, writable=0),
}
"""Those of the device."""

RING = {
    "BASE": Register(0x00, RingBase),
    "COMPLETIONS": Register(0x08, RingCompletions),
    "SIZE": Register(0x10, RingSize),
    "PASID": Register(0x14, RingPasid),
    "CONTROL": Register(0x18, RingControl),
    "STATUS": Register(0x1C, RingStatus, writable=0),
    "TAIL": Register(0x20, RingTail),
    "HEAD": Register(0x24, RingHead, writable=0),
    "DONE": Register(0x28, RingDone, writable=0),
    "ACTIVE": Register(0x2C, RingActive, writable=0),
    "ERROR_ADDRESS": Register(0x30, ErrorAddress, writable=0),
}
"""Those of each ring, from its first one on."""
