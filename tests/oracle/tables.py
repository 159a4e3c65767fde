"""Random machines: tables of every format, alone and nested, valid, nearly valid and corrupt, in a small memory.

`build_world` is driven by a `random.Random`: a seeded one is fast, Hypothesis' own makes the world shrink.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, evolve, field, frozen
from hypothesis import strategies as st

from . import drafts
from .drafts import one_in
from .memory import PAGE, Memory
from .stage import EXECUTE, PRIVILEGED, READ, WRITE, bits, swapped
from .walker import Context

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from .drafts import Draft, Tree
    from .stage import Format

WINDOW_LG2 = 30
INTERRUPTS = (0xFEE0_0000, 0xFEEF_FFFF)

STAGE1: dict[str, Callable[[Random], Draft]] = {
    "ArmStage1": drafts.draft_arm_stage1,
    "X86": drafts.draft_x86,
    "Riscv": drafts.draft_riscv,
    "Described": drafts.draft_described,
}
STAGE2: dict[str, Callable[[Random], Draft]] = {
    "ArmStage2": drafts.draft_arm_stage2,
    "VtdSecondStage": drafts.draft_vtd_second_stage,
    "AmdV1": drafts.draft_amd_v1,
    "RiscvGuest": drafts.draft_riscv_guest,
    "Described": drafts.draft_described,
}
Kinds = tuple[str | None, str | None]
KINDS: list[Kinds] = [
    (None, None),
    *((first, None) for first in STAGE1),
    *((None, second) for second in STAGE2),
    ("ArmStage1", "ArmStage2"),
    ("X86", "VtdSecondStage"),
    ("X86", "AmdV1"),
    ("Riscv", "RiscvGuest"),
    *(("Described", second) for second in STAGE2),
    *((first, "Described") for first in STAGE1 if first != "Described"),
]
"""(stage 1, stage 2) of every format alone and every nesting."""


def kinds_name(kinds: Kinds) -> str:
    """As a test's name says it."""
    return " over ".join(name for name in kinds if name) or "untranslated"


