"""Described commands: the engine beside Python, on caches with the same contents."""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.guest import ARM_ENTRIES, PAGE, VTD_ENTRIES, Guest, Resolver, translated, translator
from viommu import PhysicalMemory
from viommu._engine import READ, Iotlb, Translator
from viommu.commands import (
    AllContexts,
    Among,
    Block,
    Case,
    CommandTable,
    ContextGroup,
    Contexts,
    Counted,
    Each,
    Everything,
    Executor,
    InvalidateRange,
    InvalidateStage2Range,
    Is,
    Meaning,
    Meanings,
    Number,
    Sized,
    Stage1Tag,
    Stage2Tag,
    Store,
    Within,
    means,
)
from viommu.commands.compiled import compiled
from viommu.layout import Bit, Bits, Descriptor, Split

if TYPE_CHECKING:
    from collections.abc import Callable

LAST_PAGE = (1 << 64) - PAGE
PAGES = [region + index * PAGE for region in (0x4000_0000, 0x4020_0000) for index in (0, 1, 511)]
SPACES: list[tuple[int, int | None]] = [(1, 5), (1, 6), (2, 5), (3, None), (1, None)]
"""Stage-2 tag and stage-1 tag of requester 0, 1, ...; None: stage 2 alone."""
QUEUE = 0x10_0000
MAILBOX = 0x20_0000
RING_LG2 = 4


class Toy(Descriptor, width=128):
    """A queue that no vendor has."""

    Opcode = Bits(4, 0)
    Leaf = Bit(5)
    Sized = Bit(6)
    Reserved = Bit(7)
    Tag = Split((9, 8), (13, 12))
    OwnTag = Bits(19, 16)
    Requester = Bits(27, 24)
    Lg2 = Bits(35, 32)
    Count = Bits(43, 40)
    Where = Bits(127, 76, shift=12)


TO = Number(Toy.Where, keep=0xFF_F000, plus=MAILBOX & ~0xFFF)
NUMBERED = 24


def toy(table: CommandTable) -> Meanings:
    """Describe a queue in which there is everything that can be described."""
    block, sized = Block(Toy.Where, Number(Toy.Lg2, plus=12)), Sized(Toy.Where, Toy.Sized)
    counted = Counted(Toy.Where, 12, Toy.Lg2, Toy.Count)
    tag, own, requester = Toy.Tag, Toy.OwnTag, Toy.Requester
    found = [
        means("nothing"),
        means("everything", Everything()),
        means("all of a tag", Stage2Tag(tag)),
        means("stage 1 of tags", Stage2Tag(tag, stage1_only=True, group_lg2=1)),
        means("a tag of its own", Stage1Tag(tag, own)),
        means("a block", InvalidateRange(tag, own, block, Toy.Leaf)),
        means("a block of any", InvalidateRange(tag, None, block)),
        means("a size", InvalidateRange(tag, own, sized, Number(Toy.Leaf, flip=1))),
        means("a count", InvalidateRange(tag, own, counted, group_lg2=1)),
        means("a block behind", InvalidateStage2Range(tag, block)),
        means("a size behind", InvalidateStage2Range(tag, sized, Toy.Leaf, group_lg2=2)),
        means("contexts", AllContexts()),
        means("a requester", Contexts(requester)),
        means("a PASID", Contexts(requester, Number(Toy.OwnTag, plus=0xFFFF_FFFF))),
        means("requesters", ContextGroup(requester, Toy.Lg2)),
        means("members", Contexts(Each(table, tag))),
        means("tags of members", Stage2Tag(Each(table, tag), group_lg2=1)),
        means("told", Store(TO, Toy.Requester, 4), Everything()),
        Meaning(
            "in cases",
            (
                Case((Stage2Tag(tag),), (Is(Toy.Leaf, 1), Within(Toy.OwnTag, 3, 6))),
                Case(None, (Is(Toy.Leaf, 1),)),
                Case((Contexts(requester),), (Among(table, tag),)),
                Case((Everything(),), (Among(table, requester, present=False), Within(Toy.Count, 1, 9))),
            ),
        ),
        means("strict", Everything(), zero=Toy.Reserved.mask | 1 << 127),
    ]
    return Meanings(Toy.size, Toy.Opcode, dict(enumerate(found)))


