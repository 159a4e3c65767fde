"""VT-d second-stage tables of 3 to 5 levels (VT-d 3.7, 9.8; order of checks: reference sheet, section 9)."""

from __future__ import annotations

from attrs import frozen

from .stage import EXECUTE, READ, WRITE, Kind, Leaf, Stage, bits, missing_rights

READABLE = 1 << 0
WRITABLE = 1 << 1
PAGE_SIZE = 1 << 7
ACCESSED = 1 << 8
DIRTY = 1 << 9
SNOOP = 1 << 11
TRANSIENT = 1 << 62
ADDRESS = bits(51, 12)


@frozen
class VtdSecondStage:
    """See `viommu._engine.VtdSecondStage`."""

    table: int
    levels: int
    input_bits: int = 64
    output_bits: int = 52
    page_2m: bool = True
    page_1g: bool = True
    accessed_dirty: bool = False
    updates_allowed: bool = True
    snoop_reserved: bool = False
    transient_reserved: bool = True
    legacy_order: bool = False

    def walk(self, stage: Stage, address: int, access: int) -> Leaf:
        """Tables first, then the accumulated rights, the output, and last the leaf's flags."""
        stage.begin(self.levels - 1)
        if address >> min(self.input_bits, 12 + 9 * self.levels):
            raise stage.fault(Kind.INPUT_SIZE)

        table = self.table & ADDRESS
        rights = READ | WRITE | EXECUTE
        level = self.levels - 1
        while True:
            shift = 12 + 9 * level
            entry = stage.fetch(table + 8 * (address >> shift & 511), level)
            if not entry & (READABLE | WRITABLE):
                raise stage.fault(Kind.TRANSLATION)
            rights &= self._rights(entry)
            if self.legacy_order and missing_rights(access, rights):
                raise stage.fault(Kind.PERMISSION, missing_rights(access, rights))
            is_leaf = level == 0 or bool(entry & PAGE_SIZE)
            if entry & self._reserved(level, is_leaf):
                raise stage.fault(Kind.RESERVED)
            if is_leaf:
                break
            self._set_flags(stage, entry, ACCESSED)
            table = entry & ADDRESS
            level -= 1

        if missing_rights(access, rights):
            raise stage.fault(Kind.PERMISSION, missing_rights(access, rights))
        output = entry & ADDRESS & -(1 << shift) | address & bits(shift - 1, 0)
        stage.check_output(output, shift)
        self._set_flags(stage, entry, ACCESSED | DIRTY if access & WRITE else ACCESSED)
        attrs = entry >> 11 & 1 | (entry >> 62 & 1) << 1
        return Leaf(output, shift, rights, rights, attrs, level)

    @staticmethod
    def _rights(entry: int) -> int:
        """Execution is granted where reading is: there is no execute bit any more."""
        return (READ | EXECUTE if entry & READABLE else 0) | (WRITE if entry & WRITABLE else 0)

    def _reserved(self, level: int, is_leaf: bool) -> int:
        mask = bits(51, self.output_bits)
        if level >= 3 or (level == 2 and not self.page_1g) or (level == 1 and not self.page_2m):
            mask |= PAGE_SIZE
        if not is_leaf:
            return mask | SNOOP | TRANSIENT
        if level:
            mask |= bits(12 + 9 * level - 1, 12)
        if self.snoop_reserved:
            mask |= SNOOP
        if self.transient_reserved:
            mask |= TRANSIENT
        return mask

    def _set_flags(self, stage: Stage, entry: int, flags: int) -> None:
        if not self.accessed_dirty or entry & flags == flags:
            return
        if not self.updates_allowed:
            raise stage.fault(Kind.UPDATE_FORBIDDEN, for_update=True)
        stage.update(entry | flags)
