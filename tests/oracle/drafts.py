"""Random parameters for every format, and how its table and leaf entries are drawn up.

A `Draft` is a format whose roots have no place yet, with one `Tree` for each root. Bits that grant something are
mostly set, so that most walks get deep. A wrong draft could only make the tables more corrupt than was meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, field, frozen

from .amd_v1 import AmdV1
from .arm import ArmHalf, ArmStage1, ArmStage2, Layout, level_shift, start_level
from .described import Described
from .riscv import Riscv
from .stage import bits
from .vtd_ss import VtdSecondStage
from .x86 import X86

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from .stage import Format


def one_in(rng: Random, n: int) -> bool:
    """True once in ``n`` times."""
    return rng.randrange(n) == 0


def noise(rng: Random, mask: int) -> int:
    """Some of the mask's bits, or as often none."""
    return rng.getrandbits(64) & mask if one_in(rng, 2) else 0


@frozen
class Odds:
    """How careless the author of one stage's tables is: one entry in so many is odd."""

    n: int
    fresh: bool
    """Whether accessed and dirty flags are left to chance; else they are mostly set."""

    @classmethod
    def draw(cls, rng: Random) -> Odds:
        """Mostly careful, because a nested walk reads two dozen entries."""
        return cls(rng.choice([10, 40, 200, 1000]), one_in(rng, 3))

    def used(self, rng: Random, *masks: int) -> int:
        """Accessed and dirty flags."""
        return sum(mask for mask in masks if not one_in(rng, 3 if self.fresh else self.n))

    def flags(self, rng: Random, *masks: int) -> int:
        """Each of ``masks``, but for an odd one."""
        return sum(mask for mask in masks if not one_in(rng, self.n))

    def rarely(self, rng: Random, mask: int) -> int:
        """Some of the mask's bits in an odd entry."""
        return rng.getrandbits(64) & mask if one_in(rng, self.n) else 0


@frozen
class Tree:
    """The tables under one root. Level n indexes input bits from ``shifts[n]`` up."""

    shifts: Sequence[int]
    input_bits: int
    output_bits: int
    pointer: Callable[[Random, int, int], int]
    """(rng, level of the table pointed to, its address) -> entry."""
    leaf: Callable[[Random, int, int, int], int]
    """(rng, level, log2 of the size, output address) -> entry."""
    leaf_sizes: Callable[[int], list[int]]
    """Log2 of the sizes that a leaf of a level may have."""
    skips_levels: bool = False
    high_bits: int = 0
    """Set in every input: the sign of an upper half."""
    free_bits: int = 0
    """Ignored in an input."""
    root_lg2: int = field()
    slack: int = 0
    """Log2 of the bytes that a table may be aligned to beyond its own size."""

    @root_lg2.default
    def _root_lg2(self) -> int:
        return 3 + self.input_bits - self.shifts[-1]

    @property
    def top_level(self) -> int:
        """The level of the root."""
        return len(self.shifts) - 1

    def table_lg2(self, level: int) -> int:
        """Log2 of the size of a table of ``level``."""
        if level == self.top_level:
            return self.root_lg2
        return max(3 + self.shifts[level + 1] - self.shifts[level], self.slack)

    def slot(self, table: int, level: int, address: int) -> int:
        """The address of the entry for ``address``."""
        index = (address & bits(self.input_bits - 1, 0)) >> self.shifts[level]
        if level < self.top_level:
            index &= bits(self.shifts[level + 1] - self.shifts[level] - 1, 0)
        return table + 8 * index

    def copies(self, slot: int, level: int, size: int) -> list[int]:
        """Every entry that a leaf of ``size`` at ``slot`` is written to."""
        count = 1 << size - self.shifts[level]
        first = slot & -8 * count
        return list(range(first, first + 8 * count, 8))

    def level_below(self, rng: Random, level: int, address: int) -> int:
        """The level of the next table: the next one down, or any whose skipped bits are zero."""
        below = level - 1
        while self.skips_levels and below > 0 and not one_in(rng, 3):
            if address & bits(self.shifts[level] - 1, self.shifts[below]):
                break
            below -= 1
        return below

    def some_input(self, rng: Random) -> int:
        """An address that this root translates."""
        address = rng.getrandbits(self.input_bits)
        if self.skips_levels and one_in(rng, 2):
            address &= ~bits(rng.randint(20, 60), 20)
        return address & bits(63, 0) | self.high_bits | rng.getrandbits(64) & self.free_bits