@define
class Side:
    """A platform whose caches know every page of every space. ``wrapped``: not to be seen to be the engine's."""

    wrapped: bool
    memory: PhysicalMemory = field(factory=PhysicalMemory)
    guest: Guest = field(init=False)
    resolver: Resolver = field(factory=Resolver)
    engine: Translator = field(init=False)
    caches: Any = field(init=False)
    table: CommandTable = field(factory=CommandTable)
    executor: Executor = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.guest = Guest(memory=self.memory.engine)
        for requester, (stage2_tag, own) in enumerate(SPACES):
            tables = self.guest.tables(VTD_ENTRIES if own is None else ARM_ENTRIES)
            for page in PAGES:
                tables.map(page, page)
            context = tables.vtd(stage2_tag) if own is None else tables.arm(own, stage2_tag)
            self.resolver.contexts[requester] = context
        self.memory.place(QUEUE, np.zeros(16 << RING_LG2, np.uint8))
        self.memory.place(MAILBOX, np.zeros(PAGE, np.uint8))
        self.engine = translator(self.guest, self.resolver, Iotlb(entries=None))
        self.caches = _Wrapped(self.engine) if self.wrapped else self.engine
        for key, value in ((1, 2), (1, 0), (2, 1), (3, 3)):
            self.table.add(key, value)
        self.executor = Executor(self, toy(self.table))  # type: ignore[arg-type] # it asks no more of a platform
        for requester in range(len(SPACES)):
            for page in PAGES:
                translated(self.engine.translate(requester, page, READ))
        self.engine.reset_counters()

    def state(self) -> object:
        """How often something was invalidated, and what is left."""
        count = self.engine.counters()["invalidations"]
        contexts = [self.engine.cached_context(requester) is not None for requester in range(len(SPACES))]
        return count, contexts, self._hits(), self.memory.read(MAILBOX, PAGE), self.memory.read(QUEUE, 16 << RING_LG2)

    def _hits(self) -> list[int]:
        found: list[int] = []
        for requester in range(len(SPACES)):
            for page in PAGES:
                before = self.engine.counters()["hits"]
                self.engine.translate(requester, page, READ)
                found.append(self.engine.counters()["hits"] - before)
        return found


class _Wrapped:
    def __init__(self, engine: Translator) -> None:
        self._engine = engine

    def __getattr__(self, verb: str) -> Callable[..., None]:
        found: Callable[..., None] = getattr(self._engine, verb)
        return found


def sides() -> tuple[Side, Side]:
    return Side(wrapped=False), Side(wrapped=True)


places = st.sampled_from([*PAGES, *(page | PAGE for page in PAGES), 0, LAST_PAGE, LAST_PAGE >> 1 & -PAGE])
commands = st.builds(
    Toy,
    Opcode=st.integers(0, NUMBERED),
    Leaf=st.integers(0, 1),
    Sized=st.integers(0, 1),
    Reserved=st.sampled_from([0, 0, 0, 1]),
    Tag=st.integers(0, 7),
    OwnTag=st.integers(0, 15),
    Requester=st.integers(0, 15),
    Lg2=st.integers(0, 15),
    Count=st.integers(0, 15),
)


def burst(command: Toy, where: list[int]) -> list[bytes]:
    """Give commands that differ in nothing but an address."""
    return [command.replace(Where=at).encode() for at in where]


def joined(bursts: list[list[bytes]]) -> list[bytes]:
    return [entry for each in bursts for entry in each][:LONGEST]


LONGEST = 1 << RING_LG2
bursts = st.builds(burst, commands, st.lists(places, min_size=1, max_size=4))
anything = st.binary(min_size=16, max_size=16).map(lambda entry: [entry])
runs = st.lists(bursts | anything, max_size=12).map(joined)


@given(run=runs)
def test_the_engine_does_what_python_does(run: list[bytes]) -> None:
    fast, plain = sides()

    assert fast.executor.run(b"".join(run)) == plain.executor.run(b"".join(run))
    assert fast.state() == plain.state()


@given(run=runs, head=st.integers(0, 40))
def test_a_ring_is_a_run_that_wraps(run: list[bytes], head: int) -> None:
    fast, plain = sides()
    for side in (fast, plain):
        for index, entry in enumerate(run):
            side.memory.write(QUEUE + 16 * (head + index & (1 << RING_LG2) - 1), entry)

    done = [side.executor.run_ring(QUEUE, RING_LG2, head, len(run)) for side in (fast, plain)]

    straight = Side(wrapped=False)
    assert done[0] == done[1] == straight.executor.run(b"".join(run))
    assert fast.state() == plain.state()


def test_what_was_done_is_counted_by_name() -> None:
    for side in sides():
        flush, drop = Toy(Opcode=1).encode(), Toy(Opcode=2, Tag=1).encode()
        assert side.executor.run(flush + drop + flush) == (3, {"everything": 2, "all of a tag": 1})


def test_a_run_is_asked_for_by_position_or_by_name() -> None:
    side = Side(wrapped=False)
    engine, made, raw = side.engine, compiled(side.executor.meanings), Toy(Opcode=1).encode() * 3
    side.memory.write(QUEUE, raw)

    done = (3, {"everything": 3})
    assert made.run(engine, raw) == made.run(translator=engine, entries=raw) == made.run(engine, entries=raw) == done
    assert made.run(engine, np.frombuffer(raw, np.uint8)) == made.run(engine, bytearray(raw)) == done
    assert made.run_ring(engine, QUEUE, RING_LG2, 0, 3) == done
    assert made.run_ring(engine, QUEUE, RING_LG2, head=0, count=3) == done


