"""Root, context and PASID tables in memory: where the entry of a device, or of one of its PASIDs, lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu_vtd.host.frames import install
from viommu_vtd.spec.pasid import DIRECTORY_BITS, TABLE_BITS, PasidDirectoryEntry, PasidTableEntry
from viommu_vtd.spec.root_context import ContextEntry, RootEntry, ScalableContextEntry, ScalableRootEntry

if TYPE_CHECKING:
    from viommu.memory import PhysicalMemory
    from viommu_vtd.host.frames import Frames

PAGE = 4096
UPPER_HALF = 0x80
"""Bit of devfn that chooses between the two context tables of a bus."""


@define(eq=False)
class RootTable:
    """The root table of a unit, and the context tables below it. They stay once they are there."""

    memory: PhysicalMemory
    frames: Frames
    scalable: bool
    address: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.address = self.frames.allocate()

    def context(self, source: int) -> int:
        """Find the context entry of a source-id, making its table where there is none. Raises NoMemory."""
        return self._scalable(source) if self.scalable else self._legacy(source)

    def free(self) -> None:
        """Give the memory back."""
        pointers = ("LCTP", "UCTP") if self.scalable else ("CTP",)
        layout = ScalableRootEntry if self.scalable else RootEntry
        for bus in range(256):
            entry = layout.decode(self.memory.read(self.address + bus * layout.size, layout.size) or bytes(layout.size))
            for table in filter(None, (getattr(entry, name) for name in pointers)):
                self.frames.free(table)
        self.frames.free(self.address)

    def _legacy(self, source: int) -> int:
        at = self.address + (source >> 8) * RootEntry.size
        root = RootEntry.decode(self.memory.read(at, RootEntry.size) or bytes(RootEntry.size))
        if not root.P:
            root = RootEntry(P=1, CTP=self.frames.allocate())
            install(self.memory, at, root)
        return root.CTP + (source & 0xFF) * ContextEntry.size

    def _scalable(self, source: int) -> int:
        """Each half of a root entry stands for itself, so that a store of one word installs it."""
        upper = bool(source & UPPER_HALF)
        at = self.address + (source >> 8) * ScalableRootEntry.size + (8 if upper else 0)
        half = RootEntry.decode(self.memory.load(at) or 0)
        table = half.CTP if half.P else self.frames.allocate()
        if not half.P:
            self.memory.store(at, int(RootEntry(P=1, CTP=table)))
        return table + (source & UPPER_HALF - 1) * ScalableContextEntry.size


@define(eq=False)
class PasidTables:
    """The PASID directory of one device, and the tables below it, which stay once they are there.

    ``pasids``: how many PASIDs the device has (0: it has none). The directory has a page at least.
    """

    memory: PhysicalMemory
    frames: Frames
    pasids: int
    pages: int = field(init=False)
    directory: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        wanted = (self.pasids >> TABLE_BITS) * PasidDirectoryEntry.size
        self.pages = 1 << max(-(-wanted // PAGE) - 1, 0).bit_length()
        self.directory = self.frames.allocate(self.pages)

    @property
    def entries(self) -> int:
        """How many entries the directory has."""
        return self.pages * PAGE // PasidDirectoryEntry.size

    @property
    def directory_size(self) -> int:
        """What goes into PDTS."""
        return self.entries.bit_length() - 1 - DIRECTORY_BITS

    def entry(self, pasid: int) -> int:
        """Find the table entry of a PASID, making its table where there is none. Raises NoMemory."""
        at = self.directory + (pasid >> TABLE_BITS) * PasidDirectoryEntry.size
        found = PasidDirectoryEntry.decode(self.memory.load(at) or 0)
        if not found.P:
            found = PasidDirectoryEntry(P=1, SMPTBLPTR=self.frames.allocate())
            install(self.memory, at, found)
        return found.SMPTBLPTR + (pasid & (1 << TABLE_BITS) - 1) * PasidTableEntry.size

    def read(self, pasid: int) -> PasidTableEntry:
        """Read the table entry of a PASID; one whose table is not there is not present."""
        at = self.directory + (pasid >> TABLE_BITS) * PasidDirectoryEntry.size
        if not PasidDirectoryEntry.decode(self.memory.load(at) or 0).P:
            return PasidTableEntry()
        raw = self.memory.read(self.entry(pasid), PasidTableEntry.size)
        return PasidTableEntry.decode(raw or bytes(PasidTableEntry.size))

    def free(self) -> None:
        """Give the memory back."""
        for at in range(self.directory, self.directory + self.pages * PAGE, PasidDirectoryEntry.size):
            found = PasidDirectoryEntry.decode(self.memory.load(at) or 0)
            if found.P:
                self.frames.free(found.SMPTBLPTR)
        self.frames.free(self.directory, self.pages)
