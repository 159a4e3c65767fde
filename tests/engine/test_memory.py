"""Physical memory as Python sees it: buffers and callbacks appear at addresses; everything else is a hole."""

from __future__ import annotations

import mmap
import sys
import weakref
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.guest import PAGE, X86_ENTRIES, Guest
from viommu._engine import READ, WRITE, Context, Memory, walk
from viommu.faults import FaultKind

Callback: TypeAlias = Callable[..., Any]


@pytest.fixture
def memory() -> Memory:
    return Memory()


@define
class Unraisable:
    """What the engine told `sys.unraisablehook`."""

    told: list[str] = field(factory=list)

    def __call__(self, unraisable: sys.UnraisableHookArgs) -> None:
        self.told.append(unraisable.exc_type.__name__)


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> Unraisable:
    hook = Unraisable()
    monkeypatch.setattr(sys, "unraisablehook", hook)
    return hook


def test_a_buffer_appears_at_an_address(memory: Memory) -> None:
    words = np.arange(1024, dtype=np.uint64)
    memory.map(0x1_0000, words.data)

    assert memory.load(0x1_0008) == 1
    assert memory.read(0x1_0008, 8) == bytes([1, 0, 0, 0, 0, 0, 0, 0])
    words[1] = 0x1234
    assert memory.load(0x1_0008) == 0x1234
    assert memory.write(0x1_0010, b"\xff" * 3)
    assert words[2] == 0xFF_FFFF


def test_part_of_a_buffer_may_appear(memory: Memory) -> None:
    words = np.arange(8, dtype=np.uint64)
    memory.map(0, words.data, offset=16, length=24)
    assert [memory.load(pa) for pa in range(0, 40, 8)] == [2, 3, 4, None, None]
    memory.map(0x1000, words.data, offset=56)
    assert memory.load(0x1000) == 7


def test_any_flat_buffer_will_do(memory: Memory) -> None:
    mapping = mmap.mmap(-1, PAGE)
    memory.map(0, mapping)
    memory.map(PAGE, bytearray(PAGE))
    memory.map(2 * PAGE, np.zeros(PAGE, np.uint8).data)
    memory.map(3 * PAGE, bytes(PAGE), writable=False)
    memory.map(4 * PAGE, memoryview(bytearray(PAGE)))
    assert memory.regions() == [(at * PAGE, (at + 1) * PAGE - 1, at != 3) for at in range(5)]
    assert memory.write(0, b"seen")
    assert mapping[:4] == b"seen"


def test_read_only_memory_stays_as_it_is(memory: Memory) -> None:
    memory.map(0, bytes(16), writable=False)
    memory.map(16, bytearray(16))
    assert not memory.write(8, b"x")
    assert not memory.write(12, b"12345678")  # half of it could be written
    assert memory.read(0, 32) == bytes(32)


def test_what_lies_in_a_hole_is_none(memory: Memory) -> None:
    memory.map(0x1000, bytearray(0x1000))
    memory.map(2**64 - 0x1000, bytearray(0x1000))
    for pa, length in ((0, 1), (0xFFF, 2), (0x1FFF, 2), (0x1000, 0x1001), (2**64 - 1, 2), (0x1000, 2**63)):
        assert memory.read(pa, length) is None
    assert memory.read(2**64 - 1, 1) == b"\0"
    assert memory.read(0x1000, 0) == memory.read(0, 0) == b""
    assert not memory.write(0xFFF, b"12")
    assert not memory.write(2**64 - 1, b"12")
    assert memory.load(0) is None


@pytest.mark.parametrize(
    ("start", "length", "complaint"),
    [
        (4, 8, "start 0x4"),
        (8, 12, "length 0xc"),
        (8, 0, "length 0x0"),
        (2**64 - 8, 16, "beyond the address space"),
        (0x1008, 8, r"\[0x1008, 0x100f\] overlaps region \[0x1000, 0x1fff\]"),
        (0xFF8, 16, "overlaps"),
        (0, 0x4000, "more than the buffer's"),
    ],
)
def test_a_region_that_cannot_be_is_refused(memory: Memory, start: int, length: int, complaint: str) -> None:
    memory.map(0x1000, bytearray(0x1000))
    with pytest.raises(ValueError, match=complaint):
        memory.map(start, bytearray(0x2000), length=length)
    assert len(memory.regions()) == 1