def test_a_run_that_cannot_be_is_refused() -> None:
    side = Side(wrapped=False)
    engine, made = side.engine, compiled(side.executor.meanings)
    wrong: tuple[tuple[Any, ...], ...] = ((), (engine,), (None, b""), (engine, 5), (engine, b"", b""))
    for arguments in wrong:
        with pytest.raises(TypeError):
            made.run(*arguments)
    with pytest.raises(ValueError, match="15 bytes are no multiple of 16"):
        made.run(engine, bytes(15))
    with pytest.raises(BufferError):
        made.run(engine, memoryview(bytes(64))[::2])
    with pytest.raises(ValueError, match=r"at most 2\^32"):
        made.run_ring(engine, QUEUE, 33, 0, 1)
    for number in (-1, 1 << 64, "0"):
        with pytest.raises(TypeError):
            made.run_ring(engine, number, RING_LG2, 0, 1)  # type: ignore[arg-type] # that is the test


def test_opcodes_of_one_name_are_counted_together() -> None:
    for side in sides():
        side.executor.understand(Meanings(Toy.size, Toy.Opcode, {1: means("drop", Everything()), 2: means("drop")}))
        assert side.executor.run(Toy(Opcode=2).encode() + Toy(Opcode=1).encode() * 2) == (3, {"drop": 3})


def test_a_run_ends_where_memory_does() -> None:
    for side in sides():
        assert side.executor.run_ring(QUEUE, 20, (1 << RING_LG2) - 2, 5) == (2, {"nothing": 2})
        assert side.executor.run_ring(0x50_0000, RING_LG2, 0, 5) == (0, {})
        assert side.executor.run_ring((1 << 64) - 16, RING_LG2, 0, 5) == (0, {})


def test_a_long_run_is_executed_piece_by_piece() -> None:
    for side in sides():
        side.memory.write(QUEUE, Toy(Opcode=4).encode())
        every = 1 << RING_LG2
        kinds = {"nothing": 10_000 * (every - 1) // every, "a tag of its own": 10_000 // every}
        assert side.executor.run_ring(QUEUE, RING_LG2, 0, 10_000) == (10_000, kinds)
        side.memory.write(QUEUE, Toy(Opcode=31).encode())
        assert side.executor.run_ring(QUEUE, RING_LG2, 1, 10_000) == (every - 1, {"nothing": every - 1})


def test_a_store_that_memory_refuses_is_the_models_and_nothing_was_done() -> None:
    for side in sides():
        told = Toy(Opcode=17, Where=0x50_0000).encode()
        before = side.state()
        assert side.executor.run(told) == (0, {})
        assert side.state() == before


def test_a_store_into_memory_that_is_watched_is_the_models() -> None:
    side = Side(wrapped=False)
    told = Toy(Opcode=17, Requester=9, Where=0).encode()
    assert side.executor.run(told) == (1, {"told": 1})

    side.memory.watcher = lambda *_: None
    assert side.executor.run(Toy(Opcode=0).encode() + told) == (1, {"nothing": 1})

    side.memory.watcher = None
    assert side.executor.run(told) == (1, {"told": 1})
    assert side.memory.read(MAILBOX, 8) == (9).to_bytes(8, "little")


def test_a_table_may_change_between_runs() -> None:
    for side in sides():
        member = Toy(Opcode=15, Tag=7).encode()
        side.executor.run(member)
        assert side.engine.cached_context(4) is not None
        side.table.add(7, 4)
        side.executor.run(member)
        assert side.engine.cached_context(4) is None
        assert side.table.values(7) == [4]
        side.table.remove(7, 4)
        side.table.remove(7, 4)
        assert side.table.values(7) == []


def test_another_description_takes_over() -> None:
    for side in sides():
        renamed = Meanings(Toy.size, Toy.Opcode, {2: means("all", Everything())})
        side.executor.understand(renamed)
        assert side.executor.run(Toy(Opcode=2).encode() + Toy(Opcode=1).encode()) == (1, {"all": 1})


def test_a_description_that_cannot_be_is_refused_with_its_reason() -> None:
    executor = Side(wrapped=False).executor
    for bad, why in (
        (Meanings(16, Toy.Opcode, {4096: means("far")}), "12 bits"),
        (Meanings(20, 0, {}), "8 to 64 bytes"),
        (Meanings(16, 0, {0: means("late", Everything(), Store(0, 0, 4))}), "a store comes before"),
        (Meanings(16, 0, {0: means("wide", Stage2Tag(0, group_lg2=9))}), "at most 256 tags"),
    ):
        executor.understand(bad)
        with pytest.raises(ValueError, match=why):
            executor.run(bytes(16))


def test_stores_and_tables_are_seen_by_other_threads_runs() -> None:
    """Tables change under the GIL, runs go on without it: neither waits for the other."""
    side = Side(wrapped=False)
    members = Toy(Opcode=15, Tag=1).encode() * 2000

    def change() -> None:
        for _ in range(300):
            side.table.add(1, 9)
            side.table.remove(1, 9)

    thread = Thread(target=change)
    thread.start()
    for _ in range(20):
        assert side.executor.run(members) == (2000, {"members": 2000})
    thread.join(timeout=60)
    assert not thread.is_alive()
