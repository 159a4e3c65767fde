"""A guest's own commands: judged as its hardware would, and rewritten for the host's IOMMU.

The guest's second stage is the host's business: it has host address spaces (GV=0), which on the host's IOMMU are those
of its GSCID. Device ids are those of its vDEVICEs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu_riscv.host import requests
from viommu_riscv.spec.command_meanings import iotinval_illegal, process_last
from viommu_riscv.spec.commands import (
    FUNCTIONS,
    GROUPS,
    Ats,
    AtsFunction,
    Command,
    Iodir,
    IodirFunction,
    Iofence,
    Iotinval,
    IotinvalFunction,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from viommu_riscv.host.device import HostDevice
    from viommu_riscv.spec.registers import Capabilities


@frozen
class Guest:
    """What a guest's numbers stand for."""

    tag: int
    able: Capabilities
    find: Callable[[int], HostDevice | None]
    known: Callable[[], Sequence[HostDevice]]


def rewrite(raw: bytes, guest: Guest) -> list[Command] | Iofence | None:
    """Give the host's commands for a guest's; a fence as it is; None where hardware would refuse it."""
    opcode = Command.decode(raw).opcode
    layout = GROUPS.get(opcode)
    if layout is None:
        return None
    command = layout.decode(raw)
    if command.reserved_set or command.func3 not in set(FUNCTIONS[opcode]):  # type: ignore[attr-defined]
        return None
    if isinstance(command, Iotinval):
        return _iotinval(command, guest)
    if isinstance(command, Iodir):
        return _iodir(command, guest)
    if isinstance(command, Ats):
        return _ats(command, guest)
    return command if isinstance(command, Iofence) and not command.WSI else None


def _iotinval(command: Iotinval, guest: Guest) -> list[Command] | None:
    """A guest has no second stage, and no guests."""
    if command.func3 != IotinvalFunction.VMA or command.GV:
        return None
    if iotinval_illegal(command, non_leaf=bool(guest.able.NL), ranges=bool(guest.able.S)):
        return None
    return [command.replace(GV=1, GSCID=guest.tag)]


def _iodir(command: Iodir, guest: Guest) -> list[Command] | None:
    """The device's context is what was attached; its processes' contexts are the guest's own."""
    if command.func3 == IodirFunction.INVAL_DDT and not command.DV:
        return None if command.PID else [requests.device_context(device.id) for device in guest.known()]
    device = guest.find(command.DID)
    if command.func3 == IodirFunction.INVAL_DDT:
        return None if command.PID else [] if device is None else [requests.device_context(device.id)]
    if not command.DV or process_last(guest.able) < command.PID:
        return None
    return [] if device is None else [requests.process_context(device.id, command.PID)]


def _ats(command: Ats, guest: Guest) -> list[Command] | None:
    """Responses to page requests the VMM keeps for itself."""
    if not guest.able.ATS or command.func3 != AtsFunction.INVAL:
        return None
    device = guest.find(command.RID | (command.DSEG << 16 if command.DSV else 0))
    if device is None or not device.ats:
        return []
    return [command.replace(RID=device.id & 0xFFFF, DSV=int(device.id > 0xFFFF), DSEG=device.id >> 16)]
