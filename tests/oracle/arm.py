"""Arm VMSAv8-64 stage 1 and stage 2 (IHI 0070 and DDI 0487 D8; reference sheet: SMMUv3, section 9).

Levels are neutral: 0 is Arm's level 3.
"""

from __future__ import annotations

from typing import NamedTuple

from attrs import frozen

from .stage import EXECUTE, PRIVILEGED, READ, WRITE, Kind, Leaf, Stage, bits, missing_rights

VALID = 1 << 0
TABLE = 1 << 1
UNPRIVILEGED = 1 << 6  # AP[1]; S2AP[0] (read) at stage 2
READ_ONLY = 1 << 7  # AP[2]
S2_READ = 1 << 6
S2_WRITE = 1 << 7
ACCESS_FLAG = 1 << 10
DIRTY_BIT_MODIFIER = 1 << 51
PRIVILEGED_EXECUTE_NEVER = 1 << 53
EXECUTE_NEVER = 1 << 54
TABLE_PXN = 1 << 59
TABLE_XN = 1 << 60
TABLE_NO_UNPRIVILEGED = 1 << 61
TABLE_READ_ONLY = 1 << 62
BIT_55 = 1 << 55


def level_shift(granule_lg2: int, level: int) -> int:
    """The lowest input bit that indexes a table of ``level``: also log2 of a leaf there."""
    return granule_lg2 + (granule_lg2 - 3) * level


