"""Bytes explained: what they are, field by field and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu import hookimpl
from viommu.hookspecs import Decoded

from viommu_acme.spec import DTE, LAYOUTS, PTE, Event, EventCode, Mode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.layout import Descriptor

KINDS = {"event": Event, "DTE": DTE, "PTE": PTE, "DTBASE": LAYOUTS["DTBASE"]}

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
    made = KINDS[kind].decode(raw)
    complaints = (f"reserved bits are set: {made.reserved_set:#x}",) if made.reserved_set else ()
    if isinstance(made, Event):
        return event(made, complaints)
    return Decoded(kind, type(made).__name__, made, meaning(made), complaints)


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
