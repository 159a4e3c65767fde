"""AMD host tables of 1 to 6 levels (48882, 2.2.3; reference sheet: amd, section 6).

Level 0 is AMD's level 1.
"""

from __future__ import annotations

from attrs import frozen

from .stage import EXECUTE, READ, WRITE, Kind, Leaf, Stage, bits, missing_rights

PRESENT = 1 << 0
ACCESSED = 1 << 5
DIRTY = 1 << 6
READABLE = 1 << 61
WRITABLE = 1 << 62
ADDRESS = bits(51, 12)
LEAF_OF_DEFAULT_SIZE = 0
LEAF_OF_ENCODED_SIZE = 7
LEAF_RESERVED = bits(56, 52)
TABLE_RESERVED = bits(60, 52)


def level_shift(level: int) -> int:
    """Log2 of the default page size of ``level``."""
    return 12 + 9 * level


def next_level(entry: int) -> int:
    """AMD's number of the table that an entry points to, or one of the two leaf codes."""
    return entry >> 9 & 7


def encoded_size(entry: int) -> int:
    """Log2 of the size that a leaf with next level 7 tells by the lowest zero of its address from bit 12 on."""
    zeros = ~(entry & ADDRESS | bits(11, 0))
    return (zeros & -zeros).bit_length()


@frozen
class AmdV1:
    """See `viommu._engine.AmdV1`."""

    table: int
    mode: int
    accessed: bool = False
    dirty: bool = False
    output_bits: int = 52

    def walk(self, stage: Stage, address: int, access: int) -> Leaf:
        """Walk down levels, some of which may be skipped."""
        stage.begin(self.mode - 1)
        if address >> level_shift(self.mode):
            raise stage.fault(Kind.INPUT_SIZE)
        entry, level, rights = self._descend(stage, address, access)
        size = self._leaf_size(entry, level)
        if size is None:
            raise stage.fault(Kind.MALFORMED)
        if entry & LEAF_RESERVED:
            raise stage.fault(Kind.RESERVED)
        base = entry & ADDRESS & -(1 << size)
        if base >> self.output_bits:
            raise stage.fault(Kind.ADDRESS_SIZE)
        output = base | address & bits(size - 1, 0)
        stage.check_output(output, size)
        stage.update(self._updated(entry, access))
        attrs = entry >> 60 & 1 | (entry >> 59 & 1) << 1
        return Leaf(output, size, rights, rights, attrs, level)

    def _descend(self, stage: Stage, address: int, access: int) -> tuple[int, int, int]:
        """Walk to the leaf: the entry, its level, the rights so far."""
        table = self.table & ADDRESS
        level = self.mode - 1
        rights = READ | WRITE | EXECUTE
        while True:
            entry = stage.fetch(table + 8 * (address >> level_shift(level) & 511), level)
            if not entry & PRESENT:
                raise stage.fault(Kind.TRANSLATION)
            rights &= self._rights(entry)
            if missing_rights(access, rights):
                raise stage.fault(Kind.PERMISSION, missing_rights(access, rights))
            if next_level(entry) in {LEAF_OF_DEFAULT_SIZE, LEAF_OF_ENCODED_SIZE}:
                return entry, level, rights
            below = next_level(entry) - 1
            skipped = bits(level_shift(level) - 1, level_shift(below + 1))
            if below >= level or address & skipped:
                raise stage.fault(Kind.MALFORMED)
            if entry & TABLE_RESERVED:
                raise stage.fault(Kind.RESERVED)
            table = entry & ADDRESS
            if table >> self.output_bits:
                raise stage.fault(Kind.ADDRESS_SIZE)
            level = below

    @staticmethod
    def _rights(entry: int) -> int:
        return (READ | EXECUTE if entry & READABLE else 0) | (WRITE if entry & WRITABLE else 0)

    @staticmethod
    def _leaf_size(entry: int, level: int) -> int | None:
        """Log2 of the leaf's size; None where no leaf may be, or not of this size."""
        if level == 5:
            return None
        if next_level(entry) == LEAF_OF_DEFAULT_SIZE:
            return level_shift(level)
        size = encoded_size(entry)
        return size if level_shift(level) < size < level_shift(level + 1) else None

    def _updated(self, entry: int, access: int) -> int:
        if self.accessed:
            entry |= ACCESSED
        if self.dirty and access & WRITE:
            entry |= DIRTY
        return entry
