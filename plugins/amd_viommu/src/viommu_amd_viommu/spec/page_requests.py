"""Entries of the PPR log and of the guest virtual APIC log (AMD 48882, 2.6 and 2.7)."""

from __future__ import annotations

from viommu.layout import Bit, Bits, Descriptor, Split

PAGE_REQUEST = 1
"""Type of a PPR log entry that is a page service request."""

LAST = 1 << 9
"""The bit of `PPRLogEntry.Tag` that ends a group; the lower ones are the group's index."""


class PPRLogEntry(Descriptor, width=128):
    """A peripheral page request."""

    DeviceID = Bits(15, 0)
    PASID = Split((31, 16), (45, 42))
    Tag = Bits(41, 32)
    EXEC = Bit(49)
    READ = Bit(50)
    WRITE = Bit(53)
    US = Bit(54)
    RSVD = Bit(55)
    GN = Bit(56)
    Type = Bits(63, 60)
    Address = Bits(127, 76, shift=12)


class GALogEntry(Descriptor, width=64):
    """A guest interrupt that no vCPU was running for."""

    GATag = Bits(31, 0)
    DeviceID = Bits(47, 32)
    Type = Bits(63, 60)
