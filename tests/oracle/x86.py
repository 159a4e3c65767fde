"""x86-64 tables of 4 or 5 levels: VT-d first stage (VT-d 3.6, 9.7), AMD v2 (48882, 2.2.7).

Level 0 is a PTE, 1 a PDE, 2 a PDPTE, 3 a PML4E, 4 a PML5E.
"""

from __future__ import annotations

from attrs import frozen

from .stage import ALL_RIGHTS, EXECUTE, PRIVILEGED, READ, WRITE, Kind, Leaf, Stage, bits

PRESENT = 1 << 0
WRITABLE = 1 << 1
USER = 1 << 2
ACCESSED = 1 << 5
DIRTY = 1 << 6
PAGE_SIZE = 1 << 7
EXTENDED_ACCESSED = 1 << 10
EXECUTE_DISABLE = 1 << 63
ADDRESS = bits(51, 12)


@frozen
class X86:
    """See `viommu._engine.X86`."""

    table: int
    levels: int
    output_bits: int = 52
    sign_extended: bool = True
    write_protect: bool = True
    no_execute: bool = True
    extended_accessed: bool = False
    accessed: bool = True
    dirty: bool = True
    updates_allowed: bool = True
    page_1g: bool = True

    def walk(self, stage: Stage, address: int, access: int) -> Leaf:
        """Each entry is judged, and its accessed flag set, before the next is read."""
        stage.begin(self.levels - 1)
        if not self._accepts(address):
            raise stage.fault(Kind.INPUT_SIZE)

        table = self.table & ADDRESS
        user_page, writable, executable = True, True, True
        level = self.levels - 1
        while True:
            shift = 12 + 9 * level
            entry = stage.fetch(table + 8 * (address >> shift & 511), level)
            if not entry & PRESENT:
                raise stage.fault(Kind.TRANSLATION)
            if not entry & USER and not access & PRIVILEGED:
                raise stage.fault(Kind.PERMISSION, PRIVILEGED)
            if not entry & WRITABLE and access & WRITE and (self.write_protect or not access & PRIVILEGED):
                raise stage.fault(Kind.PERMISSION, WRITE)
            if entry & EXECUTE_DISABLE and access & EXECUTE and self.no_execute:
                raise stage.fault(Kind.PERMISSION, EXECUTE)
            is_leaf = level == 0 or bool(entry & PAGE_SIZE)
            if entry & self._reserved(level, is_leaf):
                raise stage.fault(Kind.RESERVED)
            user_page = user_page and bool(entry & USER)
            writable = writable and bool(entry & WRITABLE)
            executable = executable and not (self.no_execute and entry & EXECUTE_DISABLE)
            if is_leaf:
                break
            self._set_flags(stage, entry, dirties=False)
            table = entry & ADDRESS
            level -= 1

        output = entry & ADDRESS & -(1 << shift) | address & bits(shift - 1, 0)
        stage.check_output(output, shift)
        self._set_flags(stage, entry, dirties=bool(access & WRITE))
        rights = READ | (WRITE if writable else 0) | (EXECUTE if executable else 0)
        privileged = rights if self.write_protect else (rights | WRITE) & ALL_RIGHTS
        attribute_table = entry >> 7 if level == 0 else entry >> 12
        attrs = entry >> 3 & 3 | (attribute_table & 1) << 2 | (entry >> 8 & 1) << 3
        return Leaf(output, shift, rights if user_page else 0, privileged, attrs, level)

    def _accepts(self, address: int) -> bool:
        """Canonical, or without sign extension the lower half."""
        above = address >> (12 + 9 * self.levels - 1)
        if not above:
            return True
        return self.sign_extended and above == bits(63, 12 + 9 * self.levels - 1) >> (12 + 9 * self.levels - 1)

    def _reserved(self, level: int, is_leaf: bool) -> int:
        mask = bits(51, self.output_bits)
        if level >= 3 or (level == 2 and not self.page_1g):
            mask |= PAGE_SIZE
        if is_leaf and level:
            mask |= bits(12 + 9 * level - 1, 13)  # bit 12 of a large leaf is PAT
        return mask

    def _set_flags(self, stage: Stage, entry: int, dirties: bool) -> None:
        desired = entry
        if self.accessed:
            desired |= ACCESSED | (EXTENDED_ACCESSED if self.extended_accessed else 0)
        if self.dirty and dirties:
            desired |= DIRTY
        if desired != entry and not self.updates_allowed:
            raise stage.fault(Kind.UPDATE_FORBIDDEN, for_update=True)
        stage.update(desired)
