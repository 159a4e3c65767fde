"""What commands do to caches; those that are not here, or not in all cases, are the hardware's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen
from viommu.commands import (
    NO_PASID,
    AllContexts,
    Case,
    Contexts,
    Everything,
    InvalidateRange,
    InvalidateStage2Range,
    Is,
    Meaning,
    Meanings,
    Number,
    Sized,
    Stage1Tag,
    Stage2Tag,
    Store,
    Within,
)

from viommu_riscv.spec.commands import (
    AtsFunction,
    Command,
    Iodir,
    IodirFunction,
    Iofence,
    IofenceFunction,
    Iotinval,
    IotinvalFunction,
    Opcode,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from viommu_riscv.spec.registers import Capabilities

HOST = 1 << 16
"""The stage-2 tag of translations without second stage: no GSCID, which has 16 bits."""

STORED_BYTES = 4
PAGE_LG2 = 12
WHICH = Number(((0, 0x3FF, 0),))
"""opcode and func3."""


@frozen
class CommandAbilities:
    """What decides which commands there are, and what they may ask.

    ``device_last`` and ``process_last``: the largest ids. ``fences``: IOFENCE.C may complete without more ado.
    """

    ats: bool
    non_leaf: bool
    ranges: bool
    device_last: int
    process_last: int
    fences: bool = True


def which(opcode: int, function: int) -> int:
    """Give the number by which a command is found."""
    return opcode | function << 7


def meanings(able: CommandAbilities) -> Meanings:
    """Describe the commands."""
    return Meanings(Command.size, WHICH, dict(_described(able)))


def _described(able: CommandAbilities) -> Iterator[tuple[int, Meaning]]:
    zero = iotinval_zero(able)
    yield which(Opcode.IOTINVAL, IotinvalFunction.VMA), Meaning("IOTINVAL.VMA", tuple(_first_stage()), zero)
    yield which(Opcode.IOTINVAL, IotinvalFunction.GVMA), Meaning("IOTINVAL.GVMA", tuple(_second_stage()), zero)
    yield (
        which(Opcode.IODIR, IodirFunction.INVAL_DDT),
        Meaning("IODIR.INVAL_DDT", tuple(_devices(able)), Iodir.reserved_mask | Iodir.PID.mask),
    )
    yield (
        which(Opcode.IODIR, IodirFunction.INVAL_PDT),
        Meaning("IODIR.INVAL_PDT", tuple(_processes(able)), Iodir.reserved_mask),
    )
    if able.fences:
        zero = Iofence.reserved_mask | Iofence.WSI.mask
        yield which(Opcode.IOFENCE, IofenceFunction.C), Meaning("IOFENCE.C", FENCE, zero)


def iotinval_zero(able: CommandAbilities) -> int:
    """Give the bits of IOTINVAL that must be zero."""
    return Iotinval.reserved_mask | (0 if able.non_leaf else Iotinval.NL.mask) | (0 if able.ranges else Iotinval.S.mask)


def iotinval_illegal(command: Iotinval, *, non_leaf: bool, ranges: bool) -> bool:
    """Whether hardware refuses it for what it lacks."""
    return bool(command.reserved_set or (command.NL and not non_leaf) or (command.S and not ranges))


def process_last(able: Capabilities) -> int:
    """Give the largest process_id that a process directory may have a place for, and a command may name."""
    return (1 << (20 if able.PD20 else 17 if able.PD17 else 8)) - 1


FENCE = (
    Case((Store(Iofence.ADDR, Iofence.DATA, STORED_BYTES),), (Is(Iofence.AV, 1),)),
    Case(()),
)

EXTENT = Sized(Iotinval.ADDR, Iotinval.S, PAGE_LG2)
LEAVES = Number(Iotinval.NL, flip=1)


def _first_stage() -> Iterator[Case]:
    for guest, tag in ((1, Iotinval.GSCID), (0, HOST)):
        of, address, space = Is(Iotinval.GV, guest), Is(Iotinval.AV, 1), Is(Iotinval.PSCV, 1)
        yield Case((InvalidateRange(tag, Iotinval.PSCID, EXTENT, LEAVES),), (of, address, space))
        yield Case((InvalidateRange(tag, None, EXTENT, LEAVES),), (of, address))
        yield Case((Stage1Tag(tag, Iotinval.PSCID),), (of, space))
        yield Case((Stage2Tag(tag, stage1_only=True),), (of,))


def _second_stage() -> Iterator[Case]:
    """Nested translations are not known by the guest's address: all of the guest's go.

    That of every guest forgets the host's too, which it need not.
    """
    own, guest = Is(Iotinval.PSCV, 0), Is(Iotinval.GV, 1)
    yield Case(
        (InvalidateStage2Range(Iotinval.GSCID, EXTENT, LEAVES), Stage2Tag(Iotinval.GSCID, stage1_only=True)),
        (own, guest, Is(Iotinval.AV, 1)),
    )
    yield Case((Stage2Tag(Iotinval.GSCID),), (own, guest))
    yield Case((Everything(),), (own,))


def _devices(able: CommandAbilities) -> Iterator[Case]:
    yield Case((Contexts(Iodir.DID),), (Is(Iodir.DV, 1), Within(Iodir.DID, 0, able.device_last)))
    yield Case((AllContexts(),), (Is(Iodir.DV, 0),))


def _processes(able: CommandAbilities) -> Iterator[Case]:
    """Process id 0 may serve requests without one (tc.DPE)."""
    device = Is(Iodir.DV, 1), Within(Iodir.DID, 0, able.device_last)
    yield Case((Contexts(Iodir.DID, 0), Contexts(Iodir.DID, NO_PASID)), (*device, Is(Iodir.PID, 0)))
    yield Case((Contexts(Iodir.DID, Iodir.PID),), (*device, Within(Iodir.PID, 0, able.process_last)))


NAMES: Mapping[int, str] = {
    which(Opcode.IOTINVAL, IotinvalFunction.VMA): "IOTINVAL.VMA",
    which(Opcode.IOTINVAL, IotinvalFunction.GVMA): "IOTINVAL.GVMA",
    which(Opcode.IOFENCE, IofenceFunction.C): "IOFENCE.C",
    which(Opcode.IODIR, IodirFunction.INVAL_DDT): "IODIR.INVAL_DDT",
    which(Opcode.IODIR, IodirFunction.INVAL_PDT): "IODIR.INVAL_PDT",
    which(Opcode.ATS, AtsFunction.INVAL): "ATS.INVAL",
    which(Opcode.ATS, AtsFunction.PRGR): "ATS.PRGR",
}
"""The commands by opcode and func3."""
