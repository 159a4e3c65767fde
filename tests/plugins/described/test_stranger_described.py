"""A queue that no plugin here has, RISC-V's, gets the engine by describing its commands (RISC-V IOMMU 1.0, 3.1)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plugins.described.warm import MAILBOX, PAGES, Warm, Written
from viommu.commands import (
    NO_PASID,
    AllContexts,
    Block,
    Case,
    Contexts,
    InvalidateRange,
    InvalidateStage2Range,
    Is,
    Meaning,
    Meanings,
    Stage1Tag,
    Stage2Tag,
    Store,
)
from viommu.layout import Bit, Bits, Descriptor

HOST = 1 << 16
"""Stands for the GSCID, which has 16 bits, where a command names no guest."""


class Command(Descriptor, width=128):
    """What every command has."""

    Opcode = Bits(9, 0)  # opcode and func3


class IOTINVAL(Command):
    """Forget translations, of first stage (VMA) or second (GVMA)."""

    AV = Bit(10)
    PSCID = Bits(31, 12)
    PSCV = Bit(32)
    GV = Bit(33)
    GSCID = Bits(59, 44)
    ADDR = Bits(125, 74, shift=12)


class IOFENCE(Command):
    """Tell that all before is done."""

    AV = Bit(10)
    WSI = Bit(11)
    PR = Bit(12)
    PW = Bit(13)
    DATA = Bits(63, 32)
    ADDR = Bits(125, 64, shift=2)


class IODIR(Command):
    """Forget device contexts (DDT) or process contexts (PDT)."""

    PID = Bits(31, 12)
    DV = Bit(33)
    DID = Bits(63, 40)


VMA, GVMA, FENCE, DDT, PDT = 1, 1 | 1 << 7, 2, 3, 3 | 1 << 7


def vma() -> Meaning:
    page = Block(IOTINVAL.ADDR, 12)
    cases = []
    for guest in (1, 0):
        tag = IOTINVAL.GSCID if guest else HOST
        of = Is(IOTINVAL.GV, guest)
        address, space = Is(IOTINVAL.AV, 1), Is(IOTINVAL.PSCV, 1)
        cases += [
            Case((InvalidateRange(tag, IOTINVAL.PSCID, page),), (of, address, space)),
            Case((InvalidateRange(tag, None, page),), (of, address)),
            Case((Stage1Tag(tag, IOTINVAL.PSCID),), (of, space)),
            Case((Stage2Tag(tag, stage1_only=True),), (of,)),
        ]
    return Meaning("IOTINVAL.VMA", tuple(cases), IOTINVAL.reserved_mask)


def gvma() -> Meaning:
    page = Block(IOTINVAL.ADDR, 12)
    second = InvalidateStage2Range(IOTINVAL.GSCID, page), Stage2Tag(IOTINVAL.GSCID, stage1_only=True)
    guest, no_space = Is(IOTINVAL.GV, 1), Is(IOTINVAL.PSCV, 0)
    cases = (
        Case(second, (no_space, guest, Is(IOTINVAL.AV, 1))),
        Case((Stage2Tag(IOTINVAL.GSCID),), (no_space, guest)),
    )
    return Meaning("IOTINVAL.GVMA", cases, IOTINVAL.reserved_mask)


RISCV = Meanings(
    Command.size,
    Command.Opcode,
    {
        VMA: vma(),
        GVMA: gvma(),
        FENCE: Meaning(
            "IOFENCE.C",
            (
                Case((Store(IOFENCE.ADDR, IOFENCE.DATA, 4),), (Is(IOFENCE.WSI, 0), Is(IOFENCE.AV, 1))),
                Case((), (Is(IOFENCE.WSI, 0),)),
            ),
            IOFENCE.reserved_mask,
        ),
        DDT: Meaning(
            "IODIR.INVAL_DDT",
            (
                Case((Contexts(IODIR.DID),), (Is(IODIR.DV, 1), Is(IODIR.PID, 0))),
                Case((AllContexts(),), (Is(IODIR.PID, 0),)),
            ),
            IODIR.reserved_mask,
        ),
        PDT: Meaning(
            "IODIR.INVAL_PDT",
            (
                Case((Contexts(IODIR.DID, 0), Contexts(IODIR.DID, NO_PASID)), (Is(IODIR.DV, 1), Is(IODIR.PID, 0))),
                Case((Contexts(IODIR.DID, IODIR.PID),), (Is(IODIR.DV, 1),)),
            ),
            IODIR.reserved_mask,
        ),
    },
)


def by_hand(raw: bytes, on: Written | Warm) -> str | None:
    """Execute by shifts and masks."""
    low, high = int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")
    opcode, function = low & 0x7F, low >> 7 & 7
    bit = [low >> at & 1 for at in range(64)]
    page = (high >> 10 & (1 << 52) - 1) << 12
    tag, space = (low >> 44 & 0xFFFF if bit[33] else HOST), low >> 12 & 0xF_FFFF
    if opcode == 1 and not low & 0xF000_0FFC_0000_0800 and not high & 0xC000_0000_0000_03FF:
        if function == 0:
            return _first(on, tag, space if bit[32] else None, page if bit[10] else None)
        return _second(on, tag, page if bit[10] else None) if function == 1 and bit[33] and not bit[32] else None
    if opcode == 2 and function == 0 and not low & 0xFFFF_C000 and not high >> 62 and not bit[11]:
        return "IOFENCE.C" if not bit[10] or on.memory.write(high << 2, raw[4:8]) else None
    if opcode == 3 and function < 2 and not low & 0xFD_0000_0C00 and not high:
        return _directory(on, function, low >> 40 if bit[33] else None, space)
    return None


def _first(on: Written | Warm, tag: int, space: int | None, page: int | None) -> str:
    if page is not None:
        on.caches.invalidate_range(tag, space, page, page + 0xFFF)
    elif space is not None:
        on.caches.invalidate_stage1_tag(tag, space)
    else:
        on.caches.invalidate_stage2_tag(tag, stage1_only=True)
    return "IOTINVAL.VMA"


def _second(on: Written | Warm, tag: int, page: int | None) -> str:
    if page is None:
        on.caches.invalidate_stage2_tag(tag)
    else:
        on.caches.invalidate_stage2_range(tag, page, page + 0xFFF)
        on.caches.invalidate_stage2_tag(tag, stage1_only=True)
    return "IOTINVAL.GVMA"


def _directory(on: Written | Warm, function: int, device: int | None, process: int) -> str | None:
    if function == 0:
        if process == 0:
            on.caches.invalidate_contexts(device)
        return "IODIR.INVAL_DDT" if process == 0 else None
    if device is None:
        return None
    for pasid in (0, NO_PASID) if process == 0 else (process,):
        on.caches.invalidate_contexts(device, pasid)
    return "IODIR.INVAL_PDT"


SPACES: list[tuple[int, int | None]] = [(5, 7), (5, 8), (HOST, 7), (5, None)]
VALUES = {
    "GSCID": st.sampled_from([5, 6]),
    "PSCID": st.sampled_from([7, 8]),
    "DID": st.sampled_from([0, 1, 9]),
    "PID": st.sampled_from([0, 0, 7]),
    "WSI": st.sampled_from([0, 0, 0, 1]),
    "DATA": st.integers(0, (1 << 32) - 1),
}
ADDRESSES = {IOTINVAL: st.sampled_from(PAGES), IOFENCE: st.sampled_from([MAILBOX, MAILBOX + 4, 0x7000_0000])}


@st.composite
def commands(draw: st.DrawFn) -> bytes:
    opcode = draw(st.sampled_from([VMA, GVMA, FENCE, DDT, PDT]))
    layout: type[Command] = {1: IOTINVAL, 2: IOFENCE, 3: IODIR}[opcode & 0x7F]
    values = VALUES | ({"ADDR": ADDRESSES[layout]} if layout in ADDRESSES else {})
    chosen = {name: draw(values.get(name, st.integers(0, 1))) for name in layout.fields if name != "Opcode"}
    raw = int(layout(Opcode=opcode, **chosen))
    if draw(st.integers(0, 12)) == 12:
        raw ^= 1 << draw(st.integers(0, 127))
    return raw.to_bytes(16, "little")


@settings(max_examples=600)
@given(raw=commands())
def test_descriptions_say_what_commands_do(raw: bytes) -> None:
    described, plainly = Written(), Written()

    name = by_hand(raw, plainly)

    assert described.executor(RISCV).run(raw) == ((0, {}) if name is None else (1, {name: 1}))
    assert described.calls == plainly.calls


@given(run=st.lists(commands(), max_size=10))
def test_the_engine_does_what_commands_say(run: list[bytes]) -> None:
    described, plainly = Warm(SPACES), Warm(SPACES)
    names: list[str] = []
    for raw in run:
        name = by_hand(raw, plainly)
        if name is None:
            break
        names.append(name)

    assert described.executor(RISCV).run(b"".join(run)) == (len(names), {name: names.count(name) for name in names})
    assert described.state() == plainly.state()
