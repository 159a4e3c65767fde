"""GCR3 tables of the host's making: from a PASID to the root of guest tables (AMD 48882, 2.2.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu_amd_viommu.spec.gcr3 import INDEX_BITS, GCR3Entry

if TYPE_CHECKING:
    from viommu.memory import PhysicalMemory
    from viommu.table_frames import TableFrames


def levels_for(pasids: int) -> int:
    """Say how many levels reach so many PASIDs."""
    return max(1, -(-(pasids - 1).bit_length() // INDEX_BITS))


@define(eq=False, repr=False)
class Gcr3Tables:
    """The tables of one device. Entries are stored whole, tables before what leads to them."""

    memory: PhysicalMemory
    frames: TableFrames
    levels: int
    root: int = field(init=False)
    _pages: list[int] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        """Make an empty top table. Raises NoMemory."""
        self.root = self._new_page()

    def prepare(self, pasid: int) -> None:
        """Have all tables that lead to a PASID's entry. Raises NoMemory."""
        self._entry_address(pasid)

    def set(self, pasid: int, root: int) -> None:
        """Let a PASID use the guest tables at ``root``. Raises NoMemory, unless it was prepared."""
        self._store(self._entry_address(pasid), root)

    def clear(self, pasid: int) -> None:
        """Let a PASID use nothing."""
        self.memory.store(self._entry_address(pasid), 0)

    def free(self) -> None:
        """Give the memory back: hardware looks at it no more."""
        for page in self._pages:
            self.frames.free(page)
        self._pages.clear()

    def _entry_address(self, pasid: int) -> int:
        table = self.root
        for level in reversed(range(1, self.levels)):
            at = _address(table, pasid, level)
            entry = GCR3Entry.decode(self.memory.read(at, GCR3Entry.size) or bytes(GCR3Entry.size))
            table = entry.Address if entry.V else self._new_page()
            if not entry.V:
                self._store(at, table)
        return _address(table, pasid, 0)

    def _store(self, at: int, address: int) -> None:
        self.memory.store(at, int(GCR3Entry(V=1, Address=address)))

    def _new_page(self) -> int:
        page = self.frames.allocate()
        self._pages.append(page)
        return page


def _address(table: int, pasid: int, level: int) -> int:
    return table + (pasid >> INDEX_BITS * level & (1 << INDEX_BITS) - 1) * GCR3Entry.size
