"""Walk caches: what a partial walk saves, what it may hide, and what makes it forget."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.guest import ARM_ENTRIES, PAGE, VTD_ENTRIES, X86_ENTRIES, Guest, Resolver, Tables, translated
from viommu._engine import READ, WRITE, AmdV1, Context, Iotlb, Translator, walk
from viommu.faults import FaultKind

IOVA = 0x1_4000_1000


@pytest.fixture
def guest() -> Guest:
    return Guest()


def caching(guest: Guest, *contexts: Context, entries: int = 64, iotlb: Iotlb | None = None) -> Translator:
    return Translator(guest.memory, Resolver(dict(enumerate(contexts))), iotlb=iotlb, walk_cache_entries=entries)


def loads(t: Translator, requester: int, iova: int, access: int = READ) -> int:
    before = t.counters()["entry_loads"]
    translated(t.translate(requester, iova, access))
    return int(t.counters()["entry_loads"] - before)


def test_a_neighbours_walk_reads_the_leaf_alone(guest: Guest) -> None:
    tables = guest.tables(X86_ENTRIES)
    for offset in (0, PAGE, 1 << 21, 1 << 30, 1 << 39):
        tables.map(IOVA + offset, 0xA000 + offset)
    t = caching(guest, tables.x86())
    assert [loads(t, 0, IOVA + offset) for offset in (0, PAGE, 1 << 21, 1 << 30, 1 << 39)] == [4, 1, 2, 3, 4]
    assert t.counters()["walk_cache_hits"] == 3


def test_nothing_is_kept_unless_asked_for(guest: Guest) -> None:
    tables = guest.tables(X86_ENTRIES)
    tables.map(IOVA, 0xA000)
    t = caching(guest, tables.x86(), entries=0)
    assert [loads(t, 0, IOVA) for _ in range(2)] == [4, 4]
    assert t.counters()["walk_cache_hits"] == 0


def test_both_stages_of_a_nested_walk_are_kept(guest: Guest) -> None:
    first, second = guest.tables(X86_ENTRIES), guest.tables(VTD_ENTRIES)
    first.map(IOVA, 0x8000_0000)
    for page in range(64):
        second.map(0x8000_0000 + page * PAGE, 0x8000_0000 + page * PAGE)
    t = caching(guest, first.x86(stage2=second.vtd().stage2))
    assert loads(t, 0, IOVA) == 4 + (4 + 3 * 1) + 1  # only the first of stage 2's walks starts at its root
    assert loads(t, 0, IOVA) == 3  # a leaf of stage 1 behind a leaf of stage 2, and the page's own


def test_skipped_levels_are_kept_where_they_lead(guest: Guest) -> None:
    root, last = guest.page(), guest.page()
    rights = 3 << 61 | 1
    guest[root] = last | rights | 1 << 9
    guest[last + 8] = 0xA000 | rights
    t = caching(guest, Context(stage2=AmdV1(table=root, mode=4)))
    assert [loads(t, 0, iova) for iova in (0x1000, 0x1008)] == [2, 1]
    assert translated(t.translate(0, 0x20_1000, READ)).kind == FaultKind.MALFORMED


def test_halves_of_an_address_space_are_kept_apart(guest: Guest) -> None:
    tables = guest.tables(ARM_ENTRIES)
    tables.map(0x1000, 0xA000)
    t = caching(guest, tables.arm())
    assert loads(t, 0, 0x1000) == 4
    assert translated(t.translate(0, 0xFFFF_0000_0000_1000, READ)).kind == FaultKind.INPUT_SIZE


def test_a_kept_walk_without_a_wanted_right_is_made_in_full(guest: Guest) -> None:
    tables = guest.tables(X86_ENTRIES)
    tables.map(IOVA, 0xA000)
    guest[tables.entry(IOVA, 2)] &= ~2
    t = caching(guest, tables.x86())
    assert loads(t, 0, IOVA) == 4
    refused = translated(t.translate(0, IOVA, WRITE))
    assert (refused.kind, refused.level, refused.entry_address) == (FaultKind.PERMISSION, 2, tables.entry(IOVA, 2))


Invalidate = Callable[[Translator], None]
FORGETS: dict[str, Invalidate] = {
    "all": lambda t: t.invalidate_all(),
    "the stage-2 tag": lambda t: t.invalidate_stage2_tag(1),
    "its stage-1 part": lambda t: t.invalidate_stage2_tag(1, stage1_only=True),
    "the stage-1 tag": lambda t: t.invalidate_stage1_tag(1, 5),
    "the page": lambda t: t.invalidate_range(1, 5, IOVA, IOVA),
    "the page of any stage-1 tag": lambda t: t.invalidate_range(1, None, IOVA, IOVA),
    "all addresses": lambda t: t.invalidate_range(1, 5, 0, 2**64 - 1),
}
KEEPS: dict[str, Invalidate] = {
    "leaves": lambda t: t.invalidate_range(1, 5, IOVA, IOVA, leaf_only=True),
    "another page": lambda t: t.invalidate_range(1, 5, IOVA + (1 << 21), 2**64 - 1),
    "another stage-1 tag": lambda t: t.invalidate_stage1_tag(1, 6),
    "another stage-2 tag": lambda t: t.invalidate_stage2_tag(2),
    "stage 2 alone": lambda t: t.invalidate_stage2_range(1, 0, 2**64 - 1),
    "configuration": lambda t: t.invalidate_contexts(),
}


@pytest.mark.parametrize("invalidation", [*FORGETS, *KEEPS])
def test_an_invalidation_of_it_and_no_other_makes_it_forget(guest: Guest, invalidation: str) -> None:
    tables = guest.tables(X86_ENTRIES)
    tables.map(IOVA, 0xA000)
    t = caching(guest, tables.x86(5, stage2_tag=1))
    translated(t.translate(0, IOVA, READ))

    guest[tables.entry(IOVA, 2)] = 0  # hidden by the kept walk, which began beneath it
    assert translated(t.translate(0, IOVA, READ)).pa == 0xA000
    (FORGETS | KEEPS)[invalidation](t)
    kind = translated(t.translate(0, IOVA, READ)).kind
    assert kind == (FaultKind.TRANSLATION if invalidation in FORGETS else FaultKind.NONE)


PLACES = [region + index * PAGE for region in (0, 1 << 21, 1 << 30, 1 << 39) for index in (0, 1)]
places = st.sampled_from(PLACES)
changes = st.tuples(places, st.integers(0, 2), st.booleans(), st.sampled_from(["page", "tag", "all"]))


@given(
    steps=st.lists(changes | places, max_size=40),
    entries=st.sampled_from([1, 2, 8, 64]),
    cached=st.booleans(),
)
def test_whoever_invalidates_what_changed_cannot_tell(
    steps: list[tuple[int, int, bool, str] | int], entries: int, cached: bool
) -> None:
    """A change of a table or leaf, then its invalidation: every access is what a walk from the root gives."""
    guest = Guest()
    tables = guest.tables(X86_ENTRIES)
    for at, place in enumerate(PLACES):
        tables.map(place, (at + 1) * PAGE)
    context = tables.x86(5)
    t = caching(guest, context, entries=entries, iotlb=Iotlb(entries=None) if cached else None)
    for step in steps:
        if isinstance(step, int):
            saw, wanted = translated(t.translate(0, step, READ)), walk(guest.memory, context, step, READ)
            assert (saw.kind, saw.pa, saw.level) == (wanted.kind, wanted.pa, wanted.level)
        else:
            change(tables, t, *step)


def change(tables: Tables, t: Translator, place: int, level: int, gone: bool, named: str) -> None:
    """Take what decides about ``place`` at ``level`` away, or put it back; then invalidate what hung on it."""
    first = place >> (12 + 9 * level) << (12 + 9 * level)
    if gone:
        tables.unmap(place, level)
    elif level:
        tables.restore(place, level)
    else:
        tables.map(place, (PLACES.index(place) + 101) * PAGE)
    if named == "page":
        t.invalidate_range(0, 5, first, first + (1 << (12 + 9 * level)) - 1)
    elif named == "tag":
        t.invalidate_stage1_tag(0, 5)
    else:
        t.invalidate_all()
