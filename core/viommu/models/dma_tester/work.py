"""What software and `dma-tester` say to each other in memory: descriptors of work, and completion records."""

from __future__ import annotations

from enum import IntEnum

from viommu.layout import Bit, Bits, Descriptor, Field

DESCRIPTOR_BYTES, COMPLETION_BYTES = 64, 32
MOST_LENGTH = 1 << 40
"""Bytes that one descriptor moves."""
MOST_PAGES = 64
"""Pages that one REQUEST_PAGES asks for."""


class Operation(IntEnum):
    """What is to be done."""

    NOP = 0
    """Nothing: for measuring a ring."""
    READ = 1
    """Read Length bytes at Source. Result: their CRC-32, as Ethernet has it."""
    WRITE = 2
    """Write the first Length (at most 16) bytes of Operand and Operand2 to Target."""
    COPY = 3
    """Copy Length bytes from Source to Target; Operand times, where that is more than 1. Result: the bytes copied."""
    COMPARE = 4
    """Read both Source and Target. Result: where they first differ, Length where they do not."""
    FILL = 5
    """Write Length bytes to Target: the eight of Operand over and over."""
    FETCH_ADD = 6
    """Add Operand to the Length (4 or 8) bytes at Target, in one step (PCIe FetchAdd). Result: what was there."""
    SWAP = 7
    """Put Operand there instead (PCIe Swap). Result: likewise."""
    COMPARE_SWAP = 8
    """Put Operand2 there if Operand is there (PCIe CAS). Result: likewise."""
    TRANSLATE = 9
    """Send a translation request for Source (ATS), for writing too if Operand is 1. Result: the address; Address: the
    size of its page; Detail: rights, 1 to read, 2 to write, 4 to execute, 8 privileged."""
    REQUEST_PAGES = 10
    """Ask for the pages of Length bytes from Source on, in one group (PRI); Operand: rights as above. It is done when
    the group is answered."""


class Status(IntEnum):
    """How it ended."""

    DONE = 0
    """As it should."""
    FAULT = 1
    """The IOMMU refused an access."""
    NO_MEMORY = 2
    """An access was translated to where no memory answers, or to memory that is read-only."""
    NO_RIGHTS = 3
    """ATS: a translation request was answered without the rights that are needed."""
    UNSUPPORTED = 4
    """ATS: a translation request was answered with Unsupported Request."""
    ABORTED = 5
    """ATS: a translation request was answered with Completer Abort; or an access that waited was ended by software."""
    PAGE_REFUSED = 6
    """Page requests were answered otherwise than with success: Detail 1, invalid request; 2, response failure."""
    NOT_MASTER = 7
    """Bus mastering was switched off."""
    BAD_DESCRIPTOR = 8
    """Reserved bits are set, or a field's value is not one that it may have."""
    IMPOSSIBLE = 9
    """The device cannot send this: a PASID that is too large, addresses that wrap, ATS or page requests that it has
    not."""


class Work(Descriptor, width=512):
    """One descriptor.

    Fence: it begins when all earlier ones of the ring are done. Ats: its accesses go by the device's own TLB. Pri:
    where a page is missing the device asks for it, and goes on when it has come. Privileged and Execute (of reads)
    need a PASID. Interrupt: it raises the ring's interrupt when it is done.
    """

    Opcode = Field(7, 0, of=Operation)
    Fence = Bit(8)
    Interrupt = Bit(9)
    Ats = Bit(10)
    Pri = Bit(11)
    Privileged = Bit(12)
    Execute = Bit(13)
    SourcePasidValid = Bit(14)
    TargetPasidValid = Bit(15)
    SourcePasid = Bits(35, 16)
    TargetPasid = Bits(55, 36)
    Length = Bits(127, 64)
    Source = Bits(191, 128)
    Target = Bits(255, 192)
    Operand = Bits(319, 256)
    Operand2 = Bits(383, 320)
    Cookie = Bits(447, 384)


class Completion(Descriptor, width=256):
    """One completion record: its last 8 bytes come last.

    Phase is 1 in the ring's first round, and changes from round to round. Address is the IOVA of the first byte that
    was refused (of either side: AtTarget), Result what the operation gives, or the bytes that were moved before.
    """

    Cookie = Bits(63, 0)
    Address = Bits(127, 64)
    Result = Bits(191, 128)
    Index = Bits(223, 192)
    Status = Field(231, 224, of=Status)
    AtTarget = Bit(232)
    Detail = Bits(243, 240)
    Phase = Bit(255)
