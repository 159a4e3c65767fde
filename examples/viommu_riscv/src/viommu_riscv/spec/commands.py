"""Entries of the command queue (RISC-V IOMMU 1.0, "Command-Queue")."""

from __future__ import annotations

from enum import IntEnum

from viommu.layout import Bit, Bits, Descriptor, Field


class Opcode(IntEnum):
    """The groups of commands."""

    IOTINVAL = 1
    IOFENCE = 2
    IODIR = 3
    ATS = 4


class IotinvalFunction(IntEnum):
    """func3 of IOTINVAL."""

    VMA = 0
    GVMA = 1


class IofenceFunction(IntEnum):
    """func3 of IOFENCE."""

    C = 0


class IodirFunction(IntEnum):
    """func3 of IODIR."""

    INVAL_DDT = 0
    INVAL_PDT = 1


class AtsFunction(IntEnum):
    """func3 of ATS."""

    INVAL = 0
    PRGR = 1


class PrgResponse(IntEnum):
    """Response codes of a page-request group (PCIe)."""

    SUCCESS = 0
    INVALID = 1
    FAILURE = 15


class Command(Descriptor, width=128):
    """What every command begins with."""

    opcode = Field(6, 0, of=Opcode)


class Iotinval(Command):
    """Forget translations. ``NL`` is reserved without capabilities.NL, ``S`` without capabilities.S."""

    func3 = Field(9, 7, of=IotinvalFunction)
    AV = Bit(10)
    PSCID = Bits(31, 12)
    PSCV = Bit(32)
    GV = Bit(33)
    NL = Bit(34)
    GSCID = Bits(59, 44)
    S = Bit(73)
    ADDR = Bits(125, 74, shift=12)


class Iofence(Command):
    """Tell that everything before is done."""

    func3 = Field(9, 7, of=IofenceFunction)
    AV = Bit(10)
    WSI = Bit(11)
    PR = Bit(12)
    PW = Bit(13)
    DATA = Bits(63, 32)
    ADDR = Bits(125, 64, shift=2)


class Iodir(Command):
    """Forget contexts."""

    func3 = Field(9, 7, of=IodirFunction)
    PID = Bits(31, 12)
    DV = Bit(33)
    DID = Bits(63, 40)


class Ats(Command):
    """Send a message to a PCIe function."""

    func3 = Field(9, 7, of=AtsFunction)
    PID = Bits(31, 12)
    PV = Bit(32)
    DSV = Bit(33)
    RID = Bits(55, 40)
    DSEG = Bits(63, 56)
    PAYLOAD = Bits(127, 64)


class InvalidationPayload(Descriptor, width=64):
    """PAYLOAD of ATS.INVAL: an Invalidate Request's body."""

    G = Bit(0)
    S = Bit(11)
    address = Bits(63, 12, shift=12)


class ResponsePayload(Descriptor, width=64):
    """PAYLOAD of ATS.PRGR: a Page Request Group Response's body."""

    group = Bits(40, 32)
    code = Field(47, 44, of=PrgResponse)


GROUPS: dict[int, type[Command]] = {
    Opcode.IOTINVAL: Iotinval,
    Opcode.IOFENCE: Iofence,
    Opcode.IODIR: Iodir,
    Opcode.ATS: Ats,
}
"""Opcode -> the layout of its commands."""

FUNCTIONS: dict[int, type[IntEnum]] = {
    Opcode.IOTINVAL: IotinvalFunction,
    Opcode.IOFENCE: IofenceFunction,
    Opcode.IODIR: IodirFunction,
    Opcode.ATS: AtsFunction,
}
"""Opcode -> what func3 may be."""
