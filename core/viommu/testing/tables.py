"""Guests' page tables, written and walked in plain Python by the shape that the driver gives: the kit's own walker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field, frozen

if TYPE_CHECKING:
    from viommu.io_page_table import TableShape
    from viommu.testing.guest_kit import GuestMemory

PAGE = 0x1000
WORD = 8


@frozen
class Leaf:
    """Where the reference walker comes to: an address, the leaf's size (log2), and whether DMA may write."""

    address: int
    lg2: int
    writable: bool


@define(eq=False)
class Tables:
    """One page table at ``root``. Level 0 holds the smallest leaf."""

    memory: GuestMemory
    shape: TableShape
    root: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Take the empty top table."""
        self.root = self.memory.take(max(self.shape.root_bytes // PAGE, 1))

    @property
    def table_pages(self) -> int:
        """Pages of a table below the top."""
        return max((1 << self.shape.granule_lg2) // PAGE, 1)

    def map(self, iova: int, address: int, *, level: int = 0, write: bool = True) -> int:
        """Enter a leaf of a level; where its entry is."""
        at = self.entry(iova, level)
        flags = self.shape.leaf_flags[level] or 0
        rights = self.shape.rights[3 if write else 1]
        self._store(at, flags | rights | self.stored(address))
        return at

    def unmap(self, iova: int, *, level: int = 0) -> int:
        """Take a leaf away; where its entry was."""
        at = self.entry(iova, level)
        self._store(at, 0)
        return at

    def entry(self, iova: int, level: int = 0) -> int:
        """Find the entry of a level, with tables on the way."""
        table = self.root
        for above in range(self.shape.levels - 1, level, -1):
            at = table + self._index(iova, above) * WORD
            if not self._load(at):
                below = self.memory.take(self.table_pages)
                self._store(at, self.shape.table_flags[above] | self.stored(below))
            table = self.address(self._load(at))
        return table + self._index(iova, level) * WORD

    def walk(self, iova: int) -> Leaf | None:
        """Find where an IOVA leads, by what is in memory now; None where nothing is mapped."""
        table = self.root
        for level in range(self.shape.levels - 1, -1, -1):
            entry = self._load(table + self._index(iova, level) * WORD)
            if not entry:
                return None
            if self._is_leaf(entry, level):
                lg2 = self.shape.span_lg2(level)
                start = self.address(entry) >> lg2 << lg2
                return Leaf(start | iova & (1 << lg2) - 1, lg2, self._is_writable(entry))
            table = self.address(entry)
        return None

    def entries(self, iova: int) -> str:
        """Write down the entries on the way to an IOVA, for people."""
        lines, table = [], self.root
        for level in range(self.shape.levels - 1, -1, -1):
            at = table + self._index(iova, level) * WORD
            entry = self._load(at)
            lines.append(f"level {level} at {at:#x}: {entry.to_bytes(WORD, 'little').hex(' ')} ({entry:#x})")
            if not entry or self._is_leaf(entry, level):
                break
            table = self.address(entry)
        return "\n".join(lines)

    def stored(self, address: int) -> int:
        """Say how an entry holds an address."""
        shape = self.shape
        return (address & shape.address_mask) >> shape.address_shift | (address & shape.high_mask) >> shape.high_shift

    def address(self, entry: int) -> int:
        """Read the address of an entry."""
        shape = self.shape
        return entry << shape.address_shift & shape.address_mask | entry << shape.high_shift & shape.high_mask

    def _is_leaf(self, entry: int, level: int) -> bool:
        """Level 0 holds leaves alone; above, flags of a leaf and of a table tell them apart where they differ."""
        leaf, table = self.shape.leaf_flags[level], self.shape.table_flags[level]
        if level == 0 or leaf is None:
            return level == 0
        apart = (leaf | self.shape.rights[1]) ^ table
        apart &= ~(self.shape.rights[1] ^ self.shape.rights[3])
        return (entry ^ (leaf | self.shape.rights[1])) & apart == 0

    def _is_writable(self, entry: int) -> bool:
        read, both = self.shape.rights[1], self.shape.rights[3]
        differs = read ^ both
        return not differs or entry & differs == both & differs

    def _index(self, iova: int, level: int) -> int:
        shape = self.shape
        top = shape.levels - 1
        bits = shape.root_bytes.bit_length() - 4 if level == top else shape.granule_lg2 - 3
        return iova >> shape.span_lg2(level) & (1 << bits) - 1

    def _load(self, at: int) -> int:
        return int.from_bytes(self.memory.read(at, WORD), "little")

    def _store(self, at: int, entry: int) -> None:
        self.memory.write(at, entry.to_bytes(WORD, "little"))