def test_a_buffer_that_is_not_flat_is_refused(memory: Memory) -> None:
    for buffer in (np.zeros((8, 8), np.uint64), np.zeros(64, np.uint64)[::2]):
        with pytest.raises(ValueError, match="contiguous"):
            memory.map(0, buffer.data)
    with pytest.raises(ValueError, match="aligned"):
        memory.map(0, np.zeros(17, np.uint8)[1:].data)
    with pytest.raises(ValueError, match="offset"):
        memory.map(0, bytearray(8), offset=16)
    with pytest.raises((BufferError, ValueError)):
        memory.map(0, bytes(8))
    with pytest.raises(TypeError):
        memory.map(0, 7)  # type: ignore[arg-type]


@pytest.mark.parametrize("start", [-1, 2**64, 1.5, "0"])
def test_what_is_no_address_is_a_type_error(memory: Memory, start: int) -> None:
    with pytest.raises(TypeError):
        memory.map(start, bytearray(8))
    with pytest.raises(TypeError):
        memory.load(start)


def test_regions_are_unmapped_whole(memory: Memory) -> None:
    for start in (0x1000, 0x2000, 0x3000):
        memory.map(start, bytearray(0x1000))
    with pytest.raises(ValueError, match="unmap whole regions"):
        memory.unmap(0x1000, 0x1800)
    memory.unmap(0, 0x2FF8 + 8)
    assert [start for start, _, _ in memory.regions()] == [0x3000]
    memory.unmap(0, 0x1000)  # nothing there, nothing to do
    memory.map(0x1000, bytearray(0x1000))


def test_a_buffer_lives_as_long_as_it_is_mapped(memory: Memory) -> None:
    words = np.zeros(8, np.uint64)
    alive = weakref.ref(words)
    memory.map(0, words.data)
    del words
    assert alive() is not None
    assert memory.load(0) == 0
    memory.unmap(0, 64)
    assert alive() is None


def test_a_mapped_bytearray_cannot_shrink(memory: Memory) -> None:
    data = bytearray(64)
    memory.map(0, data)
    with pytest.raises(BufferError):
        data.clear()
    memory.unmap(0, 64)
    data.clear()


def test_a_buffers_end_may_use_the_memory(memory: Memory) -> None:
    seen: list[object] = []
    words = np.zeros(8, np.uint64)
    weakref.finalize(words, lambda: seen.append(memory.regions()))
    memory.map(0, words.data)
    del words
    memory.unmap(0, 64)
    assert seen == [[]]


@given(
    writes=st.lists(st.tuples(st.integers(0, 63), st.binary(max_size=40)), max_size=12),
    cut=st.sampled_from([8, 16, 32]),
)
def test_bytes_are_bytes_wherever_regions_meet(writes: list[tuple[int, bytes]], cut: int) -> None:
    memory, wanted = Memory(), bytearray(64)
    memory.map(0x1000, bytearray(cut))
    memory.map(0x1000 + cut, bytearray(64 - cut))
    for offset, data in writes:
        fits = offset + len(data) <= 64
        assert memory.write(0x1000 + offset, data) == (fits or not data)
        if fits:
            wanted[offset : offset + len(data)] = data
    assert memory.read(0x1000, 64) == bytes(wanted)


@define
class Elsewhere:
    """Words that are reached by calls."""

    words: dict[int, int] = field(factory=dict)
    calls: list[tuple[int, ...]] = field(factory=list)

    def load(self, pa: int) -> int | None:
        self.calls.append((pa,))
        return self.words.get(pa)

    def compare_exchange(self, pa: int, expected: int, desired: int) -> bool | None:
        self.calls.append((pa, expected, desired))
        if pa not in self.words:
            return None
        if self.words[pa] != expected:
            return False
        self.words[pa] = desired
        return True


