"""The laws of concurrency (docs/architecture.md), seen from Python: threads, callbacks and the GIL."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.engine.guest import PAGE, X86_ENTRIES, Guest, Resolver, Tables, column, translated, translator
from viommu._engine import READ, WRITE, Context, Iotlb, Translator, walk
from viommu.faults import FaultKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

A_WHILE = 0.3
IOVA = 0x1000
ELSEWHERE = 0x1_0000_0000


@pytest.fixture(autouse=True)
def switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def together(*bodies: Callable[[], None]) -> None:
    """Run the bodies side by side, over and over, for a while. What one of them raises is raised here."""
    stop, raised = threading.Event(), []

    def repeat(body: Callable[[], None]) -> None:
        try:
            while not stop.is_set():
                body()
        except BaseException as error:  # noqa: BLE001 # handed on
            raised.append(error)
            stop.set()

    threads = [threading.Thread(target=repeat, args=(body,), daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    stop.wait(A_WHILE)
    stop.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a thread hangs"
    if raised:
        raise raised[0]


def finishes(body: Callable[[], None]) -> None:
    """Fail, rather than hang, where two locks wait for each other."""
    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "it hangs"


@pytest.fixture
def guest() -> Guest:
    return Guest()


@pytest.fixture
def tables(guest: Guest) -> Tables:
    made = guest.tables(X86_ENTRIES)
    made.map(IOVA, PAGE)
    return made


INVALIDATIONS: dict[str, Callable[[Translator], None]] = {
    "page": lambda t: t.invalidate_range(0, 1, IOVA, IOVA, leaf_only=True),
    "page of all tags": lambda t: t.invalidate_range(0, None, IOVA, IOVA),
    "stage-1 tag": lambda t: t.invalidate_stage1_tag(0, 1),
    "stage-2 tag": lambda t: t.invalidate_stage2_tag(0),
    "all": lambda t: t.invalidate_all(),
}


@pytest.mark.parametrize("scope", INVALIDATIONS)
def test_nothing_stale_is_served_once_an_invalidation_has_returned(guest: Guest, tables: Tables, scope: str) -> None:
    t = translator(guest, Resolver({0: tables.x86(1)}), Iotlb(entries=16, ways=4), walk_cache_entries=16)
    entry, version, invalidated = tables.entry(IOVA), [1], [1]
    rows = column([0] * 2000, np.uint32), column([IOVA] * 2000, np.uint64), column([READ] * 2000, np.uint8)

    def remap() -> None:
        version[0] += 1
        guest[entry] = X86_ENTRIES.leaf(version[0] * PAGE, 0)
        INVALIDATIONS[scope](t)
        invalidated[0] = version[0]

    def ask_one() -> None:
        floor = invalidated[0]
        assert translated(t.translate(0, IOVA, READ)).pa // PAGE >= floor

    def ask_many() -> None:
        floor = invalidated[0]
        seen = t.translate_many(*rows).pa // PAGE
        assert seen[0] >= floor
        assert (np.diff(seen.astype(np.int64)) >= 0).all()  # rows run in order

    together(remap, ask_one, ask_many)
    assert version[0] > 5
    assert t.counters()["hits"]


def test_old_configuration_is_not_used_once_it_was_invalidated(guest: Guest) -> None:
    contexts: list[Context] = []
    for version in range(40):
        tables = guest.tables(X86_ENTRIES)
        tables.map(IOVA, version * PAGE)
        contexts.append(tables.x86(version))
    current, invalidated = [0], [0]

    def resolve(*_: int) -> Context:
        found = contexts[current[0]]
        time.sleep(0.0005)  # long enough to be overtaken
        return found

    t = translator(guest, resolve)
    rows = column([0] * 10, np.uint32), column([IOVA] * 10, np.uint64), column([READ] * 10, np.uint8)

    def reconfigure() -> None:
        if current[0] + 1 < len(contexts):
            current[0] += 1
            t.invalidate_contexts(0)
            invalidated[0] = current[0]
        time.sleep(0.005)

    def ask() -> None:
        floor = invalidated[0]
        assert translated(t.translate(0, IOVA, READ)).pa // PAGE >= floor

    def ask_many() -> None:
        floor = invalidated[0]
        batch = t.translate_many(*rows)
        assert batch.pa.min() // PAGE >= floor

    together(reconfigure, ask, ask_many)
    assert invalidated[0] > 3


def test_everything_at_once_is_safe(guest: Guest) -> None:
    all_tables = [guest.tables(X86_ENTRIES) for _ in range(3)]
    for at, tables in enumerate(all_tables):
        tables.map(IOVA, (at + 1) * PAGE)
        guest[tables.entry(IOVA + (1 << 30), 1)] = ELSEWHERE | 0x67
    resolver = Resolver({at: tables.x86(at) for at, tables in enumerate(all_tables)})
    t = translator(guest, resolver, Iotlb(entries=8, ways=2, policy="random"), context_entries=2, walk_cache_entries=8)

    def ask() -> None:
        for requester in (0, 1, 2, 9):
            answer = t.translate(requester, IOVA, WRITE)
            assert isinstance(answer, tuple) or answer.pa == (requester + 1) * PAGE

    def ask_many() -> None:
        batch = t.translate_many(
            column([0, 1, 2, 9] * 50, np.uint32),
            column([IOVA, IOVA + (1 << 30)] * 100, np.uint64),
            column([READ] * 200, np.uint8),
        )
        assert set(batch.kind.tolist()) <= {0, FaultKind.CONFIGURATION, FaultKind.EXTERNAL_ABORT}

    def remap() -> None:
        words = np.full(512, 0x7067, np.uint64)
        guest.memory.map(ELSEWHERE, words.data)
        del words
        guest.memory.regions()
        guest.memory.unmap(ELSEWHERE, PAGE)

    def invalidate() -> None:
        for scope in INVALIDATIONS.values():
            scope(t)
        t.invalidate_contexts(1)
        t.counters()
        len(t)

    together(ask, ask_many, remap, invalidate, lambda: (guest.memory.regions(), None)[1])


class Owner(np.ndarray[Any, Any]):
    """A buffer whose end takes its time, and the GIL."""

    def __del__(self) -> None:
        time.sleep(0.0002)


def test_buffers_end_while_others_look_at_the_map(guest: Guest) -> None:
    def remap() -> None:
        guest.memory.map(ELSEWHERE, np.zeros(512, np.uint64).view(Owner).data)
        guest.memory.unmap(ELSEWHERE, PAGE)

    def look() -> None:
        guest.memory.regions()
        guest.memory.load(ELSEWHERE)
        guest.memory.read(ELSEWHERE, PAGE)

    together(remap, look, look)


def test_a_slow_callback_stops_nobody_else(guest: Guest, tables: Tables) -> None:
    """Whoever holds the GIL never waits for the engine: other Python threads run while a walk waits for a callback."""
    progress, during = [0], []

    def load(_: int) -> int:
        before = progress[0]
        time.sleep(0.05)
        during.append(progress[0] - before)
        return 0x7067

    guest.memory.map_callback(ELSEWHERE, PAGE, load, lambda *_: True)
    guest[tables.entry(IOVA, 1)] = ELSEWHERE | 0x67
    t = translator(guest, Resolver({0: tables.x86()}))

    def count() -> None:
        progress[0] += 1
        time.sleep(0.001)

    def invalidate() -> None:
        t.invalidate_all()

    together(lambda: (t.translate(0, IOVA, READ), None)[1], invalidate, count)
    assert max(during) > 5


def test_a_resolver_holds_no_lock(guest: Guest, tables: Tables) -> None:
    """While one thread reads configuration, others translate, invalidate and are answered."""
    answered = []

    def resolve(requester: int, _pasid: int) -> Context:
        if requester:
            other = threading.Thread(target=lambda: answered.append(t.translate(0, IOVA, READ)))
            other.start()
            other.join(10)
            t.invalidate_all()
        return tables.x86()

    t = translator(guest, resolve)
    finishes(lambda: (t.translate(1, IOVA, READ), None)[1])
    assert [translated(answer).pa for answer in answered] == [PAGE]


def test_a_memory_callback_that_uses_its_translator_is_an_error_and_no_deadlock(
    guest: Guest, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(str(unraisable.exc_value)))
    use: list[Callable[[], object]] = []
    guest.memory.map_callback(ELSEWHERE, PAGE, lambda _: (use[-1](), 0x7067)[1], lambda *_: True)
    guest[tables.entry(IOVA, 1)] = ELSEWHERE | 0x67
    t = translator(guest, Resolver({0: tables.x86()}))
    uses: list[Callable[[], object]] = [
        lambda: t.translate(0, IOVA, READ),
        lambda: t.translate_many(column([0], np.uint32), column([0], np.uint64), column([0], np.uint8)),
        t.invalidate_all,
        t.counters,
        t.__len__,
    ]
    results: list[int] = []
    for each in uses:
        use.append(each)
        finishes(lambda: results.append(translated(t.translate(0, IOVA, READ)).kind))
    assert results == [FaultKind.EXTERNAL_ABORT] * len(uses)
    assert len(told) == len(uses)
    assert all("callback" in text for text in told)


def test_accessed_and_dirty_flags_are_not_lost(guest: Guest, tables: Tables) -> None:
    """Two engines and an operating system over one memory."""
    context, entry = tables.x86(), tables.entry(IOVA)
    engines = [translator(guest, Resolver({0: context})) for _ in range(2)]

    def write(t: Translator) -> None:
        assert translated(t.translate(0, IOVA, WRITE)).pa == PAGE
        t.invalidate_all()

    together(
        lambda: write(engines[0]),
        lambda: write(engines[1]),
        lambda: (guest.memory.write(entry, bytes([7])), None)[1],  # clears both
    )
    assert walk(guest.memory, context, IOVA, WRITE).kind == FaultKind.NONE
    assert guest[entry] == X86_ENTRIES.leaf(PAGE, 0)
