"""Device and process directories, as the host keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu_riscv.host.abilities import PROCESS_BITS
from viommu_riscv.spec.directories import (
    DeviceContext,
    DirectoryEntry,
    ExtendedDeviceContext,
    PdtpMode,
    ProcessContext,
)

if TYPE_CHECKING:
    from viommu.layout import Descriptor
    from viommu.memory import PhysicalMemory
    from viommu.table_frames import TableFrames

WORD = 8
INDEX_LG2 = 9


@define(eq=False, repr=False)
class Directory:
    """A directory of ``levels`` levels, whose last one is indexed by ``leaf_lg2`` bits of an id."""

    memory: PhysicalMemory
    frames: TableFrames
    levels: int
    leaf_lg2: int
    entry_size: int
    root: int = field(init=False)
    _tables: list[int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.root = self.frames.allocate()
        self._tables = [self.root]

    def find(self, number: int) -> int:
        """Find the place of an id, with tables made on the way. Raises NoMemory."""
        table = self.root
        for level in range(self.levels - 1, 0, -1):
            at = table + WORD * (number >> self.leaf_lg2 + INDEX_LG2 * (level - 1) & (1 << INDEX_LG2) - 1)
            entry = DirectoryEntry.decode(self.memory.load(at) or 0)
            if not entry.V:
                entry = DirectoryEntry(V=1, PPN=self.frames.allocate())
                self._tables.append(entry.PPN)
                self.memory.store(at, int(entry))
            table = entry.PPN
        return table + self.entry_size * (number & (1 << self.leaf_lg2) - 1)

    def free(self) -> None:
        """Give all tables back: hardware looks at them no more."""
        for table in self._tables:
            self.frames.free(table)


def device_directory(memory: PhysicalMemory, frames: TableFrames, *, extended: bool) -> Directory:
    """Make an empty device directory of three levels. Raises NoMemory."""
    layout = ExtendedDeviceContext if extended else DeviceContext
    return Directory(memory, frames, 3, 6 if extended else 7, layout.size)


def process_directory(memory: PhysicalMemory, frames: TableFrames, mode: PdtpMode) -> Directory:
    """Make an empty process directory. Raises NoMemory."""
    return Directory(memory, frames, -(-(PROCESS_BITS[mode] - 8) // INDEX_LG2) + 1, 8, ProcessContext.size)


def install(memory: PhysicalMemory, address: int, entry: Descriptor) -> None:
    """Write an entry that is not valid: its first word, which holds V, comes last."""
    raw = entry.encode()
    for at in range(entry.size - WORD, -1, -WORD):
        memory.store(address + at, int.from_bytes(raw[at : at + WORD], "little"))


def remove(memory: PhysicalMemory, address: int) -> None:
    """Make an entry invalid; nobody looks at the rest of it then."""
    memory.store(address, 0)
