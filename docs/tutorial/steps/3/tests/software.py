"""What an operating system would do: it writes the device table and page tables into memory, by shifts and masks.

It uses none of the driver's layouts, so that a mistake in those is seen.
"""

from __future__ import annotations

from viommu import Iotlb, Machine, PhysicalMemory

DEVICE_TABLE, FIRST_TABLE = 0x1_0000, 0x20_0000
ENTRIES_LG2 = 8
PRESENT, WRITABLE, LEAF = 1, 2, 4
PAGE = 0x1000


class Software:
    """A machine with 4 MiB of memory, whose device table is empty at first."""

    def __init__(self) -> None:
        self.memory = PhysicalMemory()
        self.memory.place(0, bytearray(0x40_0000))
        self.machine = Machine("acme", self.memory, {"DTBASE": DEVICE_TABLE | ENTRIES_LG2, "CTRL": 1}, iotlb=Iotlb())
        self._free = FIRST_TABLE

    def set_entry(self, device: int, low: int, high: int = 0) -> None:
        """Write a device table entry."""
        self.memory.store(DEVICE_TABLE + 16 * device, low)
        self.memory.store(DEVICE_TABLE + 16 * device + 8, high)

    def translate_by(self, device: int, root: int, domain: int = 1) -> None:
        """Let page tables govern a device."""
        self.set_entry(device, 1 | 1 << 1 | root | domain << 52)

    def new_table(self) -> int:
        """Take memory for a table."""
        self._free += PAGE
        return self._free - PAGE

    def map(self, root: int, iova: int, pa: int, *, level: int = 0, writable: bool = True) -> None:
        """Map one page: of 4K at level 0, 2M at level 1, 1G at level 2."""
        table = root
        for above in range(2, level, -1):
            table = self._below(table + 8 * index_of(iova, above))
        entry = pa | PRESENT | (WRITABLE if writable else 0) | (LEAF if level else 0)
        self.memory.store(table + 8 * index_of(iova, level), entry)

    def _below(self, entry: int) -> int:
        value = self.memory.load(entry)
        if not value:
            value = self.new_table() | PRESENT | WRITABLE
            self.memory.store(entry, value)
        return value & ~0xFFF


def index_of(iova: int, level: int) -> int:
    """Say which entry of a table of ``level`` an IOVA uses."""
    return iova >> 12 + 9 * level & 0x1FF