@frozen
class Draft:
    """A format without roots: ``finish`` takes their addresses, one for each tree or one for all."""

    trees: list[Tree]
    finish: Callable[[list[int]], Format]
    big_endian: bool = False
    one_root: bool = True

    @property
    def input_bits(self) -> int:
        """Inputs below two to this are translated."""
        return self.trees[0].input_bits

    @property
    def output_bits(self) -> int:
        """Addresses in entries are below two to this."""
        return self.trees[0].output_bits


# Arm ------------------------------------------------------------------------------------------------------------


def _placed(layout: Layout, address: int) -> int:
    """The address where a descriptor holds it."""
    if layout.is_ds:
        return address & bits(49, layout.granule_lg2) | address >> (50 - 8) & bits(9, 8)
    placed = address & bits(47, layout.granule_lg2)
    if layout.granule_lg2 == 16:
        placed |= address >> (48 - 12) & bits(15, 12)
    return placed


def _arm_tree(odds: Odds, layout: Layout, input_bits: int, top_level: int, *, stage2: bool) -> Tree:
    allowed = bits(9, 8) if layout.is_ds else 0  # no random shareability where it is an address

    def pointer(rng: Random, level: int, table: int) -> int:  # noqa: ARG001
        descriptor = _placed(layout, table) | 3 | noise(rng, bits(11, 2) & ~allowed & ~bits(15, 12))
        return descriptor | noise(rng, bits(58, 52)) | (rng.getrandbits(64) & bits(63, 59) if one_in(rng, 4) else 0)

    def leaf(rng: Random, level: int, size: int, address: int) -> int:  # noqa: ARG001
        descriptor = _placed(layout, address) | (1 if level else 3) | odds.flags(rng, 1 << 6) | odds.used(rng, 1 << 10)
        if stage2:
            descriptor |= odds.flags(rng, 1 << 7) | rng.getrandbits(64) & bits(5, 2)
        else:
            descriptor |= (0 if one_in(rng, 2) else 1 << 7) | noise(rng, bits(5, 2) | bits(11, 11))
        descriptor |= noise(rng, bits(9, 8) & ~allowed) | noise(rng, 1 << 51 | bits(63, 55) | 1 << 52)
        return descriptor | (rng.getrandbits(64) & bits(54, 53) if one_in(rng, 3) else 0)

    def leaf_sizes(level: int) -> list[int]:
        return [level_shift(layout.granule_lg2, level)] if not level or layout.may_hold_blocks(level) else []

    return Tree(
        shifts=[level_shift(layout.granule_lg2, level) for level in range(top_level + 1)],
        input_bits=input_bits,
        output_bits=layout.output_bits,
        pointer=pointer,
        leaf=leaf,
        leaf_sizes=leaf_sizes,
    )


