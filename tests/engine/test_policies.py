"""Which entry leaves a full set: each policy beside its textbook, one set at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.guest import PAGE, X86_ENTRIES, Guest, Resolver, column, translated, translator
from viommu._engine import READ, Iotlb, Translator

if TYPE_CHECKING:
    from collections.abc import Callable

PAGES = 24
EVERYTHING = -1


class Replacement(Protocol):
    """Chooses among the ways of one full set."""

    def used(self, way: int) -> None: ...
    def filled(self, way: int) -> None: ...
    def victim(self) -> int: ...


@define
class Lru:
    ways: int
    order: list[int] = field(factory=list)

    def used(self, way: int) -> None:
        self.order = [other for other in self.order if other != way] + [way]

    filled = used

    def victim(self) -> int:
        return self.order[0]


@define
class Fifo(Lru):
    def used(self, way: int) -> None:
        """To be used is no merit."""

    def filled(self, way: int) -> None:
        Lru.used(self, way)


@define
class TreePlru:
    """A heap of bits, each pointing to the half that was used longer ago (1: the right one)."""

    ways: int
    bits: dict[int, int] = field(factory=dict)

    def used(self, way: int) -> None:
        node, low, high = 1, 0, self.ways
        while high - low > 1:
            middle = (low + high) // 2
            right = way >= middle
            self.bits[node] = 0 if right else 1
            node = 2 * node + right
            low, high = (middle, high) if right else (low, middle)

    filled = used

    def victim(self) -> int:
        node, low, high = 1, 0, self.ways
        while high - low > 1:
            middle = (low + high) // 2
            right = self.bits.get(node, 0)
            node = 2 * node + right
            low, high = (middle, high) if right else (low, middle)
        return low


@define
class OneSet:
    """A fully associative cache of pages."""

    replacement: Replacement
    ways: list[int | None]
    evictions: int = 0

    def access(self, page: int) -> bool:
        """Whether it hits; what misses comes in, into the first free way if there is one."""
        if page in self.ways:
            self.replacement.used(self.ways.index(page))
            return True
        if None in self.ways:
            way = self.ways.index(None)
        else:
            way = self.replacement.victim()
            self.evictions += 1
        self.ways[way] = page
        self.replacement.filled(way)
        return False

    def drop(self, page: int) -> None:
        self.ways = [None if page in {EVERYTHING, held} else held for held in self.ways]


def engine(ways: int, policy: str, *, sets: int = 1, seed: int = 0) -> Translator:
    guest = Guest()
    tables = guest.tables(X86_ENTRIES)
    for page in range(PAGES):
        tables.map(page * PAGE, (page + 1) * PAGE)
    iotlb = Iotlb(entries=ways * sets, ways=ways, policy=policy, seed=seed)
    return translator(guest, Resolver({0: tables.x86()}), iotlb)


def hits(t: Translator, page: int) -> bool:
    before = t.counters()["hits"]
    assert translated(t.translate(0, page * PAGE, READ)).pa == (page + 1) * PAGE
    return bool(t.counters()["hits"] - before)


def drop(t: Translator, page: int) -> None:
    if page == EVERYTHING:
        t.invalidate_stage1_tag(0, 0)
    else:
        t.invalidate_range(0, 0, page * PAGE, page * PAGE)


pages = st.integers(0, 9)
steps = st.lists(
    st.tuples(st.just("access"), pages)
    | st.tuples(st.just("access"), pages)
    | st.tuples(st.just("drop"), st.just(EVERYTHING) | pages),
    max_size=80,
)


@pytest.mark.parametrize(("policy", "textbook"), [("lru", Lru), ("fifo", Fifo), ("plru", TreePlru)])
@given(lg2_ways=st.integers(0, 3), steps=steps)
def test_a_set_is_replaced_by_the_book(
    policy: str, textbook: Callable[[int], Replacement], lg2_ways: int, steps: list[tuple[str, int]]
) -> None:
    ways = 1 << lg2_ways
    t, model = engine(ways, policy), OneSet(textbook(ways), [None] * ways)
    for what, page in steps:
        if what == "drop":
            drop(t, page)
            model.drop(page)
        else:
            assert hits(t, page) == model.access(page)
    assert t.counters()["evictions"] == model.evictions
    assert len(t) == ways - model.ways.count(None)


def trace(seed: int) -> list[int]:
    """What a fixed sequence comes to: hits, evictions, and which pages are in at the end."""
    t = engine(4, "random", sets=2, seed=seed)
    order = np.random.default_rng(1).integers(0, PAGES, 200)
    zeros = np.zeros(len(order))
    batch = t.translate_many(column(zeros, np.uint32), column(order * PAGE, np.uint64), column(zeros + READ, np.uint8))
    assert not len(batch.records)
    return [t.counters()["hits"], t.counters()["evictions"]] + [int(hits(t, page)) for page in range(PAGES)]


def test_random_replacement_is_the_seeds() -> None:
    assert all(trace(seed) == trace(seed) for seed in range(4))
    assert len({tuple(trace(seed)) for seed in range(8)}) > 4


def test_random_replacement_evicts_nothing_while_there_is_room() -> None:
    t = engine(8, "random")
    for page in [*range(8)] * 3:
        translated(t.translate(0, page * PAGE, READ))
    assert (t.counters()["hits"], t.counters()["evictions"]) == (16, 0)
    translated(t.translate(0, 8 * PAGE, READ))
    assert (len(t), t.counters()["evictions"]) == (8, 1)


def test_an_iotlb_that_is_used_again_is_as_new() -> None:
    guest = Guest()
    tables = guest.tables(X86_ENTRIES)
    for page in range(PAGES):
        tables.map(page * PAGE, page * PAGE)
    for policy in ("lru", "fifo", "plru", "random"):
        iotlb = Iotlb(entries=8, ways=4, policy=policy)
        counts = []
        for _ in range(2):
            t = translator(guest, Resolver({0: tables.x86()}), iotlb)
            for page in np.random.default_rng(2).integers(0, PAGES, 100):
                translated(t.translate(0, int(page) * PAGE, READ))
            counts.append(t.counters())
            del t
        assert counts[0] == counts[1], policy


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"entries": 0}, "entries 0"),
        ({"entries": 1000}, "entries 1000"),
        ({"entries": 2, "ways": 4}, "entries 2"),
        ({"entries": 1 << 60}, str(1 << 60)),
        ({"ways": 3}, "ways 3"),
        ({"ways": 0}, "ways 0"),
        ({"ways": 128, "entries": 1024}, "ways 128"),
        ({"policy": "mru"}, "policy 'mru'"),
    ],
)
def test_a_geometry_that_cannot_be_is_refused_by_name(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Iotlb(**settings)


def test_geometry_can_be_read_back() -> None:
    iotlb = Iotlb(entries=256, ways=8, policy="plru", seed=7)
    assert (iotlb.entries, iotlb.ways, iotlb.policy) == (256, 8, "plru")
    assert Iotlb(entries=None).entries is None
    guest = Guest()
    t = translator(guest, Resolver(), iotlb)
    assert t.iotlb is iotlb
