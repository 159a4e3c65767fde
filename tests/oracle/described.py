"""A format whose answers are masks (`viommu._engine.Described`)."""

from __future__ import annotations

from attrs import frozen

from .stage import ALL_RIGHTS, EXECUTE, PRIVILEGED, READ, WRITE, Kind, Leaf, Stage, bits, missing_rights


@frozen
class Described:
    """See `viommu._engine.Described`."""

    table: int
    granule_lg2: int
    index_lg2: tuple[int, ...]
    address_mask: int
    present_mask: int
    present_value: int
    input_bits: int | None = None
    sign_extended: bool = False
    address_shift: int = 0
    leaf_mask: int = 0
    leaf_value: int = 0
    leaf_levels: int = 1
    read_mask: int = 0
    write_mask: int = 0
    execute_mask: int = 0
    user_mask: int = 0
    inverted_rights: int = 0
    hierarchical: bool = True
    accessed_mask: int = 0
    dirty_mask: int = 0
    table_reserved: int = 0
    leaf_reserved: int = 0
    output_bits: int = 64
    big_endian: bool = False

    def walk(self, stage: Stage, address: int, access: int) -> Leaf:
        """Every entry: present, reserved, level, size; then the rights, then the leaf's flags."""
        level = len(self.index_lg2) - 1
        stage.begin(level, self.big_endian)
        if not self._accepts(address):
            raise stage.fault(Kind.INPUT_SIZE)

        table = self.table
        user, privileged = ALL_RIGHTS, ALL_RIGHTS
        while True:
            shift = self.granule_lg2 + sum(self.index_lg2[:level])
            entry = stage.fetch(table + 8 * (address >> shift & bits(self.index_lg2[level] - 1, 0)), level)
            if entry & self.present_mask != self.present_value:
                raise stage.fault(Kind.TRANSLATION)
            is_leaf = self._is_leaf(entry, level)
            if entry & (self.leaf_reserved if is_leaf else self.table_reserved):
                raise stage.fault(Kind.RESERVED)
            pointed = (entry & self.address_mask) << self.address_shift & bits(63, 0)
            if is_leaf and pointed & bits(shift - 1, 0):
                raise stage.fault(Kind.MALFORMED)
            if pointed >> self.output_bits:
                raise stage.fault(Kind.ADDRESS_SIZE)
            if is_leaf or self.hierarchical:
                entry_user, entry_privileged = self._rights(entry)
                user &= entry_user
                privileged &= entry_privileged
            if is_leaf:
                break
            table = pointed
            level -= 1

        missing = missing_rights(access, privileged if access & PRIVILEGED else user)
        if missing:
            raise stage.fault(Kind.PERMISSION, missing)
        output = pointed | address & bits(shift - 1, 0)
        stage.check_output(output, shift)
        stage.update(entry | self.accessed_mask | (self.dirty_mask if access & WRITE else 0))
        return Leaf(output, shift, user, privileged, 0, level)

    def _accepts(self, address: int) -> bool:
        width = self.input_bits if self.input_bits is not None else self.granule_lg2 + sum(self.index_lg2)
        if self.sign_extended:
            above = address >> (width - 1)
            return above in (0, bits(63, width - 1) >> (width - 1))
        return not address >> width

    def _is_leaf(self, entry: int, level: int) -> bool:
        if level == 0:
            return True
        return bool(self.leaf_levels >> level & 1) and entry & self.leaf_mask == self.leaf_value

    def _rights(self, entry: int) -> tuple[int, int]:
        told = entry ^ self.inverted_rights
        rights = 0
        for mask, right in ((self.read_mask, READ), (self.write_mask, WRITE), (self.execute_mask, EXECUTE)):
            if told & mask == mask:
                rights |= right
        return rights if told & self.user_mask == self.user_mask else 0, rights
