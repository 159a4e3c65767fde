"""The toy, as it explains its commands, records, registers and log lines."""

from __future__ import annotations

import re
from enum import IntEnum
from typing import TYPE_CHECKING

import viommu
from tests.core.toy import Device, ToyDriver
from viommu.faults import FaultKind
from viommu.hookspecs import Decoded
from viommu.layout import Bit, Bits, Descriptor, Field

if TYPE_CHECKING:
    from collections.abc import Mapping


class Op(IntEnum):
    SYNC = 1
    INVALIDATE_PAGES = 2


class Command(Descriptor, width=128):
    Opcode = Field(7, 0, of=Op)


class Sync(Command):
    Signal = Bits(9, 8)


class Invalidate(Command):
    DomainID = Bits(47, 32)
    Address = Bits(127, 76, shift=12)


class WideCommand(Descriptor, width=256):
    Opcode = Field(7, 0, of=Op)


class Event(Descriptor, width=128):
    InputAddr = Bits(63, 0)
    RID = Bits(95, 64)
    Code = Bits(103, 96)


class Entry(Descriptor, width=64):
    Present = Bit(0)
    Address = Bits(51, 12, shift=12)


class CTRL(Descriptor, width=32):
    ENABLE = Bit(0)


LAYOUTS = {"Device": Device, "entry": Entry, "CTRL": CTRL}
COMMANDS = {Op.SYNC: Sync, Op.INVALIDATE_PAGES: Invalidate}

ONE_LINE = re.compile(r"toy (\S+): fault at 0x([0-9a-f]{1,16}) of device ([0-9a-f]{2}), code ([0-9a-f]{2})")
WORDS = re.compile(r"toy \S+: record received:((?:\n(?:toy \S+:)?\s*0x[0-9a-f]{16}){2})$")


class TalkingToy(ToyDriver):
    @viommu.hookimpl
    def viommu_kinds(self) -> Mapping[str, tuple[int, ...]]:
        return {"command": (16, 32), "event": (16,), "Device": (16,), "entry": (8,), "CTRL": (4,)}

    @viommu.hookimpl
    def viommu_decode(self, kind: str, raw: bytes) -> Decoded:
        if kind == "command":
            return command(raw)
        if kind == "event":
            return event(raw)
        made = LAYOUTS[kind].decode(raw)
        return Decoded(kind, type(made).__name__, made, f"A {kind} of the toy.", reserved(made))

    @viommu.hookimpl
    def viommu_log_line(self, line: str) -> tuple[str, bytes] | None:
        found = ONE_LINE.search(line)
        if found is not None:
            made = Event(InputAddr=int(found[2], 16), RID=int(found[3], 16), Code=int(found[4], 16))
            return "event", made.encode()
        words = WORDS.search(line)
        if words is None:
            return None
        values = re.findall(r"0x([0-9a-f]{16})", words[1])
        return "event", b"".join(int(value, 16).to_bytes(8, "little") for value in values)


def reserved(made: Descriptor) -> tuple[str, ...]:
    return (f"reserved bits are set: {made.reserved_set:#x}",) if made.reserved_set else ()


def command(raw: bytes) -> Decoded:
    made: Descriptor = WideCommand.decode(raw) if len(raw) == 32 else Command.decode(raw)
    if len(raw) == 16 and raw[0] in COMMANDS:
        made = COMMANDS[Op(raw[0])].decode(raw)
    return Decoded(
        "command",
        Op(raw[0]).name if raw[0] in [op.value for op in Op] else f"opcode {raw[0]:#x}",
        made,
        "Does what it is told.",
        complaints=reserved(made),
        aliases=("wait",) if raw[0] == Op.SYNC else (),
        field_aliases={"op": "Opcode", "did": "DomainID", "addr": "Address"},
    )


def event(raw: bytes) -> Decoded:
    made = Event.decode(raw)
    known = made.Code in FaultKind.__members__.values()
    return Decoded(
        "event",
        FaultKind(made.Code).name if known else hex(made.Code),
        made,
        f"Device {made.RID:#x} was refused {made.InputAddr:#x}.",
        complaints=reserved(made),
        causes=("the page is not mapped for writing", "the device is another one"),
        aliases=(hex(made.Code),),
        field_aliases={"addr": "InputAddr", "type": "Code"},
    )
