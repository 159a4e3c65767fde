"""Bytes explained: what they are, field by field and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu import hookimpl
from viommu.hookspecs import Decoded

from viommu_acme.spec import COMMANDS, DTE, PTE, REGISTERS, Command, Event, EventCode, Mode, Op

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.layout import Descriptor

KINDS: dict[str, type[Descriptor]] = {
    "command": Command,
    "event": Event,
    "DTE": DTE,
    "PTE": PTE,
    **{name: register.layout for name, register in REGISTERS.items()},
}

CAUSES = {
    EventCode.BAD_DEVICE: ("the device table is too short (DTBASE.SizeLg2)", "the device has another id"),
    EventCode.BAD_ENTRY: ("nothing is attached to the device", "a reserved bit is set in its entry"),
    EventCode.NOT_PRESENT: ("the address was never mapped, or is unmapped already", "the wrong page table"),
    EventCode.NOT_WRITABLE: ("the mapping is read-only",),
    EventCode.TOO_LARGE: ("the address has more than 39 bits",),
    EventCode.BAD_TABLE: ("the tables are spoilt: look at the entry",),
    EventCode.UNREADABLE: ("a table lies where there is no memory",),
}
"""What is likely wrong, likeliest first."""


@hookimpl
def viommu_kinds() -> Mapping[str, tuple[int, ...]]:
    """Say what can be explained, and how long it is (bytes)."""
    return {kind: (layout.size,) for kind, layout in KINDS.items()}


@hookimpl
def viommu_decode(kind: str, raw: bytes) -> Decoded:
    """Explain bytes of one kind."""
    made = (COMMANDS.get(raw[0], Command) if kind == "command" else KINDS[kind]).decode(raw)
    complaints = (f"reserved bits are set: {made.reserved_set:#x}",) if made.reserved_set else ()
    if isinstance(made, Event):
        return event(made, complaints)
    if isinstance(made, Command):
        return command(made, complaints)
    return Decoded(kind, type(made).__name__, made, meaning(made), complaints)


def command(made: Command, complaints: tuple[str, ...]) -> Decoded:
    """Explain a command."""
    if made.Op not in COMMANDS:
        unknown = (*complaints, f"there is no command {int(made.Op):#x}")
        return Decoded("command", f"command {int(made.Op):#x}", made, "Hardware refuses it.", unknown)
    return Decoded("command", Op(made.Op).name, made, (type(made).__doc__ or "").partition("\n")[0], complaints)


def event(made: Event, complaints: tuple[str, ...]) -> Decoded:
    """Explain a record of refused DMA."""
    if made.Code not in EventCode.__members__.values():
        unknown = (*complaints, f"there is no code {int(made.Code):#x}")
        return Decoded("event", f"code {int(made.Code):#x}", made, "No event of this hardware.", unknown)
    code = EventCode(made.Code)
    what = "write to" if made.Write else "read of"
    told = f"Device {made.DeviceID:#x} was refused a {what} {made.Address:#x}."
    return Decoded("event", code.name, made, told, complaints, CAUSES[code])


def meaning(made: Descriptor) -> str:
    """Say in words what a structure does."""
    if isinstance(made, DTE):
        if not made.V:
            return "DMA of the device is refused."
        through: dict[int, str] = {
            Mode.BYPASS: "is not translated",
            Mode.TRANSLATE: f"goes through tables at {made.TablePtr:#x}",
        }
        return f"DMA of the device {through.get(made.Mode, 'is refused: no such mode')}."
    return (type(made).__doc__ or "").partition("\n")[0]