def draft_arm_stage1(rng: Random) -> Draft:
    """One or two halves, each with a granule of its own."""
    odds = Odds.draw(rng)
    large_52 = one_in(rng, 3)
    single = one_in(rng, 6)
    output_bits = rng.choice([32, 36, 40, 44, 48, 48, 52, 52])

    def half() -> ArmHalf:
        granule = rng.choice([12, 12, 12, 14, 16])
        longest = 52 if large_52 or granule == 16 else 48
        return ArmHalf(
            table=0,
            input_bits=rng.choice([longest, 48, 39, rng.randint(granule + 4, longest)]),
            granule_lg2=granule,
            top_byte_ignore=one_in(rng, 3),
            walks_disabled=one_in(rng, 20),
            unprivileged_disabled=not single and one_in(rng, 20),
            ignore_hierarchical=one_in(rng, 4),
        )

    halves = [half()] if single or one_in(rng, 4) else [half(), half()]
    trees = [
        evolve(
            _arm_tree(
                odds,
                Layout(half.granule_lg2, large_52, output_bits),
                half.input_bits,
                start_level(half.input_bits, half.granule_lg2),
                stage2=False,
            ),
            high_bits=bits(55 if half.top_byte_ignore else 63, half.input_bits) if which else 0,
            free_bits=bits(63, 56) if half.top_byte_ignore else 0,
        )
        for which, half in enumerate(halves)
    ]
    options = ArmStage1(
        lower=halves[0],
        output_bits=output_bits,
        access_flag_faults=not one_in(rng, 3),
        hardware_access=one_in(rng, 2),
        hardware_dirty=one_in(rng, 2),
        hardware_table_access=one_in(rng, 4),
        write_implies_no_execute=one_in(rng, 5),
        privileged_access_never=one_in(rng, 5),
        single_privilege=single,
        large_52=large_52,
        big_endian=one_in(rng, 5),
    )

    def finish(roots: list[int]) -> ArmStage1:
        placed = [evolve(half, table=root) for half, root in zip(halves, roots, strict=True)]
        return evolve(options, lower=placed[0], upper=placed[1] if len(placed) > 1 else None)

    return Draft(trees, finish, options.big_endian, one_root=False)