def start_level(input_bits: int, granule_lg2: int) -> int:
    """Stage 1: as few levels as resolve ``input_bits``."""
    return -((granule_lg2 - input_bits) // (granule_lg2 - 3)) - 1


def root_mask(input_bits: int, granule_lg2: int, top_level: int) -> int:
    """The address bits of a root table, which is aligned to its size (concatenation included)."""
    return -(8 << (input_bits - level_shift(granule_lg2, top_level)))


class Layout(NamedTuple):
    """How descriptors of one granule and output size are laid out."""

    granule_lg2: int
    large_52: bool
    output_bits: int

    @property
    def is_ds(self) -> bool:
        """Whether this is the 52-bit layout of 4K and 16K granules."""
        return self.large_52 and self.granule_lg2 < 16

    def may_hold_blocks(self, level: int) -> bool:
        """Whether a table of ``level`` (above 0) may hold blocks (9.1)."""
        if self.granule_lg2 == 12:
            return level in {1, 2} or (level == 3 and self.large_52)
        if self.granule_lg2 == 14:
            return level == 1 or (level == 2 and self.large_52)
        return level == 1 or (level == 2 and self.output_bits > 48)

    def address(self, descriptor: int) -> int:
        """The address in a table or leaf descriptor (9.2)."""
        if self.is_ds:
            return descriptor & bits(49, self.granule_lg2) | (descriptor & bits(9, 8)) << (50 - 8)
        address = descriptor & bits(47, self.granule_lg2)
        if self.granule_lg2 == 16 and self.output_bits > 48:
            address |= (descriptor & bits(15, 12)) << (48 - 12)
        return address

    def shareability(self, descriptor: int) -> int:
        """SH[1:0], whose place holds address bits in the 52-bit layout."""
        return 0 if self.is_ds else descriptor >> 8 & 3

    def descend(self, stage: Stage, root: int, input_bits: int, address: int, table_flag: int) -> tuple[int, int, int]:
        """Walk to the leaf: its descriptor, its level, and what the tables above it had set.

        ``table_flag`` is stored in every table descriptor on the way (the accessed flag, with HAFT).
        """
        level = stage.top_level
        table = root & root_mask(input_bits, self.granule_lg2, level)
        address &= bits(input_bits - 1, 0)
        index_mask = -1  # the root has as many entries as the input needs
        hierarchical = 0
        while True:
            index = address >> level_shift(self.granule_lg2, level) & index_mask
            descriptor = stage.fetch(table + 8 * index, level)
            if not descriptor & VALID:
                raise stage.fault(Kind.TRANSLATION)
            if level == 0 or not descriptor & TABLE:
                return descriptor, level, hierarchical
            table = self.address(descriptor)
            if table >> self.output_bits:
                raise stage.fault(Kind.ADDRESS_SIZE)
            stage.update(descriptor | table_flag)
            hierarchical |= descriptor
            index_mask = bits(self.granule_lg2 - 4, 0)
            level -= 1

    def leaf_output(self, stage: Stage, descriptor: int, level: int, address: int) -> int:
        """Where a leaf sends ``address``; faults where no leaf may be, or not one to there."""
        if not (self.may_hold_blocks(level) if level else descriptor & TABLE):
            raise stage.fault(Kind.TRANSLATION)
        shift = level_shift(self.granule_lg2, level)
        base = self.address(descriptor) & -(1 << shift)
        if base >> self.output_bits:
            raise stage.fault(Kind.ADDRESS_SIZE)
        return base | address & bits(shift - 1, 0)


@frozen
class ArmHalf:
    """TTB0 or TTB1 with its controls."""

    table: int
    input_bits: int
    granule_lg2: int
    top_byte_ignore: bool = False
    walks_disabled: bool = False
    unprivileged_disabled: bool = False
    ignore_hierarchical: bool = False


@frozen
class ArmStage1:
    """Stage 1: two halves selected by bit 55, or one."""

    lower: ArmHalf
    upper: ArmHalf | None = None
    output_bits: int = 48
    access_flag_faults: bool = True
    hardware_access: bool = False
    hardware_dirty: bool = False
    hardware_table_access: bool = False
    write_implies_no_execute: bool = False
    privileged_access_never: bool = False
    single_privilege: bool = False
    large_52: bool = False
    big_endian: bool = False

    def walk(self, stage: Stage, address: int, access: int) -> Leaf:
        """Select the half, walk it, apply AF, rights and dirty state."""
        half = self.upper if self.upper is not None and address & BIT_55 else self.lower
        stage.begin(start_level(half.input_bits, half.granule_lg2), self.big_endian)
        if not self._accepts(half, address, access):
            raise stage.fault(Kind.INPUT_SIZE)

        layout = Layout(half.granule_lg2, self.large_52, self.output_bits)
        flag = ACCESS_FLAG if self.hardware_access and self.hardware_table_access else 0
        descriptor, level, hierarchical = layout.descend(stage, half.table, half.input_bits, address, flag)
        if half.ignore_hierarchical:
            hierarchical = 0
        output = layout.leaf_output(stage, descriptor, level, address)
        if not descriptor & ACCESS_FLAG and self.access_flag_faults and not self.hardware_access:
            raise stage.fault(Kind.ACCESS_FLAG)

        user, privileged = self._rights(descriptor, hierarchical)
        missing = missing_rights(access, privileged if access & PRIVILEGED else user)
        if missing:
            raise stage.fault(Kind.PERMISSION, missing)

        page_lg2 = level_shift(half.granule_lg2, level)
        stage.check_output(output, page_lg2)
        stage.update(self._updated(descriptor, access))
        attrs = (
            descriptor >> 2 & 7
            | layout.shareability(descriptor) << 3
            | (descriptor >> 5 & 1) << 5
            | (descriptor >> 11 & 1) << 6
            | (descriptor >> 52 & 1) << 7
        )
        return Leaf(output, page_lg2, user, privileged, attrs, level)

    def _accepts(self, half: ArmHalf, address: int, access: int) -> bool:
        """Whether the address lies in ``half`` and walks of it are allowed to this access (9.5)."""
        if half.walks_disabled or (half.unprivileged_disabled and not access & PRIVILEGED):
            return False
        checked = bits(55 if half.top_byte_ignore else 63, half.input_bits)
        return address & checked == (checked if half is self.upper else 0)

    def _dirty_managed(self, descriptor: int) -> bool:
        return self.hardware_access and self.hardware_dirty and bool(descriptor & DIRTY_BIT_MODIFIER)

    def _rights(self, descriptor: int, hierarchical: int) -> tuple[int, int]:
        """Rights of an unprivileged and a privileged access (9.2)."""
        writable = not descriptor & READ_ONLY or self._dirty_managed(descriptor)
        writable = writable and not hierarchical & TABLE_READ_ONLY
        execute_never = bool(descriptor & EXECUTE_NEVER or hierarchical & TABLE_XN)
        wxn = self.write_implies_no_execute

        if self.single_privilege:
            rights = READ
            if writable:
                rights |= WRITE
            if not (execute_never or (wxn and writable)):
                rights |= EXECUTE
            return rights, rights

        user_reads = bool(descriptor & UNPRIVILEGED) and not hierarchical & TABLE_NO_UNPRIVILEGED
        user_writes = user_reads and writable
        privileged_execute_never = bool(descriptor & PRIVILEGED_EXECUTE_NEVER or hierarchical & TABLE_PXN)

        user = privileged = 0
        if user_reads:
            user |= READ
        if user_writes:
            user |= WRITE
        if not (execute_never or (wxn and user_writes)):
            user |= EXECUTE
        if not (self.privileged_access_never and user_reads):
            privileged |= READ
            if writable:
                privileged |= WRITE
        # Execution by the privileged of what the unprivileged may write is never allowed in AArch64.
        if not (privileged_execute_never or (wxn and writable) or user_writes):
            privileged |= EXECUTE
        return user, privileged

    def _updated(self, descriptor: int, access: int) -> int:
        if self.hardware_access:
            descriptor |= ACCESS_FLAG
        if access & WRITE and self._dirty_managed(descriptor):
            descriptor &= ~READ_ONLY
        return descriptor


@frozen
class ArmStage2:
    """Stage 2: one table, whose start tables may be concatenated."""

    table: int
    input_bits: int
    granule_lg2: int
    top_level: int
    output_bits: int = 48
    access_flag_faults: bool = True
    hardware_access: bool = False
    hardware_dirty: bool = False
    execute_never_extended: bool = False
    forced_write_back: bool = False
    protect_table_walk: bool = False
    large_52: bool = False
    big_endian: bool = False

    def walk(self, stage: Stage, address: int, access: int) -> Leaf:
        """Walk, then apply AF, rights (S2PTW among them) and dirty state."""
        stage.begin(self.top_level, self.big_endian)
        if address >> self.input_bits:
            raise stage.fault(Kind.INPUT_SIZE)

        layout = Layout(self.granule_lg2, self.large_52, self.output_bits)
        descriptor, level, _ = layout.descend(stage, self.table, self.input_bits, address, 0)
        output = layout.leaf_output(stage, descriptor, level, address)
        if not descriptor & ACCESS_FLAG and self.access_flag_faults and not self.hardware_access:
            raise stage.fault(Kind.ACCESS_FLAG)

        user, privileged = self._rights(descriptor)
        missing = missing_rights(access, privileged if access & PRIVILEGED else user)
        if missing:
            raise stage.fault(Kind.PERMISSION, missing)
        if stage.for_table and self.protect_table_walk and self._is_device(descriptor):
            raise stage.fault(Kind.PERMISSION, missing_rights(access, 0))

        page_lg2 = level_shift(self.granule_lg2, level)
        stage.check_output(output, page_lg2)
        stage.update(self._updated(descriptor, access))
        attrs = descriptor >> 2 & 15 | layout.shareability(descriptor) << 4 | (descriptor >> 52 & 1) << 7
        return Leaf(output, page_lg2, user, privileged, attrs, level)

    def _dirty_managed(self, descriptor: int) -> bool:
        return self.hardware_access and self.hardware_dirty and bool(descriptor & DIRTY_BIT_MODIFIER)

    def _rights(self, descriptor: int) -> tuple[int, int]:
        """S2AP and XN[1:0] (9.3). Execution needs no read right."""
        data = 0
        if descriptor & S2_READ:
            data |= READ
        if descriptor & S2_WRITE or self._dirty_managed(descriptor):
            data |= WRITE
        if not self.execute_never_extended:
            data |= 0 if descriptor & EXECUTE_NEVER else EXECUTE
            return data, data
        user_executes, privileged_executes = {
            0: (True, True),
            1: (True, False),
            2: (False, False),
            3: (False, True),
        }[descriptor >> 53 & 3]
        return data | (EXECUTE if user_executes else 0), data | (EXECUTE if privileged_executes else 0)

    def _is_device(self, descriptor: int) -> bool:
        """MemAttr[3:2] = 0 is Device; with forced write-back MemAttr[2] = 0 is."""
        return not descriptor & (bits(4, 4) if self.forced_write_back else bits(5, 4))

    def _updated(self, descriptor: int, access: int) -> int:
        if self.hardware_access:
            descriptor |= ACCESS_FLAG
        if access & WRITE and self._dirty_managed(descriptor):
            descriptor |= S2_WRITE
        return descriptor
