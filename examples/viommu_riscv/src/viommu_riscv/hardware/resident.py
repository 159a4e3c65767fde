"""Finds the memory-resident interrupt file behind a guest's address, as a walk has just done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu_riscv.hardware.mrif import InterruptFile
from viommu_riscv.hardware.words import swapped_words
from viommu_riscv.spec.directories import ExtendedDeviceContext
from viommu_riscv.spec.msi import MrifMsiPte, MsiMode

if TYPE_CHECKING:
    from viommu_riscv.hardware.directories import Search


def file_at(search: Search, device: int, address: int) -> InterruptFile | None:
    """Find it; None where software has taken it away meanwhile."""
    context = search.device_context(device)
    if not isinstance(context, ExtendedDeviceContext) or not context.msiptp_MODE:
        return None
    at = context.msiptp_PPN | number_of(address >> 12, context.msi_addr_mask) * MrifMsiPte.size
    raw = search.memory.read(at, MrifMsiPte.size)
    if raw is None:
        return None
    entry = MrifMsiPte.decode(swapped_words(raw) if search.settings.big_endian else raw)
    search.log.fetched(MrifMsiPte, at, raw)
    return InterruptFile.of(entry) if entry.V and entry.M == MsiMode.MRIF and not entry.C else None


def number_of(page: int, mask: int) -> int:
    """Put the bits of a page number under a mask together: the number of an interrupt file."""
    number = at = 0
    while mask:
        lowest = mask & -mask
        number |= bool(page & lowest) << at
        mask, at = mask ^ lowest, at + 1
    return number