def draft_arm_stage2(rng: Random) -> Draft:
    """Any start level, with up to sixteen concatenated tables."""
    odds = Odds.draw(rng)
    large_52 = one_in(rng, 4)
    output_bits = rng.choice([32, 36, 40, 44, 48, 48, 52, 52])
    granule = rng.choice([12, 12, 12, 14, 16])
    longest = 52 if large_52 or granule == 16 else 48
    stride = granule - 3
    deepest = -((granule - longest) // stride) - 1
    top_level = rng.choice([level for level in range(deepest + 1) if level_shift(granule, level) >= 21])
    narrowest = level_shift(granule, top_level) + 1
    widest = min(longest, level_shift(granule, top_level + 1) + 4)
    input_bits = rng.choice([widest, rng.randint(narrowest, widest)])
    options = ArmStage2(
        table=0,
        input_bits=input_bits,
        granule_lg2=granule,
        top_level=top_level,
        output_bits=output_bits,
        access_flag_faults=not one_in(rng, 3),
        hardware_access=one_in(rng, 2),
        hardware_dirty=one_in(rng, 2),
        execute_never_extended=one_in(rng, 2),
        forced_write_back=one_in(rng, 2),
        protect_table_walk=one_in(rng, 4),
        large_52=large_52,
        big_endian=one_in(rng, 5),
    )
    tree = _arm_tree(odds, Layout(granule, large_52, output_bits), input_bits, top_level, stage2=True)
    return Draft([tree], lambda roots: evolve(options, table=roots[0]), options.big_endian)


# x86-64, VT-d second stage ----------------------------------------------------------------------------------------


def draft_x86(rng: Random) -> Draft:
    """Four or five levels, either sign rule."""
    odds = Odds.draw(rng)
    levels = rng.choice([4, 4, 5])
    output_bits = rng.choice([36, 39, 46, 48, 52, 52])
    accessed_flag = not one_in(rng, 4)
    options = X86(
        table=0,
        levels=levels,
        output_bits=output_bits,
        sign_extended=not one_in(rng, 3),
        write_protect=not one_in(rng, 3),
        no_execute=not one_in(rng, 3),
        extended_accessed=one_in(rng, 4),
        accessed=accessed_flag,
        dirty=accessed_flag if not one_in(rng, 4) else one_in(rng, 2),
        updates_allowed=not one_in(rng, 6),
        page_1g=not one_in(rng, 4),
    )
    accessed = 1 << 5 if one_in(rng, 4) else 0  # in every entry, or where chance puts it
    ignored = bits(4, 3) | bits(11, 8) | bits(62, 52)

    def common(rng: Random) -> int:
        entry = odds.flags(rng, 1, 1 << 1, 1 << 2) | accessed | noise(rng, ignored | bits(6, 5))
        return entry | odds.rarely(rng, 1 << 63)

    def pointer(rng: Random, level: int, table: int) -> int:  # noqa: ARG001
        return table | common(rng)

    def leaf(rng: Random, level: int, size: int, address: int) -> int:
        attribute_table = noise(rng, 1 << 12 if level else 1 << 7)
        return address | common(rng) | (1 << 7 if level else 0) | attribute_table | odds.rarely(rng, bits(size - 1, 12))

    top = 12 + 9 * levels - 1
    tree = Tree(
        shifts=[12 + 9 * level for level in range(levels)],
        input_bits=top,
        output_bits=output_bits,
        pointer=pointer,
        leaf=leaf,
        leaf_sizes=lambda level: [12 + 9 * level] if level <= (2 if options.page_1g else 1) else [],
        root_lg2=12,
    )
    trees = [tree]
    if options.sign_extended:
        trees.append(evolve(tree, high_bits=bits(63, top), input_bits=top + 1))
    return Draft(trees, lambda roots: evolve(options, table=roots[0]))


def draft_vtd_second_stage(rng: Random) -> Draft:
    """Legacy and scalable order, every capability on and off."""
    odds = Odds.draw(rng)
    levels = rng.choice([3, 4, 4, 5])
    output_bits = rng.choice([36, 39, 46, 48, 52, 52])
    width = 12 + 9 * levels
    options = VtdSecondStage(
        table=0,
        levels=levels,
        input_bits=64 if one_in(rng, 2) else rng.randint(32, 57),
        output_bits=output_bits,
        page_2m=not one_in(rng, 4),
        page_1g=not one_in(rng, 4),
        accessed_dirty=one_in(rng, 2),
        updates_allowed=not one_in(rng, 6),
        snoop_reserved=one_in(rng, 3),
        transient_reserved=one_in(rng, 2),
        legacy_order=one_in(rng, 2),
    )
    ignored = bits(6, 2) | bits(10, 8) | bits(61, 52) | 1 << 63

    def common(rng: Random) -> int:
        return odds.flags(rng, 1, 1 << 1) | noise(rng, ignored)

    def pointer(rng: Random, level: int, table: int) -> int:  # noqa: ARG001
        return table | common(rng) | odds.rarely(rng, 1 << 11 | 1 << 62)

    def leaf(rng: Random, level: int, size: int, address: int) -> int:
        entry = address | common(rng) | (1 << 7 if level else noise(rng, 1 << 7)) | odds.rarely(rng, bits(size - 1, 12))
        snoop = odds.rarely(rng, 1 << 11) if options.snoop_reserved else noise(rng, 1 << 11)
        return entry | snoop | (odds.rarely(rng, 1 << 62) if options.transient_reserved else noise(rng, 1 << 62))

    def leaf_sizes(level: int) -> list[int]:
        allowed = {0: True, 1: options.page_2m, 2: options.page_1g}
        return [12 + 9 * level] if allowed.get(level, False) else []

    tree = Tree(
        shifts=[12 + 9 * level for level in range(levels)],
        input_bits=min(width, options.input_bits),
        output_bits=output_bits,
        pointer=pointer,
        leaf=leaf,
        leaf_sizes=leaf_sizes,
        root_lg2=12,
    )
    return Draft([tree], lambda roots: evolve(options, table=roots[0]))


# AMD --------------------------------------------------------------------------------------------------------------


def draft_amd_v1(rng: Random) -> Draft:
    """Modes 1 to 6, skipped levels, every page size."""
    odds = Odds.draw(rng)
    mode = rng.choice([1, 2, 3, 3, 4, 4, 5, 6, 6])
    output_bits = rng.choice([40, 48, 52, 52])
    accessed = one_in(rng, 2)
    options = AmdV1(table=0, mode=mode, accessed=accessed, dirty=accessed and one_in(rng, 2), output_bits=output_bits)

    def common(rng: Random) -> int:
        return odds.flags(rng, 1, 1 << 61, 1 << 62) | noise(rng, bits(4, 1) | bits(8, 5) | 1 << 63)

    def pointer(rng: Random, level: int, table: int) -> int:
        next_level = rng.randrange(8) if one_in(rng, odds.n) else level + 1
        return table | next_level << 9 | common(rng) | odds.rarely(rng, bits(60, 52))

    def leaf(rng: Random, level: int, size: int, address: int) -> int:
        entry = address | common(rng) | noise(rng, bits(60, 57)) | odds.rarely(rng, bits(56, 52))
        if size == 12 + 9 * level:
            return entry | noise(rng, bits(size - 1, 12))
        return entry | bits(size - 2, 12) & bits(51, 12) | 7 << 9

    def leaf_sizes(level: int) -> list[int]:
        return list(range(12 + 9 * level, 12 + 9 * level + 9)) if level < 5 else []

    tree = Tree(
        shifts=[12 + 9 * level for level in range(mode)],
        input_bits=min(64, 12 + 9 * mode),
        output_bits=output_bits,
        pointer=pointer,
        leaf=leaf,
        leaf_sizes=leaf_sizes,
        skips_levels=True,
        root_lg2=12,
    )
    return Draft([tree], lambda roots: evolve(options, table=roots[0]))


# RISC-V -----------------------------------------------------------------------------------------------------------


def _draft_riscv(rng: Random, *, guest_stage: bool) -> Draft:
    odds = Odds.draw(rng)
    levels = rng.choice([3, 3, 4, 5])
    output_bits = rng.choice([56, 56, 56, 34, 44, 50])
    options = Riscv(
        table=0,
        levels=levels,
        guest_stage=guest_stage,
        hardware_update=one_in(rng, 2),
        svpbmt=one_in(rng, 2),
        svnapot=one_in(rng, 2),
        svrsw60t59b=one_in(rng, 4),
        supervisor_user_access=not guest_stage and one_in(rng, 2),
        output_bits=output_bits,
        big_endian=one_in(rng, 5),
    )

    software = bits(60, 59) if options.svrsw60t59b else 0

    def pointer(rng: Random, level: int, table: int) -> int:  # noqa: ARG001
        reserved = odds.rarely(rng, 1 << 4 | bits(7, 6) | bits(63, 54))
        return table >> 2 | odds.flags(rng, 1) | noise(rng, 1 << 5 | bits(9, 8) | software) | reserved

    def leaf(rng: Random, level: int, size: int, address: int) -> int:  # noqa: ARG001
        user = odds.flags(rng, 1 << 4) if guest_stage else rng.choice([0, 1 << 4, 1 << 4])
        entry = address >> 2 | odds.flags(rng, 1, 1 << 1, 1 << 2, 1 << 3) | odds.used(rng, 1 << 6, 1 << 7) | user
        entry |= noise(rng, 1 << 5 | bits(9, 8) | software) | odds.rarely(rng, bits(60, 54) | bits(size - 3, 10))
        entry |= (
            (3 if one_in(rng, odds.n) else rng.randrange(3)) << 61 if options.svpbmt else odds.rarely(rng, bits(62, 61))
        )
        return entry | (1 << 63 | 8 << 10 if size == 16 else odds.rarely(rng, 1 << 63))

    def leaf_sizes(level: int) -> list[int]:
        return [12, 16] if not level and options.svnapot else [12 + 9 * level]

    width = 12 + 9 * levels + (2 if guest_stage else -1)
    tree = Tree(
        shifts=[12 + 9 * level for level in range(levels)],
        input_bits=width,
        output_bits=output_bits,
        pointer=pointer,
        leaf=leaf,
        leaf_sizes=leaf_sizes,
        root_lg2=14 if guest_stage else 12,
    )
    trees = [tree]
    if not guest_stage:
        trees.append(evolve(tree, high_bits=bits(63, width), input_bits=width + 1))
    return Draft(trees, lambda roots: evolve(options, table=roots[0]), options.big_endian)


def draft_riscv(rng: Random) -> Draft:
    """Sv39, Sv48, Sv57."""
    return _draft_riscv(rng, guest_stage=False)


def draft_riscv_guest(rng: Random) -> Draft:
    """Sv39x4, Sv48x4, Sv57x4."""
    return _draft_riscv(rng, guest_stage=True)


# Described --------------------------------------------------------------------------------------------------------


def draft_described(rng: Random) -> Draft:
    """A format that no vendor has: flags at random bits, levels of random widths."""
    odds = Odds.draw(rng)
    granule = rng.choice([12, 12, 12, 13, 14, 16])
    widths: list[int] = []
    for _ in range(rng.randint(2, 5)):
        if granule + sum(widths) < 50:
            widths.append(rng.randint(5, 12))
    total = granule + sum(widths)
    shifts = [granule + sum(widths[:level]) for level in range(len(widths))]
    address_shift = rng.choice([0, 0, 0, 2, 4])
    free = [bit for bit in range(64) if not bits(55 - address_shift, 12 - address_shift) >> bit & 1]
    rng.shuffle(free)

    def take(chance_of_none: int = 0) -> int:
        return 0 if chance_of_none and one_in(rng, chance_of_none) else 1 << free.pop()

    present, leaf_bit = take(), take()
    read, write, execute, user = take(3), take(3), take(3), take(3)
    accessed, dirty = take(2), take(2)
    inverted = rng.getrandbits(64) & (read | write | execute | user) if one_in(rng, 2) else 0
    leaf_value = rng.choice([0, leaf_bit])
    present_value = rng.choice([present, present, 0])
    table_reserved = sum(take() for _ in range(rng.randint(0, 2)))
    leaf_reserved = sum(take() for _ in range(rng.randint(0, 2))) | (table_reserved if one_in(rng, 2) else 0)
    output_bits = rng.choice([40, 48, 52, 56, 64])
    input_bits = rng.choice([None, total - rng.randint(0, widths[-1] - 1)])
    options = Described(
        table=0,
        granule_lg2=granule,
        index_lg2=tuple(widths),
        input_bits=input_bits,
        sign_extended=one_in(rng, 3),
        address_mask=bits(55 - address_shift, granule - address_shift),
        address_shift=address_shift,
        present_mask=present,
        present_value=present_value,
        leaf_mask=leaf_bit,
        leaf_value=leaf_value,
        leaf_levels=rng.getrandbits(len(widths)) & bits(63, 0) | rng.choice([0, 1]),
        read_mask=read,
        write_mask=write,
        execute_mask=execute,
        user_mask=user,
        inverted_rights=inverted,
        hierarchical=not one_in(rng, 3),
        accessed_mask=accessed,
        dirty_mask=dirty,
        table_reserved=table_reserved,
        leaf_reserved=leaf_reserved,
        output_bits=output_bits,
        big_endian=one_in(rng, 5),
    )
    meaning = present | leaf_bit | read | write | execute | user | table_reserved | leaf_reserved
    ignored = sum(1 << bit for bit in free) & ~meaning | accessed | dirty

    def common(rng: Random) -> int:
        granted = odds.flags(rng, *(mask for mask in (read, write, execute, user) if mask))
        return present_value | granted ^ inverted | noise(rng, ignored)

    def pointer(rng: Random, level: int, table: int) -> int:  # noqa: ARG001
        return table >> address_shift | common(rng) | (leaf_bit ^ leaf_value) | odds.rarely(rng, table_reserved)

    def leaf(rng: Random, level: int, size: int, address: int) -> int:  # noqa: ARG001
        unaligned = odds.rarely(rng, bits(size - 1, granule)) >> address_shift if size > granule else 0
        return address >> address_shift | common(rng) | leaf_value | odds.rarely(rng, leaf_reserved) | unaligned

    width = input_bits if input_bits is not None else total
    tree = Tree(
        shifts=shifts,
        input_bits=width - 1 if options.sign_extended else width,
        output_bits=min(output_bits, 56),
        pointer=pointer,
        leaf=leaf,
        leaf_sizes=lambda level: [shifts[level]] if not level or options.leaf_levels >> level & 1 else [],
        root_lg2=max(granule, 3 + widths[-1]),
        slack=granule,
    )
    trees = [tree]
    if options.sign_extended:
        trees.append(evolve(tree, high_bits=bits(63, width - 1), input_bits=width))
    return Draft(trees, lambda roots: evolve(options, table=roots[0]), options.big_endian)
