"""The device table: 65536 entries, none of which lets DMA pass, each replaced so that hardware never sees a mixture.

Hardware reads an entry in one access of 256 bits; software stores halves of 128 bits (Linux: amd_iommu_update_dte).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from viommu_amd_viommu.host import entries, requests
from viommu_amd_viommu.spec.device_table import DTE
from viommu_amd_viommu.spec.registers import DeviceTableBase

if TYPE_CHECKING:
    from viommu.memory import PhysicalMemory
    from viommu_amd_viommu.host.command_queue import CommandQueue

ENTRIES = 1 << 16
PAGES = ENTRIES * DTE.size // 4096
HALF = DTE.size // 2
HALF_BITS = HALF * 8
LOWER = (1 << HALF_BITS) - 1

INTERRUPTS = (0xFFFF_FFFF_FFFF_FFFF & ~(0xF << 52)) << HALF_BITS
"""Bits of quadword 2 that belong to interrupt remapping: all but 55:52."""


@define(eq=False, repr=False)
class DeviceTable:
    """The table at ``base``. Entries are stored under the IOMMU's lock."""

    memory: PhysicalMemory
    queue: CommandQueue
    base: int

    def block_all(self) -> None:
        """Let nothing pass: every entry is valid, and has no rights."""
        self.memory.write(self.base, entries.untouched().encode() * ENTRIES)

    @property
    def register(self) -> DeviceTableBase:
        """Where the table is, as hardware is told."""
        return DeviceTableBase(Base=self.base, Size=PAGES - 1)

    def read(self, device: int) -> DTE:
        """Read an entry."""
        raw = self.memory.read(self.base + device * DTE.size, DTE.size)
        return DTE.decode(raw or bytes(DTE.size))

    def replace(self, device: int, entry: DTE) -> None:
        """Replace an entry, where it changes, and have hardware read it anew. Interrupt remapping stays as it is."""
        old = self.read(device)
        new = int(entry) & ~INTERRUPTS | int(old) & INTERRUPTS
        if new != int(old):
            self._store(device, old, DTE.decode(new))
            self._flush(device)

    def _store(self, device: int, old: DTE, new: DTE) -> None:
        """Let no mixture of halves be seen: what makes an entry valid, or guest tables used, comes last."""
        if not old.V:
            self._store_upper(device, new)
            self._store_lower(device, new)
        elif not new.V:
            self._store_lower(device, new)
            self._store_upper(device, new)
        elif not old.GV:
            self._store_upper(device, new)
            self._store_lower(device, new)
        elif not new.GV:
            self._store_lower(device, new)
            self._store_upper(device, new)
        else:
            if int(old) >> HALF_BITS != int(new) >> HALF_BITS:
                # Depth of guest tables, or whose device it is: no order is right for both, so it blocks in between.
                self._store_lower(device, entries.blocked())
                self._flush(device)
                self._store_upper(device, new)
            self._store_lower(device, new)

    def _store_lower(self, device: int, entry: DTE) -> None:
        raw = (int(entry) & LOWER).to_bytes(HALF, "little")
        self.memory.write(self.base + device * DTE.size, raw)

    def _store_upper(self, device: int, entry: DTE) -> None:
        raw = (int(entry) >> HALF_BITS).to_bytes(HALF, "little")
        self.memory.write(self.base + device * DTE.size + HALF, raw)

    def _flush(self, device: int) -> None:
        self.queue.submit([requests.device_entry(device)])
