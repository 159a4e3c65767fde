"""The IOTLB beside a plain dict: whatever tables and invalidations come, both answer and count alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.engine.cache_model import ALONE, CacheModel, Leaf, Space
from tests.engine.guest import (
    ARM_ENTRIES,
    ARM_NG,
    PAGE,
    VTD_ENTRIES,
    X86_ENTRIES,
    Guest,
    Resolver,
    Tables,
    column,
    translated,
    translator,
)
from viommu._engine import EXECUTE, PRIVILEGED, READ, WRITE, Context, Iotlb, Translator, VtdSecondStage, walk
from viommu.faults import FaultKind

if TYPE_CHECKING:
    from tests.engine.cache_model import Tag

LARGE = 1 << 21
REGIONS = [0x4000_0000, 0x4020_0000]
PAGES = [region + index * PAGE for region in REGIONS for index in (0, 1, 511)]
EDGES = sorted({edge for page in PAGES for edge in (page - 1, page, page + PAGE - 1, page + PAGE)} | {0, 2**64 - 1})
STREAMS: list[tuple[int, Tag]] = [(1, 5), (1, 6), (2, 5), (1, ALONE)]

streams = st.integers(0, len(STREAMS) - 1)
iovas = st.builds(lambda page, offset: page + offset, st.sampled_from(PAGES), st.sampled_from([0, 8, PAGE - 1]))
ranges = st.tuples(st.sampled_from(EDGES), st.sampled_from(EDGES)).map(lambda pair: (min(pair), max(pair)))
stage2_tags = st.sampled_from([1, 2, 3])
stage1_tags = st.sampled_from([5, 6, 7])


class IotlbMachine(RuleBasedStateMachine):
    """Streams that share tags in every way, each with its own tables; tables change, with or without invalidation."""

    def __init__(self) -> None:
        super().__init__()
        self.guest = Guest()
        self.resolver = Resolver()
        self.model = CacheModel()
        self.spaces = [Space(stage2_tag, tag) for stage2_tag, tag in STREAMS]
        self.tables = [self.guest.tables(VTD_ENTRIES if tag == ALONE else ARM_ENTRIES) for _, tag in STREAMS]
        for requester, ((stage2_tag, tag), tables) in enumerate(zip(STREAMS, self.tables, strict=True)):
            self.resolver.contexts[requester] = (
                tables.arm(tag, stage2_tag) if isinstance(tag, int) else tables.vtd(stage2_tag)
            )
            for page in PAGES:
                tables.entry(page)  # tables of all levels exist before a large leaf hides one
        self.engine = self.new_engine()
        self.frames = iter(range(1, 1 << 20))

    def new_engine(self) -> Translator:
        return translator(self.guest, self.resolver)

    @rule(stream=streams, page=st.sampled_from(PAGES), of_all=st.booleans())
    def map_a_page(self, stream: int, page: int, of_all: bool) -> None:
        self._put(stream, page, Leaf(next(self.frames) * PAGE, 12, of_all and stream < 3))

    @rule(stream=streams, region=st.sampled_from(REGIONS), of_all=st.booleans())
    def map_a_large_page(self, stream: int, region: int, of_all: bool) -> None:
        self._put(stream, region, Leaf(next(self.frames) * LARGE, 21, of_all and stream < 3))

    def _put(self, stream: int, iova: int, leaf: Leaf) -> None:
        self.spaces[stream].leaves[leaf.lg2, iova >> leaf.lg2] = leaf
        level = (leaf.lg2 - 12) // 9
        self.tables[stream].map(iova, leaf.frame, level, clear=ARM_NG if leaf.of_all else 0)

    @rule(stream=streams, page=st.sampled_from(PAGES))
    def unmap_a_page(self, stream: int, page: int) -> None:
        self.spaces[stream].leaves.pop((12, page >> 12), None)
        self.tables[stream].unmap(page)

    @rule(stream=streams, region=st.sampled_from(REGIONS))
    def unmap_a_large_page(self, stream: int, region: int) -> None:
        self.spaces[stream].leaves.pop((21, region >> 21), None)
        self.tables[stream].restore(region, 1)

    @rule(stream=streams, iova=iovas)
    def translate(self, stream: int, iova: int) -> None:
        wanted = self.model.translate(self.spaces[stream], iova)
        saw = translated(self.engine.translate(stream, iova, READ | PRIVILEGED))
        assert (saw.kind, saw.pa) == ((0, wanted) if wanted is not None else (FaultKind.TRANSLATION, 0))

    @rule(rows=st.lists(st.tuples(streams, iovas), max_size=12))
    def translate_many(self, rows: list[tuple[int, int]]) -> None:
        wanted = [self.model.translate(self.spaces[stream], iova) for stream, iova in rows]
        batch = self.engine.translate_many(
            column([stream for stream, _ in rows], np.uint32),
            column([iova for _, iova in rows], np.uint64),
            column([READ | PRIVILEGED] * len(rows), np.uint8),
        )
        assert batch.pa.tolist() == [pa or 0 for pa in wanted]
        assert batch.records["row"].tolist() == [row for row, pa in enumerate(wanted) if pa is None]

    @rule()
    def invalidate_all(self) -> None:
        self.engine.invalidate_all()
        self.model.invalidate_all()

    @rule(stage2_tag=stage2_tags, stage1_only=st.booleans())
    def invalidate_stage2_tag(self, stage2_tag: int, stage1_only: bool) -> None:
        self.engine.invalidate_stage2_tag(stage2_tag, stage1_only=stage1_only)
        self.model.invalidate_stage2_tag(stage2_tag, stage1_only=stage1_only)

    @rule(stage2_tag=stage2_tags, stage1_tag=stage1_tags)
    def invalidate_stage1_tag(self, stage2_tag: int, stage1_tag: int) -> None:
        self.engine.invalidate_stage1_tag(stage2_tag, stage1_tag)
        self.model.invalidate_stage1_tag(stage2_tag, stage1_tag)

    @rule(stage2_tag=stage2_tags, stage1_tag=stage1_tags | st.none(), ends=ranges, leaf_only=st.booleans())
    def invalidate_range(self, stage2_tag: int, stage1_tag: int | None, ends: tuple[int, int], leaf_only: bool) -> None:
        self.engine.invalidate_range(stage2_tag, stage1_tag, *ends, leaf_only=leaf_only)
        self.model.invalidate_range(stage2_tag, stage1_tag, *ends)

    @rule(stage2_tag=stage2_tags, ends=ranges)
    def invalidate_stage2_range(self, stage2_tag: int, ends: tuple[int, int]) -> None:
        self.engine.invalidate_stage2_range(stage2_tag, *ends)
        self.model.invalidate_stage2_range(stage2_tag, *ends)

    @rule(stream=streams | st.none())
    def drop_configuration(self, stream: int | None) -> None:
        self.engine.invalidate_contexts(stream)  # translations stay

    @invariant()
    def counts_agree(self) -> None:
        counters = self.engine.counters()
        assert len(self.engine) == len(self.model.entries)
        assert (counters["hits"], counters["misses"], counters["faults"]) == (
            self.model.hits,
            self.model.misses,
            self.model.faults,
        )
        assert counters["lookups"] == counters["hits"] + counters["misses"]
        assert counters["walks"] == counters["misses"]
        assert counters["insertions"] == counters["misses"] - counters["faults"]
        assert counters["evictions"] == 0


class AmpleIotlbMachine(IotlbMachine):
    """The same with sets and ways that nothing here fills."""

    def new_engine(self) -> Translator:
        return translator(self.guest, self.resolver, Iotlb(entries=4096, ways=32, policy="plru"))


TestUnboundedIotlb = IotlbMachine.TestCase
TestUnboundedIotlb.settings = settings(max_examples=60, stateful_step_count=40)
TestAmpleIotlb = AmpleIotlbMachine.TestCase
TestAmpleIotlb.settings = settings(max_examples=30, stateful_step_count=40)


@pytest.fixture
def guest() -> Guest:
    return Guest()


@pytest.fixture
def tables(guest: Guest) -> Tables:
    return guest.tables(X86_ENTRIES)


FAULT_FIELDS = ["iova", "ipa", "entry_address", "entry_value", "stage", "level", "fault_class", "missing", "access"]
rows_of_small_caches = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 15), st.sampled_from([READ, WRITE, READ | PRIVILEGED, EXECUTE])),
    min_size=1,
    max_size=200,
)


def small_world() -> tuple[Guest, Resolver]:
    """Two streams with pages missing here and read-only there, and a third whose configuration is refused."""
    guest, resolver = Guest(), Resolver()
    for requester in (0, 1):
        tables = guest.tables(X86_ENTRIES)
        for page in range(16):
            if page % 5 != requester:
                tables.map(page * PAGE, 0x10_0000 + page * PAGE, clear=2 if page % 3 == 0 else 0x60)
        resolver.contexts[requester] = tables.x86(requester)
    return guest, resolver


@given(
    rows=rows_of_small_caches,
    policy=st.sampled_from(["lru", "plru", "fifo", "random"]),
    cut=st.integers(0, 200),
)
def test_a_batch_is_its_rows_one_by_one(rows: list[tuple[int, int, int]], policy: str, cut: int) -> None:
    requesters = column([row[0] for row in rows], np.uint32)
    pages = column([row[1] * PAGE + 5 for row in rows], np.uint64)
    accesses = column([row[2] for row in rows], np.uint8)
    engines = []
    for _ in range(2):
        guest, resolver = small_world()
        iotlb = Iotlb(entries=8, ways=4, policy=policy, seed=3)
        engines.append((guest, translator(guest, resolver, iotlb)))
    (one_guest, one), (many_guest, many) = engines

    answers = [one.translate(*map(int, row)) for row in zip(requesters, pages, accesses, strict=True)]
    results = [answer[0] if isinstance(answer, tuple) else answer for answer in answers]
    batches = [
        many.translate_many(requesters[part], pages[part], accesses[part]) for part in (slice(cut), slice(cut, None))
    ]

    def joined(name: str) -> list[int]:
        return [value for batch in batches for value in getattr(batch, name).tolist()]

    assert joined("kind") == [r.kind for r in results]
    assert joined("pa") == [r.pa for r in results]
    assert joined("rights") == [0 if r.kind else r.rights for r in results]
    assert joined("page_lg2") == [0 if r.kind else r.page_lg2 for r in results]
    faults = [record for batch in batches for record in batch.records]
    for record, result in zip(faults, [r for r in results if r.kind], strict=True):
        for name in FAULT_FIELDS:
            assert record[name] == getattr(result, name), name
    assert len(one) == len(many)
    assert one.counters() == many.counters()
    assert np.array_equal(one_guest.words, many_guest.words)


def test_an_entry_serves_until_it_is_invalidated(guest: Guest, tables: Tables) -> None:
    engine = translator(guest, Resolver({0: tables.x86()}))
    tables.map(0x1000, 0xA000)
    assert translated(engine.translate(0, 0x1000, READ)).pa == 0xA000

    tables.unmap(0x1000)
    assert translated(engine.translate(0, 0x1000, READ)).pa == 0xA000
    engine.invalidate_range(0, 0, 0x1000, 0x1FFF)
    assert translated(engine.translate(0, 0x1000, READ)).kind == FaultKind.TRANSLATION


def test_a_write_through_an_entry_that_a_read_made_sets_the_dirty_bit(guest: Guest, tables: Tables) -> None:
    engine = translator(guest, Resolver({0: tables.x86()}))
    tables.map(0x1000, 0xA000, clear=0x60)

    for access, flags in ((READ, 0x20), (READ, 0x20), (WRITE, 0x60)):
        translated(engine.translate(0, 0x1000, access))
        assert guest[tables.entry(0x1000)] & 0x60 == flags
    assert engine.counters()["walks"] == 2
    guest[tables.entry(0x1000)] &= ~0x60
    translated(engine.translate(0, 0x1000, WRITE))
    assert not guest[tables.entry(0x1000)] & 0x60  # an entry that is known to be dirty is not looked at again


def test_a_hit_grants_what_the_walk_granted(guest: Guest, tables: Tables) -> None:
    engine = translator(guest, Resolver({0: tables.x86()}))
    tables.map(0x1000, 0xA000, clear=0x60)

    walked, hit = (translated(engine.translate(0, 0x1000, READ)) for _ in range(2))
    assert engine.counters()["hits"] == 1
    assert hit.rights == walked.rights == READ | WRITE | EXECUTE


def test_an_entry_without_a_wanted_right_is_walked_again(guest: Guest, tables: Tables) -> None:
    engine = translator(guest, Resolver({0: tables.x86()}))
    tables.map(0x1000, 0xA000, clear=2)
    translated(engine.translate(0, 0x1000, READ))

    refused = translated(engine.translate(0, 0x1000, WRITE))
    assert (refused.kind, refused.missing) == (FaultKind.PERMISSION, WRITE)
    assert refused.entry_address == tables.entry(0x1000)
    tables.map(0x1000, 0xA000)
    assert translated(engine.translate(0, 0x1000, WRITE)).kind == 0


def test_entries_serve_both_privileges(guest: Guest, tables: Tables) -> None:
    engine = translator(guest, Resolver({0: tables.x86()}))
    tables.map(0x1000, 0xA000, clear=4)

    translated(engine.translate(0, 0x1000, READ | PRIVILEGED))
    refused = translated(engine.translate(0, 0x1000, READ))
    assert (refused.kind, refused.missing) == (FaultKind.PERMISSION, PRIVILEGED)
    translated(engine.translate(0, 0x1000, WRITE | PRIVILEGED))
    assert engine.counters()["hits"] == 1


def test_an_ignored_top_byte_takes_no_part_in_the_cache(guest: Guest) -> None:
    tables = guest.tables(ARM_ENTRIES)
    tables.map(0x1000, 0xA000)
    engine = translator(guest, Resolver({0: tables.arm(top_byte_ignore=True)}))

    for top in (0x00, 0xAA, 0xFF):
        answer = translated(engine.translate(0, top << 56 | 0x1234, READ))
        assert (answer.pa, answer.iova) == (0xA234, top << 56 | 0x1234)
    assert engine.counters()["hits"] == 2


def test_arm_e0pd_refuses_the_unprivileged_on_a_hit_too(guest: Guest) -> None:
    tables = guest.tables(ARM_ENTRIES)
    tables.map(0x1000, 0xA000)
    engine = translator(guest, Resolver({0: tables.arm(unprivileged_disabled=True)}))

    assert translated(engine.translate(0, 0x1000, READ | PRIVILEGED)).kind == 0
    assert translated(engine.translate(0, 0x1000, READ)).kind == FaultKind.INPUT_SIZE


def test_a_page_that_reaches_beyond_the_input_serves_no_more_than_the_input(guest: Guest) -> None:
    tables = guest.tables(VTD_ENTRIES)
    tables.map(0, 0x4000_0000, level=2)
    engine = translator(
        guest,
        Resolver(
            {
                0: Context(stage2=VtdSecondStage(table=tables.root, levels=4, input_bits=20)),
                1: Context(stage2=VtdSecondStage(table=tables.root, levels=4), stage2_tag=1, input_bits=20),
            }
        ),
    )

    for requester in (0, 1):
        assert translated(engine.translate(requester, 0xF_FFFF, READ)).kind == 0
        assert translated(engine.translate(requester, 0x10_0000, READ)).kind == FaultKind.INPUT_SIZE


@pytest.mark.parametrize("entries", [None, 64])
def test_one_iotlb_serves_one_translator(guest: Guest, entries: int | None) -> None:
    iotlb = Iotlb(entries=entries)
    first = translator(guest, Resolver(), iotlb)
    with pytest.raises(ValueError, match="serves another Translator"):
        translator(guest, Resolver(), iotlb)
    del first
    translator(guest, Resolver(), iotlb)


def test_an_unbounded_iotlb_costs_what_it_holds(guest: Guest) -> None:
    tables = guest.tables(X86_ENTRIES)
    for large in range(512):
        tables.map(large << 21, large << 21, level=1)
    for giant in range(1, 512):
        tables.map(giant << 30, giant << 30, level=2)
    engine = translator(guest, Resolver({0: tables.x86()}))
    iovas = np.concatenate([np.arange(512, dtype=np.uint64) << 21, np.arange(1, 512, dtype=np.uint64) << 30])
    accesses = np.full(len(iovas), READ, np.uint8)

    for _ in range(3):
        engine.translate_many(np.zeros(len(iovas), np.uint32), iovas, accesses)
        engine.invalidate_stage1_tag(0, 0)
    engine.translate_many(np.zeros(len(iovas), np.uint32), iovas, accesses)
    assert len(engine) == len(iovas)
    assert engine.counters()["evictions"] == 0


@pytest.mark.parametrize("pages", [1, 512])
def test_invalidating_a_tag_touches_no_entry(guest: Guest, tables: Tables, pages: int) -> None:
    engine = translator(guest, Resolver({0: tables.x86(1), 1: tables.x86(2)}))
    for page in range(pages):
        tables.map(page * PAGE, page * PAGE)
        for requester in (0, 1):
            translated(engine.translate(requester, page * PAGE, READ))
    before = engine.counters()

    engine.invalidate_stage1_tag(0, 1)
    assert len(engine) == pages
    assert {name for name, count in engine.counters().items() if count != before[name]} == {"invalidations"}


def test_hits_of_any_stream_are_walks_as_long_as_tables_stay(guest: Guest) -> None:
    first, second = guest.tables(X86_ENTRIES), guest.tables(VTD_ENTRIES)
    first.map(0x20_0000, 0x40_0000, level=1)
    first.map(0x1000, 0x40_3000)
    second.map(0x40_0000, 0x60_0000, level=1)
    for page in range(64):
        second.map(0x8000_0000 + page * PAGE, 0x8000_0000 + page * PAGE)
    context = first.x86(stage2=second.vtd().stage2)
    engine = translator(guest, Resolver({0: context}))

    for iova in (0x1000, 0x1FF8, 0x20_0000, 0x3F_FFF8):
        for access in (READ, WRITE, READ | PRIVILEGED) * 2:
            saw, wanted = translated(engine.translate(0, iova, access)), walk(guest.memory, context, iova, access)
            for name in ("kind", "pa", "ipa", "page_lg2", "rights", "attrs1", "attrs2", "level", "iova", "access"):
                assert getattr(saw, name) == getattr(wanted, name), name
    assert engine.counters()["hits"] > 12
