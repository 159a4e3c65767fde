"""Configurations: how they are asked for, kept, dropped and refused; and what a Translator refuses to be asked."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.guest import (
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
from viommu._engine import (
    EXECUTE,
    FAULT_DTYPE,
    NO_PASID,
    PRIVILEGED,
    READ,
    WHOLE,
    WRITE,
    Batch,
    Context,
    Iotlb,
    Result,
    Translator,
    explain_walk,
    walk,
)
from viommu.faults import FaultClass, FaultKind, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

IOVA = 0x1000


@pytest.fixture
def guest() -> Guest:
    return Guest()


@pytest.fixture
def tables(guest: Guest) -> Tables:
    made = guest.tables(X86_ENTRIES)
    made.map(IOVA, 0xA000)
    return made


def many(t: Translator, requesters: list[int], pasids: list[int] | None = None, iova: int = IOVA) -> Batch:
    return t.translate_many(
        column(requesters, np.uint32),
        column([iova] * len(requesters), np.uint64),
        column([READ] * len(requesters), np.uint8),
        None if pasids is None else column(pasids, np.uint32),
    )


def test_a_configuration_is_asked_for_once(guest: Guest, tables: Tables) -> None:
    resolver = Resolver({7: tables.x86()})
    t = translator(guest, resolver)
    for _ in range(3):
        assert translated(t.translate(7, IOVA, READ)).pa == 0xA000
    many(t, [7] * 5)
    assert resolver.asked == [(7, NO_PASID)]
    counters = t.counters()
    assert (counters["context_misses"], counters["context_hits"]) == (1, 7)


def test_each_pasid_has_its_own(guest: Guest, tables: Tables) -> None:
    resolver = Resolver({7: tables.x86()})
    t = translator(guest, resolver)
    for pasid in (0, 1, 0, NO_PASID):
        translated(t.translate(7, IOVA, READ, pasid))
    many(t, [7, 7, 7], [1, 2, NO_PASID])
    assert resolver.asked == [(7, 0), (7, 1), (7, NO_PASID), (7, 2)]


@pytest.mark.parametrize(
    ("dropped", "asked_again"),
    [
        ((), [(1, 0), (1, 9), (2, 9), (2, NO_PASID)]),
        ((1,), [(1, 0), (1, 9)]),
        ((1, 9), [(1, 9)]),
        ((2, NO_PASID), [(2, NO_PASID)]),
        ((3,), []),
        ((1, 7), []),
    ],
)
def test_configurations_are_dropped_by_requester_and_pasid(
    guest: Guest, tables: Tables, dropped: tuple[int, ...], asked_again: list[tuple[int, int]]
) -> None:
    resolver = Resolver({1: tables.x86(), 2: tables.x86()})
    t = translator(guest, resolver)
    keys = [(1, 0), (1, 9), (2, 9), (2, NO_PASID)]
    for requester, pasid in keys * 2:
        t.translate(requester, IOVA, READ, pasid)
    resolver.asked.clear()

    t.invalidate_contexts(*dropped)
    for requester, pasid in keys:
        t.translate(requester, IOVA, READ, pasid)
    assert resolver.asked == asked_again


def test_a_pasid_alone_names_no_configuration(guest: Guest) -> None:
    with pytest.raises(ValueError, match="needs its requester"):
        translator(guest, Resolver()).invalidate_contexts(pasid=1)


def test_configurations_leave_in_the_order_they_came(guest: Guest, tables: Tables) -> None:
    resolver = Resolver(dict.fromkeys(range(4), tables.x86()))
    t = translator(guest, resolver, context_entries=2)
    for requester in (0, 1, 0, 2, 1, 0):  # 2 pushes 0 out, though 0 was used since
        translated(t.translate(requester, IOVA, READ))
    assert [requester for requester, _ in resolver.asked] == [0, 1, 2, 0]


@given(rows=st.lists(st.integers(0, 9), max_size=60), entries=st.integers(1, 4))
def test_a_batch_needs_no_room_for_its_configurations(rows: list[int], entries: int) -> None:
    guest = Guest()
    contexts = {}
    for requester in range(8):  # 8 and 9 are refused
        tables = guest.tables(X86_ENTRIES)
        tables.map(IOVA, requester << 12)
        contexts[requester] = tables.x86(requester)
    t = translator(guest, Resolver(contexts), context_entries=entries)
    batch = many(t, rows)
    assert batch.pa.tolist() == [row << 12 if row < 8 else 0 for row in rows]
    assert batch.records["row"].tolist() == [at for at, row in enumerate(rows) if row >= 8]


ONE_AND_MANY = [
    pytest.param(lambda t: translated(t.translate(0, IOVA, READ)).pa, id="one"),
    pytest.param(lambda t: int(many(t, [0]).pa[0]), id="many"),
]


@pytest.mark.parametrize("ask", ONE_AND_MANY)
def test_what_was_read_before_an_invalidation_is_read_again(
    guest: Guest, tables: Tables, ask: Callable[[Translator], int]
) -> None:
    newer = guest.tables(X86_ENTRIES)
    newer.map(IOVA, 0xB000)
    answers = [newer.x86(2), tables.x86(1)]

    def resolve(*_: int) -> Context:
        if len(answers) == 2:
            t.invalidate_contexts(5)  # anybody's: the engine does not know what this one read
        return answers.pop()

    t = translator(guest, resolve)
    assert ask(t) == 0xB000
    assert not answers


def test_a_refusal_is_handed_back_and_not_kept(guest: Guest, tables: Tables) -> None:
    resolver = Resolver()
    t = translator(guest, resolver)
    answer = t.translate(3, IOVA, READ)
    assert isinstance(answer, tuple)
    result, refusal = answer
    assert refusal == "no entry for 3"
    assert (result.kind, result.stage, result.fault_class) == (
        FaultKind.CONFIGURATION,
        Stage.NONE,
        FaultClass.CONFIGURATION,
    )
    assert (result.iova, result.access) == (IOVA, READ)
    resolver.contexts[3] = tables.x86()
    assert translated(t.translate(3, IOVA, READ)).pa == 0xA000


def test_a_refusal_is_asked_for_once_in_a_batch(guest: Guest, tables: Tables) -> None:
    resolver = Resolver({1: tables.x86()})
    t = translator(guest, resolver)
    rows = [3, 1, 3, 4] * 1000  # more than one holding of the lock
    for _ in range(2):
        batch = many(t, rows)
        assert batch.refusals == {(3, NO_PASID): "no entry for 3", (4, NO_PASID): "no entry for 4"}
        assert Counter(batch.kind.tolist()) == {0: 1000, FaultKind.CONFIGURATION: 3000}
    assert Counter(requester for requester, _ in resolver.asked) == {3: 2, 4: 2, 1: 1}
    assert t.counters()["faults"] == 6000


def test_any_object_is_a_refusal(guest: Guest) -> None:
    for refusal in (None, 0, (), "text", object):
        answer = translator(guest, lambda *_, refusal=refusal: refusal).translate(0, 0, READ)
        assert isinstance(answer, tuple)
        assert answer[1] is refusal


def test_what_a_resolver_raises_reaches_the_caller(guest: Guest, tables: Tables) -> None:
    def resolve(requester: int, _pasid: int) -> Context:
        if requester == 1:
            raise LookupError(requester)
        return tables.x86()

    t = translator(guest, resolve)
    for call in (lambda: t.translate(1, IOVA, READ), lambda: many(t, [0, 1]), lambda: t.walk_many(*rows_of([0, 1]))):
        with pytest.raises(LookupError):
            call()
    assert translated(t.translate(0, IOVA, READ)).pa == 0xA000  # no lock was left behind


def rows_of(requesters: list[int], access: int = READ) -> tuple[Any, Any, Any]:
    count = len(requesters)
    return (
        column(requesters, np.uint32),
        column([IOVA] * count, np.uint64),
        column([access] * count, np.uint8),
    )


def test_a_resolver_may_use_its_translator(guest: Guest, tables: Tables) -> None:
    """As a configuration structure behind stage 2 would be read."""
    seen = []

    def resolve(requester: int, _pasid: int) -> Context:
        if requester:
            seen.append(translated(t.translate(requester - 1, IOVA, READ)).pa)
            seen.append(len(many(t, [requester - 1] * 3).records))
            t.invalidate_range(0, 0, 0, PAGE)
        return tables.x86()

    t = translator(guest, resolve)
    assert translated(t.translate(3, IOVA, READ)).pa == 0xA000
    assert many(t, [5, 4]).pa.tolist() == [0xA000, 0xA000]
    assert set(seen) == {0xA000, 0}


def test_walks_without_caches_keep_nothing(guest: Guest, tables: Tables) -> None:
    resolver = Resolver({1: tables.x86()})
    t = translator(guest, resolver)
    tables.map(IOVA, 0xA000, clear=0x60)
    before = guest.words.copy()
    batch = t.walk_many(*rows_of([1, 1, 2], WRITE))
    assert batch.pa.tolist() == [0xA000, 0xA000, 0]
    assert batch.refusals == {(2, NO_PASID): "no entry for 2"}
    assert np.array_equal(guest.words, before)
    assert len(t) == 0
    assert resolver.asked == [(1, NO_PASID), (2, NO_PASID)]
    tables.unmap(IOVA)
    assert t.walk_many(*rows_of([1])).kind[0] == FaultKind.TRANSLATION


def test_a_batch_of_nothing_is_nothing(guest: Guest) -> None:
    batch = many(translator(guest, Resolver()), [])
    assert batch.records.dtype == FAULT_DTYPE
    assert [len(values) for values in (batch.pa, batch.kind, batch.page_lg2, batch.rights, batch.records)] == [0] * 5
    assert batch.refusals == {}


def test_columns_of_another_shape_are_refused_by_name(guest: Guest) -> None:
    t = translator(guest, Resolver())
    requester, iova, access = rows_of([0, 0])
    for arguments, name in (
        ((requester[:1], iova, access), "requester"),
        ((requester, iova, access[:1]), "access"),
        ((requester, iova, access, requester[:1]), "pasid"),
        ((requester, iova.reshape(1, 2), access), "iova"),
    ):
        with pytest.raises(ValueError, match=f"column {name}"):
            t.translate_many(*arguments)


@pytest.mark.parametrize(
    "arguments", [(-1, 0, 1), (1 << 32, 0, 1), (0, -1, 1), (0, 1 << 64, 1), (0, 0, 256), (0, 0, -1), (0, 1.5, 1)]
)
def test_what_no_device_could_ask_is_a_type_error(guest: Guest, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        translator(guest, Resolver()).translate(*arguments)


@pytest.mark.parametrize("call", ["invalidate_range", "invalidate_stage2_range"])
def test_a_range_that_ends_before_it_starts_is_refused(guest: Guest, call: str) -> None:
    t = translator(guest, Resolver())
    tags = (0, 0) if call == "invalidate_range" else (0,)
    with pytest.raises(ValueError, match="0x2000, after its last address 0x1000"):
        getattr(t, call)(*tags, 0x2000, 0x1000)


def test_an_access_without_stages_passes_and_is_not_cached(guest: Guest) -> None:
    t = translator(guest, Resolver({0: Context()}))
    for iova in (0, 2**64 - 1):
        result = translated(t.translate(0, iova, WRITE))
        assert (result.pa, result.ipa, result.page_lg2, result.rights) == (iova, iova, WHOLE, 7)
    assert len(t) == 0
    assert t.counters()["lookups"] == 0


def test_windows_pass_untranslated_beside_translation(guest: Guest, tables: Tables) -> None:
    context = tables.x86(untranslated_input=[(0x1000, 0x17FF), (0x9000, 0x9000)])
    t = translator(guest, Resolver({0: context}))
    for _ in range(2):
        assert translated(t.translate(0, 0x1800, READ)).pa == 0xA800
        assert translated(t.translate(0, 0x17FF, WRITE)).pa == 0x17FF
        assert translated(t.translate(0, 0x9000, WRITE)).page_lg2 == WHOLE
        assert translated(t.translate(0, 0x9001, WRITE)).kind == FaultKind.TRANSLATION
    assert len(t) == 1


def test_a_context_makes_accesses_what_it_says(guest: Guest, tables: Tables) -> None:
    tables.map(0x2000, 0xB000, clear=4)
    contexts = {
        0: tables.x86(),
        1: tables.x86(privileged=True),
        2: tables.x86(instruction=True),
        3: tables.x86(privileged_refused=True),
    }
    t = translator(guest, Resolver(contexts))
    for _ in range(2):
        assert translated(t.translate(0, 0x2000, READ)).kind == FaultKind.PERMISSION
        assert translated(t.translate(1, 0x2000, READ)).access == READ | PRIVILEGED
        assert translated(t.translate(2, IOVA, READ)).access == EXECUTE
        assert translated(t.translate(2, IOVA, WRITE)).access == WRITE
        refused = translated(t.translate(3, IOVA, READ | PRIVILEGED))
        assert (refused.kind, refused.stage, refused.missing) == (FaultKind.PERMISSION, Stage.NONE, PRIVILEGED)


def test_the_drivers_bits_come_back_with_every_result(guest: Guest, tables: Tables) -> None:
    t = translator(guest, Resolver({0: tables.x86(driver_bits=0xDEAD_BEEF), 1: tables.x86(driver_bits=5)}))
    for requester, bits in ((0, 0xDEAD_BEEF), (1, 5), (0, 0xDEAD_BEEF)):
        assert translated(t.translate(requester, IOVA, READ)).driver_bits == bits
    batch = many(t, [0, 1], iova=0x5000)
    assert batch.records["driver_bits"].tolist() == [0xDEAD_BEEF, 5]


def test_rights_of_the_context_hold_on_hits_too(guest: Guest, tables: Tables) -> None:
    t = translator(guest, Resolver({0: tables.x86(), 1: tables.x86(rights=READ)}))
    assert translated(t.translate(0, IOVA, WRITE)).rights == 7
    assert translated(t.translate(1, IOVA, READ)).rights == READ
    refused = translated(t.translate(1, IOVA, WRITE))
    assert (refused.kind, refused.stage) == (FaultKind.PERMISSION, Stage.NONE)


def test_a_blocked_page_is_never_cached(guest: Guest) -> None:
    tables = guest.tables(VTD_ENTRIES)
    tables.map(IOVA, 0xFEE0_0000)
    t = translator(guest, Resolver({0: tables.vtd(blocked_output=(0xFEE0_0000, 0xFEEF_FFFF))}))
    for _ in range(2):
        assert translated(t.translate(0, IOVA, READ)).kind == FaultKind.BLOCKED_OUTPUT
    assert len(t) == 0


def test_an_explained_walk_says_what_the_walk_does(guest: Guest, tables: Tables) -> None:
    tables.map(IOVA, 0xA000, clear=0x60)
    context, before = tables.x86(), guest.words.copy()
    result, steps = explain_walk(guest.memory, context, IOVA + 8, WRITE)
    assert np.array_equal(guest.words, before)
    assert [(s.level, s.verdict, s.format) for s in steps] == [
        (level, "table" if level else "leaf", "X86") for level in (3, 2, 1, 0)
    ]
    assert [s.pa for s in steps] == [tables.entry(IOVA, level) for level in (3, 2, 1, 0)]
    assert (steps[-1].raw, steps[-1].updated, steps[-1].output) == (0xA007, 0xA067, 0xA008)
    done = walk(guest.memory, context, IOVA + 8, WRITE)
    assert (done.pa, done.rights, done.level) == (result.pa, result.rights, result.level)
    assert guest[tables.entry(IOVA)] == 0xA067


def test_counters_start_again_at_zero(guest: Guest, tables: Tables) -> None:
    t = translator(guest, Resolver({0: tables.x86()}), Iotlb(entries=4, ways=4), walk_cache_entries=16)
    many(t, [0, 1, 0])
    t.invalidate_all()
    counts = {name: count for name, count in t.counters().items() if isinstance(count, int)}
    assert counts["invalidations"] == 1
    t.reset_counters()
    assert not any(value for value in t.counters().values())
    translated(t.translate(0, IOVA, READ))
    assert t.counters()["walks"] == 1


def test_a_translator_without_an_iotlb_walks_each_time(guest: Guest, tables: Tables) -> None:
    t = Translator(guest.memory, Resolver({0: tables.x86()}))
    many(t, [0] * 3)
    assert (t.iotlb, len(t), t.counters()["walks"], t.counters()["lookups"]) == (None, 0, 3, 0)


def test_a_translator_keeps_its_memory_and_resolver_until_it_ends() -> None:
    guest, resolver = Guest(), Resolver()
    held: list[Callable[[], object]] = [weakref.ref(guest.words), weakref.ref(resolver)]
    t = Translator(guest.memory, resolver)
    del guest, resolver
    gc.collect()
    assert all(thing() is not None for thing in held)
    assert isinstance(t.translate(0, 0, READ), tuple)
    del t
    gc.collect()
    assert all(thing() is None for thing in held)


def test_a_result_says_what_it_is(guest: Guest, tables: Tables) -> None:
    good, bad = (walk(guest.memory, tables.x86(), iova, READ) for iova in (IOVA, 0x5000))
    assert repr(good) == "Result(iova=0x1000, pa=0xa000, page_lg2=12)"
    assert repr(bad) == "Result(iova=0x5000, fault=translation, stage=1, level=0)"
    assert isinstance(good, Result)
