"""Which method of the command unit executes a command that has no neutral meaning, and its arguments."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import frozen

from viommu_smmuv3_cmdqv.hardware.command_unit import CommandUnit
from viommu_smmuv3_cmdqv.spec.commands import CommandOpcode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu_smmuv3_cmdqv.spec.queue_registers import CommandError

Arguments: TypeAlias = "tuple[int | None, ...]"
PAGE_LG2 = 12
WHOLE_SPACE = 52
"""ATC_INV.Size that spans every page there is; larger ones are reserved and act as it."""


@frozen
class Operation:
    """One command: what it does, and how its fields become the arguments of that."""

    act: Callable[..., CommandError | None]
    arguments: Callable[[Any], Arguments]


def _fields(*names: str) -> Callable[[Any], Arguments]:
    return lambda command: tuple(getattr(command, name) for name in names)


def _device_span(command: Any) -> Arguments:  # noqa: ANN401 - each command has its own fields
    """A message without a PASID reaches entries of every PASID: software has no other way to drop all."""
    length = 1 << PAGE_LG2 + min(command.Size, WHOLE_SPACE)
    start = command.Address & -length
    whole = not command.SSV or command.Global
    return command.SID, _substream(command), start, start + length - 1, whole


def _response(command: Any) -> Arguments:  # noqa: ANN401
    return command.SID, _substream(command), command.PRGIndex, command.Resp


def _substream(command: Any) -> int | None:  # noqa: ANN401
    return command.SSID if command.SSV else None


OPERATIONS: Mapping[CommandOpcode, Operation] = MappingProxyType(
    {
        CommandOpcode.ATC_INV: Operation(CommandUnit.forget_in_device, _device_span),
        CommandOpcode.PRI_RESP: Operation(CommandUnit.answer_pages, _response),
        CommandOpcode.RESUME: Operation(CommandUnit.resume, _fields("SID", "STAG", "Ac", "Ab")),
        CommandOpcode.STALL_TERM: Operation(CommandUnit.terminate, _fields("SID")),
        CommandOpcode.SYNC: Operation(CommandUnit.synchronize, _fields("CS", "MSIAddress", "MSIData")),
    }
)
"""What is executed here. What commands do to caches is described (`spec.command_meanings`); any other is illegal."""
