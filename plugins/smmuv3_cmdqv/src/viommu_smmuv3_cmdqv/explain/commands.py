"""What a command asks for, in words."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from viommu.commands import span_of
from viommu.hookspecs import Decoded
from viommu_smmuv3_cmdqv.explain.words import complaints_of, granule, stream
from viommu_smmuv3_cmdqv.spec.command_meanings import extents
from viommu_smmuv3_cmdqv.spec.commands import (
    ATC_INV,
    COMMANDS,
    PRI_RESP,
    SYNC,
    Command,
    CommandOpcode,
    CompletionSignal,
    PageResponseCode,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ALIASES = {"addr": "Address", "msiaddr": "MSIAddress", "op": "Opcode"}
PAGE_LG2 = 12
EVERYTHING = 52
ALL_STREAMS = 31
ABSENT: Mapping[CommandOpcode, str] = {
    CommandOpcode.TLBI_EL3_ALL: "EL3 has no commands in a Non-secure queue: CERROR_ILL",
    CommandOpcode.TLBI_EL3_VA: "EL3 has no commands in a Non-secure queue: CERROR_ILL",
    CommandOpcode.CFGI_VMS_PIDM: "without MPAM (IDR3.MPAM) this is CERROR_ILL",
}
ANSWERS: Mapping[int, str] = {
    PageResponseCode.DENY: "denied (Response Failure)",
    PageResponseCode.FAIL: "failed (Invalid Request)",
    PageResponseCode.SUCCESS: "success",
}


def decode_command(raw: bytes) -> Decoded:
    """Explain 16 bytes of a command queue."""
    if raw[0] not in set(CommandOpcode):
        unknown = Command.decode(raw)
        meaning = f"no command has opcode {raw[0]:#x}: the queue stops here with CERROR_ILL"
        return Decoded("command", "reserved", unknown, meaning, (f"Opcode {raw[0]:#x} is reserved: CERROR_ILL",))
    opcode = CommandOpcode(raw[0])
    command = COMMANDS[opcode].decode(raw)
    return Decoded(
        "command",
        opcode.name,
        command,
        MEANINGS[opcode](command),
        tuple(_complaints(command)),
        aliases=(f"CMD_{opcode.name}",),
        field_aliases={alias: own for alias, own in ALIASES.items() if own in command.fields},
    )


def _hint(c: Any) -> str:  # noqa: ANN401 - each command has its own fields
    return f"a hint that {stream(c.SID, c.SSV, c.SSID)} will be used; it changes nothing"


def _ste_range(c: Any) -> str:  # noqa: ANN401
    if c.Range == ALL_STREAMS:
        return "CFGI_ALL: forget every STE and CD; translations stay"
    first = c.SID & -(2 << c.Range)
    return f"forget the STEs of streams {first:#x} to {first + (2 << c.Range) - 1:#x}, and their CDs"


def _span(c: Any) -> str:  # noqa: ANN401
    leaf = ", last level only" if c.Leaf else ""
    if not c.TG:
        return f"at {c.Address:#x}{leaf}"
    lg2 = 10 + 2 * c.TG
    _, counted = extents(type(c))
    start, last = span_of(counted, int(c))
    level = f", leaves of level {c.TTL}" if c.TTL else ""
    return f"from {start:#x} to {last:#x} ({last + 1 - start >> lg2} x {granule(lg2)}){level}{leaf}"


def _device_invalidation(c: Any) -> str:  # noqa: ANN401
    span = "everything"
    if c.Size < EVERYTHING:
        length = 1 << PAGE_LG2 + c.Size
        start = c.Address & -length
        span = f"{start:#x} to {start + length - 1:#x}"
    one = c.SSV and not c.Global
    return f"the device of {stream(c.SID, one, c.SSID)} is to forget {span}{'' if one else ', of any substream'}"


def _resume(c: Any) -> str:  # noqa: ANN401
    how = "try it again" if c.Ac else "end it with an abort" if c.Ab else "end it as RAZ/WI"
    return f"the stalled access {c.STAG:#x} of {stream(c.SID)}: {how}"


def _sync(c: Any) -> str:  # noqa: ANN401
    wait = "wait until all commands before are complete"
    if c.CS == CompletionSignal.SEV:
        return f"{wait}, then send an event (SEV)"
    if c.CS != CompletionSignal.IRQ:
        return wait
    return f"{wait}, then " + (
        f"write {c.MSIData:#x} to {c.MSIAddress:#x}" if c.MSIAddress else "raise the wired interrupt"
    )


MEANINGS: Mapping[CommandOpcode, Callable[[Any], str]] = MappingProxyType(
    {
        CommandOpcode.PREFETCH_CONFIG: _hint,
        CommandOpcode.PREFETCH_ADDR: _hint,
        CommandOpcode.CFGI_STE: lambda c: (
            f"forget the STE of {stream(c.SID)}{'' if c.Leaf else ', the L1STD that leads to it,'} and its CDs"
        ),
        CommandOpcode.CFGI_STE_RANGE: _ste_range,
        CommandOpcode.CFGI_CD: lambda c: (
            f"forget the CD of {stream(c.SID, 1, c.SSID)}{'' if c.Leaf else ' and the L1CD that leads to it'}"
        ),
        CommandOpcode.CFGI_CD_ALL: lambda c: f"forget every CD of {stream(c.SID)}",
        CommandOpcode.CFGI_VMS_PIDM: lambda c: f"forget the partition IDs of VMID {c.VMID:#x}",
        CommandOpcode.TLBI_NH_ALL: lambda c: f"forget every stage-1 and nested translation of VMID {c.VMID:#x}",
        CommandOpcode.TLBI_NH_ASID: lambda c: (
            f"forget stage-1 translations of VMID {c.VMID:#x}, ASID {c.ASID:#x}, but global ones"
        ),
        CommandOpcode.TLBI_NH_VA: lambda c: (
            f"forget stage-1 translations of VMID {c.VMID:#x}, ASID {c.ASID:#x}, {_span(c)}"
        ),
        CommandOpcode.TLBI_NH_VAA: lambda c: f"forget stage-1 translations of VMID {c.VMID:#x}, any ASID, {_span(c)}",
        CommandOpcode.TLBI_EL3_ALL: lambda _: "forget every translation of EL3",
        CommandOpcode.TLBI_EL3_VA: lambda c: f"forget EL3's translations {_span(c)}",
        CommandOpcode.TLBI_EL2_ALL: lambda _: "forget every translation of EL2",
        CommandOpcode.TLBI_EL2_ASID: lambda c: f"forget EL2's translations of ASID {c.ASID:#x}, but global ones",
        CommandOpcode.TLBI_EL2_VA: lambda c: f"forget EL2's translations of ASID {c.ASID:#x}, {_span(c)}",
        CommandOpcode.TLBI_EL2_VAA: lambda c: f"forget EL2's translations of any ASID, {_span(c)}",
        CommandOpcode.TLBI_S12_VMALL: lambda c: f"forget every translation of VMID {c.VMID:#x}, of both stages",
        CommandOpcode.TLBI_S2_IPA: lambda c: (
            f"forget stage-2 translations of VMID {c.VMID:#x}, {_span(c)}; nested ones stay"
        ),
        CommandOpcode.TLBI_NSNH_ALL: lambda _: "forget every translation of every VMID, but EL2's",
        CommandOpcode.ATC_INV: _device_invalidation,
        CommandOpcode.PRI_RESP: lambda c: (
            f"answer page-request group {c.PRGIndex:#x} of {stream(c.SID, c.SSV, c.SSID)}: "
            + ANSWERS.get(c.Resp, "reserved")
        ),
        CommandOpcode.RESUME: _resume,
        CommandOpcode.STALL_TERM: lambda c: f"end every stalled access of {stream(c.SID)} with an abort",
        CommandOpcode.SYNC: _sync,
    }
)
"""What each command does, in a sentence."""


def _complaints(command: Command) -> Iterator[str]:
    if command.SSec:
        yield "SSec 1 on a Non-secure queue: CERROR_ILL"
    for complaint in complaints_of(command):
        illegal = isinstance(command, SYNC | PRI_RESP) and complaint.startswith(("CS ", "Resp "))
        yield f"{complaint}: CERROR_ILL" if illegal else complaint
    opcode = int(command.Opcode)
    if opcode in ABSENT:
        yield ABSENT[CommandOpcode(opcode)]
    if isinstance(command, ATC_INV) and command.Size > EVERYTHING:
        yield f"Size {command.Size} is reserved: at most {EVERYTHING}"
    if "TG" in command.fields and _is_reserved_range(command):
        yield "TG with NUM, SCALE and TTL all 0 is reserved"


def _is_reserved_range(c: Any) -> bool:  # noqa: ANN401
    return bool(c.TG and not (c.NUM or c.SCALE or c.TTL))
