"""Memory-resident interrupt files: what becomes of a device's access to one (AIA 1.0, "MSI PTE, MRIF mode")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen
from viommu.platform import Interrupt

if TYPE_CHECKING:
    from viommu.memory import PhysicalMemory
    from viommu.platform import Platform

    from viommu_riscv.spec.msi import MrifMsiPte

MESSAGE_BYTES = 4
IDENTITIES = 2048
MOST_TRIES = 64
"""How often a word is exchanged for one with a bit more, while others change it."""


@frozen
class InterruptFile:
    """A file, and the notice that is sent when an interrupt was stored in it."""

    address: int
    notice: int
    notice_data: int

    @classmethod
    def of(cls, entry: MrifMsiPte) -> InterruptFile:
        """Take it from an MSI page-table entry."""
        return cls(entry.MRIF, entry.NPPN, entry.NID)

    def takes(self, memory: PhysicalMemory, platform: Platform, offset: int, data: bytes) -> bool:
        """Take a write to the page, at ``offset`` in it; False where it is aborted.

        Only 32 aligned bits are taken. What is no message (another place, an identity that no file has) is discarded.
        """
        if len(data) != MESSAGE_BYTES or offset % MESSAGE_BYTES:
            return False
        identity = int.from_bytes(data, "big" if offset & MESSAGE_BYTES else "little")
        if offset >> 3 or identity >= IDENTITIES:
            return True
        if not _set_bit(memory, self.address + 16 * (identity // 64), identity % 64):
            return False
        platform.interrupt(Interrupt("MRIF notice", self.notice, self.notice_data))
        return True


def _set_bit(memory: PhysicalMemory, at: int, bit: int) -> bool:
    """Set a bit of a little-endian word, whoever else changes the word meanwhile."""
    for _ in range(MOST_TRIES):
        word = memory.load(at)
        if word is None:
            return False
        stored = memory.compare_exchange(at, word, word | 1 << bit)
        if stored is not False:
            return bool(stored)
    return False
