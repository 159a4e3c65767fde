"""RISC-V Sv39, Sv48, Sv57 and their Svx4 forms (privileged specification, 12.3 to 12.6 and the hypervisor chapter).

Levels count as in the specification: 0 is the level of 4 KiB pages.
"""

from __future__ import annotations

from attrs import frozen

from .stage import EXECUTE, PRIVILEGED, READ, WRITE, Kind, Leaf, Stage, bits, missing_rights

VALID = 1 << 0
READABLE = 1 << 1
WRITABLE = 1 << 2
EXECUTABLE = 1 << 3
USER = 1 << 4
GLOBAL = 1 << 5
ACCESSED = 1 << 6
DIRTY = 1 << 7
PPN = bits(53, 10)
PBMT = bits(62, 61)
NAPOT = 1 << 63
NAPOT_LG2 = 16


@frozen
class Riscv:
    """See `viommu._engine.Riscv`."""

    table: int
    levels: int
    guest_stage: bool = False
    hardware_update: bool = False
    svpbmt: bool = False
    svnapot: bool = True
    svrsw60t59b: bool = False
    supervisor_user_access: bool = False
    output_bits: int = 56
    big_endian: bool = False

    def walk(self, stage: Stage, address: int, access: int) -> Leaf:
        """The algorithm of "Virtual Address Translation Process"."""
        stage.begin(self.levels - 1, self.big_endian)
        if not self._accepts(address):
            raise stage.fault(Kind.INPUT_SIZE)

        pte, level = self._descend(stage, address)
        if pte & PBMT == PBMT or (pte & NAPOT and not self._is_good_napot(pte, level)):
            raise stage.fault(Kind.TRANSLATION)
        user, privileged = self._rights(pte)
        missing = missing_rights(access, privileged if access & PRIVILEGED else user)
        if missing:
            raise stage.fault(Kind.PERMISSION, missing | (PRIVILEGED if self._privilege_refuses(pte, access) else 0))
        base = (pte & PPN) << 2
        if base & bits(12 + 9 * level - 1, 12):
            raise stage.fault(Kind.MALFORMED)
        size = NAPOT_LG2 if pte & NAPOT else 12 + 9 * level
        base &= -(1 << size)
        output = base | address & bits(size - 1, 0)
        desired = pte | ACCESSED | (DIRTY if access & WRITE else 0)
        if desired != pte and not self.hardware_update:
            raise stage.fault(Kind.ACCESS_FLAG)
        if base >> self.output_bits:
            raise stage.fault(Kind.ADDRESS_SIZE)
        stage.check_output(output, size)
        stage.update(desired)
        attrs = pte >> 61 & 3 | (pte >> 5 & 1) << 2
        return Leaf(output, size, user, privileged, attrs, level)

    def _descend(self, stage: Stage, address: int) -> tuple[int, int]:
        """Walk to the leaf: its entry and level."""
        table = self.table
        level = self.levels - 1
        index_mask = 2047 if self.guest_stage else 511  # Svx4: the root is four times as large
        while True:
            pte = stage.fetch(table + 8 * (address >> (12 + 9 * level) & index_mask), level)
            if not pte & VALID or pte & (READABLE | WRITABLE) == WRITABLE or pte & self._reserved():
                raise stage.fault(Kind.TRANSLATION)
            if pte & (READABLE | EXECUTABLE):
                return pte, level
            if level == 0 or pte & (ACCESSED | DIRTY | USER | PBMT | NAPOT):
                raise stage.fault(Kind.TRANSLATION)
            table = (pte & PPN) << 2
            if table >> self.output_bits:
                raise stage.fault(Kind.ADDRESS_SIZE)
            index_mask = 511
            level -= 1

    def _accepts(self, address: int) -> bool:
        if self.guest_stage:
            return not address >> (12 + 9 * self.levels + 2)
        sign = 12 + 9 * self.levels - 1
        return address >> sign in (0, bits(63, sign) >> sign)

    def _reserved(self) -> int:
        mask = bits(58, 54) if self.svrsw60t59b else bits(60, 54)
        if not self.svpbmt:
            mask |= PBMT
        if not self.svnapot:
            mask |= NAPOT
        return mask

    @staticmethod
    def _is_good_napot(pte: int, level: int) -> bool:
        """Svnapot defines one size: 64 KiB, of 4 KiB pages, with PPN[3:0] = 0b1000."""
        return level == 0 and pte >> 10 & 15 == 0b1000

    def _rights(self, pte: int) -> tuple[int, int]:
        """R, W and X of an unprivileged and a privileged access. The guest stage sees every access as a user's."""
        rights = (
            (READ if pte & READABLE else 0) | (WRITE if pte & WRITABLE else 0) | (EXECUTE if pte & EXECUTABLE else 0)
        )
        if self.guest_stage:
            rights = rights if pte & USER else 0
            return rights, rights
        if not pte & USER:
            return 0, rights
        return rights, rights & ~EXECUTE if self.supervisor_user_access else 0

    def _privilege_refuses(self, pte: int, access: int) -> bool:
        """Whether the U bit keeps this access out, whatever R, W and X say."""
        if self.guest_stage or not access & PRIVILEGED:
            return not pte & USER
        return bool(pte & USER) and (not self.supervisor_user_access or bool(access & EXECUTE))
