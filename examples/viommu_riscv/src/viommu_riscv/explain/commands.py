"""Commands in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.commands import span_of
from viommu.hookspecs import Decoded

from viommu_riscv.explain.words import reserved
from viommu_riscv.spec.command_meanings import EXTENT, NAMES, which
from viommu_riscv.spec.commands import (
    FUNCTIONS,
    GROUPS,
    Ats,
    AtsFunction,
    Command,
    InvalidationPayload,
    Iodir,
    IodirFunction,
    Iofence,
    Iotinval,
    IotinvalFunction,
    Opcode,
    ResponsePayload,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

FIRST_CUSTOM = 64


def decode_command(raw: bytes) -> Decoded:
    """Explain an entry of the command queue."""
    opcode = Command.decode(raw).opcode
    layout = GROUPS.get(opcode)
    if layout is None:
        kind = "custom-opcode" if opcode >= FIRST_CUSTOM else "reserved-opcode"
        wrong = f"opcode {opcode:#x} is none that this hardware has"
        return Decoded("command", kind, Command.decode(raw), "No command.", (wrong,))
    command = layout.decode(raw)
    group, function = Opcode(opcode), command.func3  # type: ignore[attr-defined]
    name = NAMES.get(which(opcode, function))
    if name is None:
        known = tuple(f"{group.name}.{member.name}" for member in FUNCTIONS[opcode])
        complaints = (f"func3 {function} is reserved", *reserved(command))
        return Decoded("command", group.name, command, "No command.", complaints, aliases=known)
    complaints = (*reserved(command), *_complaints(command))
    return Decoded("command", name, command, _WORDS[layout](command), complaints)


def _complaints(command: Command) -> Iterator[str]:
    if isinstance(command, Iotinval) and command.func3 == IotinvalFunction.GVMA and command.PSCV:
        yield "PSCV is 1 in IOTINVAL.GVMA"
    if isinstance(command, Iodir):
        if command.func3 == IodirFunction.INVAL_DDT and command.PID:
            yield "PID is reserved in IODIR.INVAL_DDT"
        if command.func3 == IodirFunction.INVAL_PDT and not command.DV:
            yield "DV is 0 in IODIR.INVAL_PDT"


def _iotinval(command: Iotinval) -> str:
    where = "all addresses"
    if command.AV:
        first, last = span_of(EXTENT, int(command))
        where = f"{first:#x} to {last:#x}"
    guest = f"guest {command.GSCID:#x}" if command.GV else "the host"
    if command.func3 == IotinvalFunction.GVMA:
        return f"Forget second-stage translations of {where} of {guest if command.GV else 'every guest'}."
    space = f"address space {command.PSCID:#x}" if command.PSCV else "every address space"
    tables = " and the tables above" if command.AV and command.NL else ""
    return f"Forget first-stage translations of {where}{tables} in {space} of {guest}."


def _iofence(command: Iofence) -> str:
    does = [f"store {command.DATA:#x} at {command.ADDR:#x}"] if command.AV else []
    does += ["interrupt by wire"] if command.WSI else []
    return f"Once every earlier command is done, {' and '.join(does) or 'do nothing more'}."


def _iodir(command: Iodir) -> str:
    device = f"device {command.DID:#x}" if command.DV else "every device"
    if command.func3 == IodirFunction.INVAL_PDT:
        return f"Forget the context of process {command.PID:#x} of {device}."
    return f"Forget the contexts of {device}."


def _ats(command: Ats) -> str:
    device = command.RID | (command.DSEG << 16 if command.DSV else 0)
    process = f", process {command.PID:#x}" if command.PV else ""
    if command.func3 == AtsFunction.PRGR:
        payload = ResponsePayload.decode(command.PAYLOAD)
        code = getattr(payload.code, "name", payload.code)
        return f"Answer page-request group {payload.group:#x} of device {device:#x}{process}: {code}."
    payload_of = InvalidationPayload.decode(command.PAYLOAD)
    size = ", size in the address" if payload_of.S else ""
    return f"Have device {device:#x}{process} drop translations around {payload_of.address:#x}{size}."


_WORDS: Mapping[type[Command], Callable[..., str]] = {
    Iotinval: _iotinval,
    Iofence: _iofence,
    Iodir: _iodir,
    Ats: _ats,
}
