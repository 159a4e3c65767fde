"""TRN: hardware that is programmed by hand, held against the kit's own walker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen
from hypothesis import strategies as st

from viommu.faults import Access, Fault
from viommu.testing.byhand import ByHand
from viommu.testing.rule import Need, expect, rule
from viommu.testing.tables import PAGE

if TYPE_CHECKING:
    from viommu.testing.subject import Subject

LARGE = 1 << 30
FRAMES = 16
HIGH = 1 << 33
"""Where leaves lead: beyond what machines keep below 4 GiB."""


@frozen
class Leaf:
    """A page table gets a leaf of one of its sizes (``level`` counts those), somewhere, that leads somewhere."""

    level: int
    place: int
    frame: int
    write: bool


def _leaves(subject: Subject) -> st.SearchStrategy[list[Leaf]]:
    levels = sizes(subject)
    leaf = st.builds(
        Leaf, st.integers(0, len(levels) - 1), st.integers(0, 40), st.integers(0, FRAMES - 1), st.booleans()
    )
    return st.lists(leaf, max_size=10, unique_by=lambda one: one.place)


def sizes(subject: Subject) -> list[int]:
    """Give the levels that may hold leaves."""
    bare = subject.kit.bare
    assert bare is not None  # noqa: S101 - a rule that needs BARE has it
    return [level for level, flags in enumerate(bare.tables.leaf_flags) if flags is not None]


def _enter(subject: Subject, world: ByHand, plan: list[Leaf]) -> list[int]:
    """Write the leaves, each of them in a part of the address space of its own; their IOVAs."""
    iovas, levels = [], sizes(subject)
    shape = world.tables.shape
    for number, leaf in enumerate(plan):
        level = levels[leaf.level]
        span = shape.span_lg2(level)
        iova = (leaf.place * LARGE + (number << span)) % (1 << shape.input_bits - 1) >> span << span
        if world.tables.walk(iova) is None and not _covers(world, iova, level):
            world.tables.map(iova, -(-HIGH >> span << span) + (leaf.frame << span), level=level, write=leaf.write)
            iovas.append(iova)
    return iovas


def _covers(world: ByHand, iova: int, level: int) -> bool:
    """Say whether a table lies where the leaf would have to be."""
    return level > 0 and bool(int.from_bytes(world.ram.read(world.tables.entry(iova, level), 8), "little"))


@rule(
    "TRN-001",
    "An access goes where the page table leads, with the rights of the leaf, at leaves of every size; nowhere else.",
    source="HardwareModel.configure; the page table's shape (Bare.tables)",
    needs=(Need.BARE,),
    plan=_leaves,
    examples=60,
)
def tables_are_followed(subject: Subject, plan: list[Leaf]) -> None:
    """Write leaves, and translate addresses in and beside each."""
    world = ByHand.of(subject)
    iovas = _enter(subject, world, plan)
    for iova in {0, *iovas, *(one ^ PAGE for one in iovas), *(one + (LARGE >> 1) for one in iovas)}:
        for access in (Access.READ, Access.WRITE):
            for offset in (0, 0x123, PAGE - 1):
                _expect_as_walked(world, iova + offset, access)


def _expect_as_walked(world: ByHand, iova: int, access: Access) -> None:
    leaf, outcome = world.tables.walk(iova), world.machine.translate(world.requester, iova, access)
    wanted = None if leaf is None or (access & Access.WRITE and not leaf.writable) else leaf.address
    found = None if isinstance(outcome, Fault) else outcome.pa
    expect(
        found == wanted,
        f"{access!r} of IOVA {iova:#x} {'is refused' if found is None else f'comes to {found:#x}'}, where the table "
        f"{'refuses it' if wanted is None else f'leads to {wanted:#x}'}",
        entries=world.tables.entries(iova),
        walk=lambda: str(world.machine.explain(world.requester, iova, access)),
    )


@rule(
    "TRN-002",
    "Rows, probes and explanations say what single accesses come to; explaining and probing change nothing in memory.",
    source="Iommu.translate_many, probe_many, explain",
    needs=(Need.BARE,),
    plan=_leaves,
    examples=30,
)
def all_ways_agree(subject: Subject, plan: list[Leaf]) -> None:
    """Ask in each way."""
    world = ByHand.of(subject)
    iovas = sorted({0, PAGE, *_enter(subject, world, plan)})
    before = bytes(world.ram.read(world.ram.view.pa(), 1 << 22))
    rights = [int(Access.READ)] * len(iovas)
    probed = world.machine.probe_many(world.requester, iovas, rights)
    told = [world.machine.explain(world.requester, iova) for iova in iovas]
    after = bytes(world.ram.read(world.ram.view.pa(), 1 << 22))
    expect(after == before, "explaining or probing has changed memory")
    rows = world.machine.translate_many(world.requester, iovas, rights)
    for number, iova in enumerate(iovas):
        one = world.machine.translate(world.requester, iova)
        wanted = None if isinstance(one, Fault) else one.pa
        explained = told[number].outcome
        ways = {
            "a row": None if rows.kind[number] else int(rows.pa[number]),
            "a probe": None if probed.kind[number] else int(probed.pa[number]),
            "an explanation": None if isinstance(explained, Fault) else explained.pa,
        }
        wrong = {way: found for way, found in ways.items() if found != wanted}
        expect(not wrong, f"IOVA {iova:#x} leads to {wanted}, by {wrong}", walk=str(told[number]))


@rule(
    "TRN-003",
    "The page table of one requester governs no other.",
    source="HardwareModel.configure",
    needs=(Need.BARE,),
)
def others_are_not_governed(subject: Subject) -> None:
    """Send accesses of the other requester, and of those around."""
    world = ByHand.of(subject)
    world.tables.map(0, HIGH)
    last = (1 << subject.driver.info.requester_bits) - 1
    for requester in {subject.requesters[1], world.requester ^ 1, world.requester + 1, last} - {world.requester}:
        outcome = world.machine.translate(requester & last, 0)
        # What nobody has programmed may pass untranslated, where hardware has it so.
        apart = isinstance(outcome, Fault) or outcome.pa != HIGH
        expect(apart, f"requester {requester & last:#x} reaches {outcome!r}, as {world.requester:#x} does")


@rule(
    "TRN-004",
    "Whatever bits of tables and structures flip, an access ends in a translation or a fault that is reported.",
    source="HardwareModel.configure: never raises for what memory holds; HardwareModel.report",
    needs=(Need.BARE,),
    plan=lambda subject: st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 63)), min_size=1, max_size=16),  # noqa: ARG005
    examples=80,
)
def any_bits_are_survived(subject: Subject, plan: list[tuple[int, int]]) -> None:
    """Flip bits of words that are not zero."""
    world = ByHand.of(subject)
    page = 1 << world.tables.shape.granule_lg2
    for place in range(4):
        world.tables.map(place * page, place * page)
    memory, start = world.ram.memory, world.ram.view.pa()
    words = np.frombuffer(world.ram.read(start, 1 << 20), np.uint64)
    used = [start + 8 * int(place) for place in np.flatnonzero(words)]
    for index, bit in plan:
        at = used[index % len(used)]
        memory.store(at, (memory.load(at) or 0) ^ 1 << bit)
    for access in (Access.READ, Access.WRITE, Access.EXECUTE):
        outcome = world.machine.translate(world.requester, page, access)
        if isinstance(outcome, Fault):
            world.machine.report(outcome)
        world.machine.explain(world.requester, page, access)
