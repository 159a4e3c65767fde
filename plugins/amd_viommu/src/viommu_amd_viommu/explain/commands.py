"""Commands in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import Decoded
from viommu_amd_viommu.explain.wording import device, reserved, span
from viommu_amd_viommu.hardware.command_legality import SIZED
from viommu_amd_viommu.hardware.command_legality import span as span_of
from viommu_amd_viommu.spec import commands as spec
from viommu_amd_viommu.spec.commands import COMMANDS, Opcode, PPRStatus, decode_command

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ENDLESS = 0xFFFF_FFFF_FFFF_F000


def explain(kind: str, raw: bytes) -> Decoded:
    """Explain an entry of the command buffer."""
    command = decode_command(raw)
    if command.Opcode not in COMMANDS:
        return Decoded(
            kind, f"opcode {int(command.Opcode):#x}", command, "No command.", ("hardware knows no such opcode",)
        )
    opcode = Opcode(command.Opcode)
    return Decoded(kind, opcode.name, command, _WORDS[opcode](command), (*reserved(command), *_complaints(command)))


def _complaints(command: spec.AnyCommand) -> tuple[str, ...]:
    if isinstance(command, SIZED) and command.S and command.Address == _ENDLESS:
        return ("S is set and no address bit is zero: no size has that encoding",)
    if isinstance(command, spec.CompletePprRequest) and not isinstance(command.Status, PPRStatus):
        return (f"Status {command.Status} has no meaning; devices see a failure",)
    return ()


def _range(command: spec.InvalidateIommuPages | spec.InvalidateIotlbPages) -> str:
    return span(*span_of(command))


def _wait(command: spec.CompletionWait) -> str:
    does = []
    if command.s:
        does.append(f"store {command.Data:#x} at {command.Address:#x}")
    if command.i:
        does.append("interrupt")
    late = "; later commands wait for it" if command.f else ""
    return f"Once every earlier command is done, {' and '.join(does) or 'do nothing more'}{late}."


def _iommu_pages(command: spec.InvalidateIommuPages) -> str:
    what = f"PASID {command.PASID:#x} of DomainID" if command.GN else "DomainID"
    tables = " and cached table pointers" if command.PDE else ""
    return f"Forget translations of {_range(command)}{tables} for {what} {command.DomainID:#x}."


def _iotlb_pages(command: spec.InvalidateIotlbPages) -> str:
    whose = f" of PASID {command.PASID:#x}" if command.GN else ""
    return f"Have {device(command.DeviceID)} forget what ATS told it of {_range(command)}{whose}."


def _prefetch(command: spec.PrefetchIommuPages) -> str:
    whose = f" of PASID {command.PASID:#x}" if command.GN else ""
    first = "forget, then fetch" if command.Inval else "fetch"
    return f"For {device(command.DeviceID)}, {first} {command.PFCount} translations from {command.Address:#x}{whose}."


def _complete_ppr(command: spec.CompletePprRequest) -> str:
    status = command.Status.name if isinstance(command.Status, PPRStatus) else "FAILURE"
    whose = f", PASID {command.PASID:#x}" if command.GN else ""
    return f"Answer page-request group {command.Tag:#x} of {device(command.DeviceID)}{whose}: {status}."


_WORDS: Mapping[Opcode, Callable[..., str]] = {
    Opcode.COMPLETION_WAIT: _wait,
    Opcode.INVALIDATE_DEVTAB_ENTRY: lambda c: f"Forget the device table entry of {device(c.DeviceID)}.",
    Opcode.INVALIDATE_IOMMU_PAGES: _iommu_pages,
    Opcode.INVALIDATE_IOTLB_PAGES: _iotlb_pages,
    Opcode.INVALIDATE_INTERRUPT_TABLE: lambda c: f"Forget interrupt remapping entries of {device(c.DeviceID)}.",
    Opcode.PREFETCH_IOMMU_PAGES: _prefetch,
    Opcode.COMPLETE_PPR_REQUEST: _complete_ppr,
    Opcode.INVALIDATE_IOMMU_ALL: lambda _: "Forget every device table entry and translation.",
    Opcode.INSERT_GUEST_EVENT: lambda c: f"Put an event into the log of guest {c.GuestID:#x}.",
    Opcode.RESET_VMMIO: lambda c: (
        f"Clear the IOMMU registers of {'every guest' if c.All else f'guest {c.GuestID:#x}'}."
    ),
}