@define
class Arena:
    """A window of addresses handed out one after another, and the physical memory under it."""

    rng: Random
    memory: Memory
    base: int
    physical: int
    size: int
    big_endian: bool
    tidy: bool
    """Whether a leaf larger than its level's is always written to every slot that it covers."""
    read_only: int = field()
    """One page in so many is read-only."""
    made: dict[int, tuple[int, int] | None] = field(factory=dict)
    """What entry addresses were meant to lead to: (table, level), or (output, -log2 of the size) for a leaf."""
    used: int = 0

    @read_only.default
    def _read_only(self) -> int:
        return self.rng.choice([8, 100, 100, 1000])

    def table(self, lg2: int) -> int | None:
        """A free place for a table, or None when the window is full."""
        start = -(-self.used // (1 << lg2)) << lg2
        self.used = start + (1 << lg2)
        return self.base + start if self.used <= self.size else None

    def to_physical(self, address: int) -> int:
        """Where an address of this window is in memory."""
        return address - self.base + self.physical

    def put(self, address: int, entry: int) -> None:
        """Write an entry. Its page comes into being, sometimes read-only."""
        pa = self.to_physical(address)
        if pa & -PAGE not in self.memory.pages:
            self.memory.add_pages(pa & -PAGE, 1, writable=not one_in(self.rng, self.read_only))
        entry &= bits(63, 0)
        self.memory.put(pa, swapped(entry) if self.big_endian else entry)


def grow(rng: Random, tree: Tree, arena: Arena, root: int, address: int, output: int | None, reach: int) -> int | None:
    """Make what lacks of the tables for ``address``; the address that a good walk would arrive at, if any.

    ``output``: where it must lead; None: anywhere below two to ``reach``.
    """
    table, level = root, tree.top_level
    while True:
        slot = tree.slot(table, level, address)
        if slot not in arena.made:
            arena.made[slot] = _make_entry(rng, tree, arena, slot, level, address, output, reach)
        made = arena.made[slot]
        if made is None:
            return None
        table, level = made
        if level < 0:
            return table | address & bits(-level - 1, 0)


def _make_entry(
    rng: Random, tree: Tree, arena: Arena, slot: int, level: int, address: int, output: int | None, reach: int
) -> tuple[int, int] | None:
    sizes = tree.leaf_sizes(level)
    if output is not None:
        sizes = [size for size in sizes if not (output ^ address) & bits(size - 1, 0)]
    if level == 0 or (sizes and one_in(rng, 4)):
        size = rng.choice(sizes or tree.leaf_sizes(level))
        target = rng.getrandbits(reach) if output is None else output
        target &= -1 << size
        entry = tree.leaf(rng, level, size, target)
        for copy in tree.copies(slot, level, size) if arena.tidy or one_in(rng, 2) else [slot]:
            arena.put(copy, entry)
            arena.made[copy] = target, -size
        return target, -size
    below = tree.level_below(rng, level, address)
    table = arena.table(tree.table_lg2(below))
    if table is None:
        return None
    arena.put(slot, tree.pointer(rng, below, table))
    return table, below


@frozen
class Planted:
    """One stage's tables, ready to grow."""

    draft: Draft
    arena: Arena
    roots: list[int]
    format: Format

    @classmethod
    def plant(cls, draft: Draft, arena: Arena) -> Planted:
        """Give the draft its roots."""
        trees = draft.trees[:1] if draft.one_root else draft.trees
        roots = [arena.table(tree.root_lg2) or arena.base for tree in trees]
        return cls(draft, arena, roots if not draft.one_root else roots * len(draft.trees), draft.finish(roots))

    def some_input(self, rng: Random) -> int:
        """An address that these tables translate."""
        return rng.choice(self.draft.trees).some_input(rng)

    def grow(self, rng: Random, address: int, output: int | None, reach: int) -> int | None:
        """Make what lacks for ``address``."""
        for tree, root in zip(self.draft.trees, self.roots, strict=True):
            if address & tree.high_bits == tree.high_bits:
                chosen, chosen_root = tree, root  # the last that fits: an upper half, if there is one
        return grow(rng, chosen, self.arena, chosen_root, address, output, reach)


@frozen
class World:
    """A machine's memory, one context, and what is worth asking of it."""

    memory: Memory
    context: Context
    aims: list[int]
    """Addresses that were given tables."""
    inputs: list[int]
    """Others that the format could translate."""

    def some_access(self, rng: Random) -> tuple[int, int]:
        """(IOVA, access): mostly at what is mapped, also at edges and at random."""
        return self._some_iova(rng) & bits(63, 0), some_rights(rng)

    def _some_iova(self, rng: Random) -> int:
        how = rng.randrange(20)
        aim = rng.choice(self.aims)
        if how < 12:
            return aim ^ rng.getrandbits(12)
        if how == 12:
            return aim ^ 1 << rng.randrange(64)
        if how == 13:
            return aim + rng.choice([-PAGE, PAGE])
        if how == 14:
            return aim & -1 << rng.randrange(12, 50)
        if how == 15:
            return aim | bits(rng.randrange(12, 50), 0)
        if how == 16:
            return rng.choice(self.inputs)
        if how == 17:
            return rng.getrandbits(64)
        return (1 << rng.randrange(65)) - one_in(rng, 2)


def some_rights(rng: Random) -> int:
    """An access: one right mostly, sometimes two, for either privilege."""
    rights = rng.choice([READ, READ, READ, WRITE, WRITE, WRITE, EXECUTE, EXECUTE, READ | WRITE, READ | EXECUTE])
    return rights | (PRIVILEGED if one_in(rng, 2) else 0)


def build_world(rng: Random, kinds: Kinds, *, tidy: bool = False) -> World:
    """A random machine with these formats. ``tidy``: as careful software makes it, with nothing spoiled after."""
    memory = Memory()
    if kinds == (None, None):
        aims = [rng.getrandbits(rng.randint(1, 64)) for _ in range(8)]
        bound = rng.randint(1, 64) if one_in(rng, 4) else 64
        context = Context(rights=_context_rights(rng), input_bits=bound, blocked_output=_blocked(rng, [*aims]))
        return World(memory, _with_overrides(rng, context, aims), aims, aims)
    first = STAGE1[kinds[0]](rng) if kinds[0] else None
    second = STAGE2[kinds[1]](rng) if kinds[1] else None
    if first is None or second is None:
        return _single(rng, memory, first, second, tidy)
    return _nested(rng, memory, first, second, tidy)


def _single(rng: Random, memory: Memory, first: Draft | None, second: Draft | None, tidy: bool) -> World:
    draft = first or second
    assert draft is not None
    (window,) = _windows(rng, draft.output_bits, 1)
    planted = Planted.plant(draft, Arena(rng, memory, window, window, 1 << WINDOW_LG2, draft.big_endian, tidy))
    aims = _some_aims(rng, planted)
    outputs = [planted.grow(rng, aim, None, _reach(rng, draft.output_bits)) for aim in aims]
    if not tidy:
        corrupt(rng, memory)
    context = Context(
        stage1=planted.format if first is not None else None,
        stage2=planted.format if first is None else None,
        rights=_context_rights(rng),
        input_bits=rng.randint(12, 64) if one_in(rng, 8) else 64,
        blocked_output=_blocked(rng, outputs),
    )
    return World(memory, _with_overrides(rng, context, aims), aims, [planted.some_input(rng) for _ in range(4)])


def _nested(rng: Random, memory: Memory, first: Draft, second: Draft, tidy: bool) -> World:
    ipa_bits = min(first.output_bits, second.input_bits)
    window_lg2 = min(WINDOW_LG2, ipa_bits - 1)
    ipa_window = rng.getrandbits(ipa_bits - window_lg2) << window_lg2
    own, theirs = _windows(rng, second.output_bits, 2)
    outer = Planted.plant(second, Arena(rng, memory, own, own, 1 << WINDOW_LG2, second.big_endian, tidy))
    inner = Planted.plant(first, Arena(rng, memory, ipa_window, theirs, 1 << window_lg2, first.big_endian, tidy))

    aims = _some_aims(rng, inner)
    ipas = [inner.grow(rng, aim, None, _reach(rng, ipa_bits)) for aim in aims]
    for page in sorted({slot & -PAGE for slot in inner.arena.made} | {root & -PAGE for root in inner.roots}):
        if not one_in(rng, 100):
            outer.grow(rng, page, inner.arena.to_physical(page), second.output_bits)
    reach = _reach(rng, second.output_bits)
    outputs = [outer.grow(rng, ipa, None, reach) for ipa in ipas if ipa is not None and not ipa >> second.input_bits]
    if not tidy:
        corrupt(rng, memory)
    context = Context(
        stage1=inner.format,
        stage2=outer.format,
        rights=_context_rights(rng),
        blocked_output=_blocked(rng, outputs),
    )
    return World(memory, _with_overrides(rng, context, aims), aims, [inner.some_input(rng) for _ in range(4)])


def _windows(rng: Random, output_bits: int, count: int) -> list[int]:
    """Different windows of physical memory, the first and the last of the address space among them."""
    last = (1 << output_bits - WINDOW_LG2) - 1
    chosen: list[int] = []
    while len(chosen) < count:
        window = rng.choice([0, 1, last, rng.randint(0, last)])
        if window not in chosen:
            chosen.append(window)
    return [window << WINDOW_LG2 for window in chosen]


def _some_aims(rng: Random, planted: Planted) -> list[int]:
    """A dozen inputs, half of them near an earlier one so that they share tables."""
    aims = [planted.some_input(rng)]
    for _ in range(rng.randint(2, 12)):
        if one_in(rng, 2):
            aims.append(rng.choice(aims) ^ rng.getrandbits(rng.randrange(12, 34)))
        else:
            aims.append(planted.some_input(rng))
    return aims


def _reach(rng: Random, address_bits: int) -> int:
    """How far outputs go: now and then too far."""
    return min(56, address_bits + 2) if one_in(rng, 30) else address_bits


def _with_overrides(rng: Random, context: Context, aims: list[int]) -> Context:
    """Now and then a configuration that changes accesses, or lets some pass."""
    if not one_in(rng, 4):
        return context
    aim = rng.choice(aims) & -PAGE
    passing = ((0, PAGE - 1), (aim, min(aim + (PAGE << rng.randrange(10)) - 1, bits(63, 0))))
    return evolve(
        context,
        privileged=rng.choice([None, False, True]),
        instruction=rng.choice([None, False, True]),
        privileged_refused=one_in(rng, 8),
        untranslated_input=passing if one_in(rng, 3) else (),
    )


def _context_rights(rng: Random) -> int:
    return rng.randrange(8) if one_in(rng, 16) else READ | WRITE | EXECUTE


def _blocked(rng: Random, outputs: list[int | None]) -> tuple[int, int] | None:
    """A range that no output may touch: beside or around one that is used."""
    if not one_in(rng, 3):
        return None
    output = rng.choice(outputs) if outputs else None
    if output is None:
        return INTERRUPTS
    start = max(0, (output & -PAGE) + PAGE * rng.choice([-1, 0, 0, 1, 16]))
    return start, start + (PAGE << rng.choice([0, 0, 4, 9])) - 1


def corrupt(rng: Random, memory: Memory) -> None:
    """Spoil nothing, a few words, or many."""
    places = list(memory.words)
    if not places or one_in(rng, 3):
        return
    count = rng.randint(1, 4) if not one_in(rng, 4) else max(1, len(places) // 6)
    for _ in range(count):
        pa = rng.choice(places)
        memory.put(pa, _spoiled(rng, memory.words[pa], memory.words[rng.choice(places)]))
    if one_in(rng, 8):
        del memory.pages[rng.choice(list(memory.pages))]
        memory.words = {pa: word for pa, word in memory.words.items() if pa & -PAGE in memory.pages}


def _spoiled(rng: Random, word: int, other: int) -> int:
    how = rng.randrange(12)
    if how < 7:
        return word ^ 1 << rng.randrange(64)
    if how == 7:
        return word ^ rng.getrandbits(64) & bits(51, 12)
    if how == 8:
        return word & ~bits(51, 12) | other & bits(51, 12)
    if how == 9:
        return other
    return rng.choice([0, bits(63, 0), rng.getrandbits(64), swapped(word)])


@st.composite
def worlds_and_accesses(draw: st.DrawFn, kinds: Kinds, *, tidy: bool = False) -> tuple[World, list[tuple[int, int]]]:
    """A world of these formats, and some accesses to try in it, for Hypothesis."""
    rng = draw(st.randoms(use_true_random=False))
    world = build_world(rng, kinds, tidy=tidy)
    return world, [world.some_access(rng) for _ in range(draw(st.integers(1, 20)))]
