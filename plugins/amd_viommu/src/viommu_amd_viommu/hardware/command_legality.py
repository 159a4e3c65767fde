"""Which commands this hardware refuses, for whole columns of one opcode at once (AMD 48882, 2.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viommu_amd_viommu.spec.commands import (
    COMMANDS,
    InvalidateIommuPages,
    InvalidateIotlbPages,
    Opcode,
    PrefetchIommuPages,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from viommu_amd_viommu.spec.commands import AnyCommand
    from viommu_amd_viommu.spec.registers import EFR

    Columns = Mapping[str, NDArray[np.uint64]]

PAGE_BITS = 12
_PAGE_NUMBER = (1 << 64 - PAGE_BITS) - 1
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


def illegal(opcode: int, rows: NDArray[np.uint8], features: EFR) -> NDArray[np.bool_]:
    """Tell for each row whether it is an ILLEGAL_COMMAND_ERROR. ``rows`` has shape (n, 16)."""
    layout = COMMANDS.get(opcode)
    if layout is None or not NEEDS.get(opcode, _always)(features):
        return np.ones(len(rows), np.bool_)
    words = np.ascontiguousarray(rows).view("<u8")
    refused = np.zeros(len(rows), np.bool_)
    reserved = reserved_bits(layout, features)
    for column, mask in enumerate((reserved & (1 << 64) - 1, reserved >> 64)):
        refused |= (words[:, column] & np.uint64(mask)) != 0
    return refused | _endless(layout.columns(rows)) if layout in SIZED else refused


def reserved_bits(layout: type[AnyCommand], features: EFR) -> int:
    """The bits that must be zero: those without a field, and those of features that hardware lacks."""
    mask = layout.reserved_mask
    if not features.GT and "GN" in layout.fields:
        mask |= _GUEST_BIT
    if not features.InvIotlbType and layout is InvalidateIotlbPages:
        mask |= InvalidateIotlbPages.Type.mask
    return mask


def ranges(columns: Columns) -> tuple[list[int], list[int]]:
    """Give the first and last address of each row of a command in `SIZED` (bytes).

    With S the size is twice that of the lowest zero bit of the address, counted from bit 12.
    """
    page = columns["Address"] >> np.uint64(PAGE_BITS)
    ones = page & ~(page + np.uint64(1))
    offsets = np.uint64((1 << PAGE_BITS) - 1)
    span = np.where(columns["S"] == 1, (ones << np.uint64(1) | np.uint64(1)) << np.uint64(PAGE_BITS) | offsets, offsets)
    return (columns["Address"] & ~span).tolist(), (columns["Address"] | span).tolist()


def _endless(columns: Columns) -> NDArray[np.bool_]:
    """Whether S is set and no bit of the address is zero: no size has that encoding."""
    endless: NDArray[np.bool_] = (columns["Address"] >> np.uint64(PAGE_BITS) == np.uint64(_PAGE_NUMBER)) & (
        columns["S"] == 1
    )
    return endless


def _always(_: EFR) -> int:
    return 1
