"""Registers, at their offsets."""

from __future__ import annotations

from viommu.layout import Bit, Bits, Descriptor
from viommu.registers import Register


class CTRL(Descriptor, width=64):
    """What is switched on. Without E, DMA passes as it is."""

    E = Bit(0)


class DTBASE(Descriptor, width=64):
    """Where the device table lies."""

    SizeLg2 = Bits(4, 0)  # log2 of how many entries it has
    Address = Bits(51, 12, shift=12)


class RING(Descriptor, width=64):
    """Where a queue lies (CMDBASE, EVTBASE)."""

    SizeLg2 = Bits(4, 0)  # log2 of how many entries of 16 bytes it has
    Address = Bits(51, 12, shift=12)


class INDEX(Descriptor, width=64):
    """An index of a queue: commands lie from CMDHEAD to CMDTAIL, events from EVTHEAD to EVTTAIL."""

    Index = Bits(31, 0)


class STATUS(Descriptor, width=64):
    """What went wrong; written with 1s to clear."""

    CommandRefused = Bit(0)  # the command at CMDHEAD
    EventsLost = Bit(1)


REGISTERS = {
    "CTRL": Register(0x00, CTRL),
    "DTBASE": Register(0x08, DTBASE),
    "CMDBASE": Register(0x10, RING),
    "CMDHEAD": Register(0x18, INDEX, writable=0),
    "CMDTAIL": Register(0x20, INDEX),
    "EVTBASE": Register(0x28, RING),
    "EVTHEAD": Register(0x30, INDEX),
    "EVTTAIL": Register(0x38, INDEX, writable=0),
    "STATUS": Register(0x40, STATUS, writable=0, clears=3),
}
OFFSETS = {name: register.offset for name, register in REGISTERS.items()}