def test_memory_may_be_reached_by_calls(memory: Memory) -> None:
    elsewhere = Elsewhere({0x1000: 1, 0x1008: 2**64 - 1})
    memory.map_callback(0x1000, 0x1000, elsewhere.load, elsewhere.compare_exchange)

    assert memory.load(0x1008) == 2**64 - 1
    assert memory.read(0x1000, 9) == bytes([1, 0, 0, 0, 0, 0, 0, 0, 255])
    assert memory.read(0x1000, 24) is None  # the third word aborts
    assert memory.write(0x1002, b"\x05")
    assert elsewhere.words[0x1000] == 0x5_0001
    assert not memory.write(0x1010, b"\x05")


def walks_through(load: Callback, compare_exchange: Callback = lambda *_: True) -> tuple[Context, Guest]:
    guest = Guest()
    tables = guest.tables(X86_ENTRIES)
    tables.map(0x1000, 0xA000)
    guest[tables.entry(0x1000, 1)] = 0x1_0000_0067
    guest.memory.map_callback(0x1_0000_0000, PAGE, load, compare_exchange)
    return tables.x86(), guest


def test_tables_may_lie_behind_calls() -> None:
    elsewhere = Elsewhere({0x1_0000_0008: 0xB007})
    context, guest = walks_through(elsewhere.load, elsewhere.compare_exchange)
    assert walk(guest.memory, context, 0x1000, WRITE).pa == 0xB000
    assert elsewhere.words == {0x1_0000_0008: 0xB067}
    assert elsewhere.calls == [(0x1_0000_0008,), (0x1_0000_0008, 0xB007, 0xB067)]


def raises(*_: int) -> int:
    raise LookupError


@pytest.mark.parametrize(
    ("load", "told"),
    [
        (lambda _: None, []),
        (raises, ["LookupError"]),
        (lambda: 0, ["TypeError"]),
        (lambda _: "0", ["TypeError"]),
        (lambda _: -1, ["TypeError"]),
        (lambda _: 2**64, ["TypeError"]),
        (lambda _: 1.5, ["TypeError"]),
    ],
    ids=["None", "an exception", "no argument", "text", "negative", "too wide", "a float"],
)
def test_a_load_that_gives_no_word_aborts_the_walk(load: Callback, told: list[str], unraisable: Unraisable) -> None:
    context, guest = walks_through(load)
    result = walk(guest.memory, context, 0x1000, READ)
    assert (result.kind, result.level, result.entry_address) == (FaultKind.EXTERNAL_ABORT, 0, 0x1_0000_0008)
    assert unraisable.told == told


@pytest.mark.parametrize(
    ("exchange", "told"),
    [
        (lambda *_: None, []),
        (raises, ["LookupError"]),
        (lambda _: True, ["TypeError"]),
        (lambda *_: "no", ["TypeError"]),
    ],
    ids=["None", "an exception", "one argument", "text"],
)
def test_a_store_that_gives_no_answer_fails_the_update(
    exchange: Callback, told: list[str], unraisable: Unraisable
) -> None:
    context, guest = walks_through(lambda _: 0xB007, exchange)
    result = walk(guest.memory, context, 0x1000, READ)
    assert (result.kind, bool(result.for_update)) == (FaultKind.UPDATE_FAILED, True)
    assert unraisable.told == told


def test_a_store_that_always_loses_its_race_is_given_up(memory: Memory) -> None:
    context, guest = walks_through(lambda _: 0xB007, lambda *_: False)
    assert walk(guest.memory, context, 0x1000, READ).kind == FaultKind.UPDATE_FAILED
    memory.map_callback(0, 8, lambda _: 0, lambda *_: False)
    assert not memory.write(0, b"x")


def test_callbacks_may_use_the_memory_they_serve(memory: Memory) -> None:
    memory.map(0x1000, np.array([7], np.uint64).data)
    memory.map_callback(0, 8, lambda pa: memory.load(pa + 0x1000), lambda *_: None)
    assert memory.load(0) == 7


def test_callbacks_live_as_long_as_they_are_mapped(memory: Memory) -> None:
    elsewhere = Elsewhere()
    alive = weakref.ref(elsewhere)
    memory.map_callback(0, 8, elsewhere.load, elsewhere.compare_exchange)
    del elsewhere
    assert alive() is not None
    memory.unmap(0, 8)
    assert alive() is None


def test_a_load_address_is_a_words(memory: Memory) -> None:
    with pytest.raises(ValueError, match="0x4 is not a multiple of 8"):
        memory.load(4)
