"""Which commands this hardware refuses (AMD 48882, 2.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.commands import span_of
from viommu_amd_viommu.spec.command_meanings import ENDLESS, CommandAbilities, extent
from viommu_amd_viommu.spec.commands import (
    COMMANDS,
    InvalidateIommuPages,
    InvalidateIotlbPages,
    Opcode,
    PrefetchIommuPages,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu_amd_viommu.spec.commands import AnyCommand
    from viommu_amd_viommu.spec.registers import EFR

_GUEST_BIT = InvalidateIommuPages.GN.mask

NEEDS: Mapping[int, Callable[[EFR], int]] = {
    Opcode.PREFETCH_IOMMU_PAGES: lambda features: features.PreF,
    Opcode.COMPLETE_PPR_REQUEST: lambda features: features.PPR,
    Opcode.INVALIDATE_IOMMU_ALL: lambda features: features.IA,
    Opcode.INSERT_GUEST_EVENT: lambda _: 0,
    Opcode.RESET_VMMIO: lambda features: features.vIOMMU,
}
"""Opcodes that are illegal without a feature. INSERT_GUEST_EVENT always is: which event it inserts is not known."""

SIZED = (InvalidateIommuPages, InvalidateIotlbPages, PrefetchIommuPages)
"""Commands about a range of addresses, with S and Address."""


def abilities(features: EFR) -> CommandAbilities:
    """What decides which commands are described, and how."""
    return CommandAbilities(guest_tables=bool(features.GT), prefetch=bool(features.PreF))


def is_illegal(command: AnyCommand, features: EFR) -> bool:
    """Tell whether a command, decoded by its opcode, is an ILLEGAL_COMMAND_ERROR."""
    opcode = int(command.Opcode)
    if opcode not in COMMANDS or not NEEDS.get(opcode, _always)(features):
        return True
    if int(command) & reserved_bits(type(command), features):
        return True
    return isinstance(command, SIZED) and bool(command.S) and command.Address == ENDLESS


def reserved_bits(layout: type[AnyCommand], features: EFR) -> int:
    """The bits that must be zero: those without a field, and those of features that hardware lacks."""
    mask = layout.reserved_mask
    if not features.GT and "GN" in layout.fields:
        mask |= _GUEST_BIT
    if not features.InvIotlbType and layout is InvalidateIotlbPages:
        mask |= InvalidateIotlbPages.Type.mask
    return mask


def span(command: InvalidateIommuPages | InvalidateIotlbPages | PrefetchIommuPages) -> tuple[int, int]:
    """Give the first and last address of a command in `SIZED` (bytes)."""
    return span_of(extent(type(command)), int(command))


def _always(_: EFR) -> int:
    return 1
