"""Numbers and ranges in commands: Python and the engine beside arithmetic on strings of bits and on single bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from viommu import Machine, PhysicalMemory
from viommu.commands import Block, Counted, Executor, Meanings, Number, Sized, Store, means, span_of, value_of
from viommu.commands.compiled import compiled
from viommu.layout import Bits, Split

SIZE = 32
PAD = 0x4000
LAST = (1 << 64) - 1

raws = st.binary(min_size=SIZE, max_size=SIZE)
u64s = st.integers(0, LAST)


@st.composite
def pieces(draw: st.DrawFn) -> list[tuple[int, int]]:
    """(high, low) of up to 4 stretches of bits, which together have at most 64."""
    left, found = 64, []
    for _ in range(draw(st.integers(1, 4))):
        width = draw(st.integers(1, max(1, left - 4)))
        left -= width
        low = draw(st.integers(0, SIZE * 8 - width))
        found.append((low + width - 1, low))
        if left < 8:
            break
    return found


numbers = st.builds(
    lambda parts, **changes: (parts, changes),
    pieces(),
    lg2=st.integers(0, 6),
    sign_bit=st.integers(1, 63),
    keep=st.sampled_from([LAST, 0xFF, 0xFFFF_0000]) | u64s,
    flip=st.sampled_from([0, 1]) | u64s,
    plus=st.sampled_from([0, 1, 12]) | u64s,
)


def by_string(raw: bytes, parts: list[tuple[int, int]], changes: dict[str, int]) -> int:
    """What a number is, found in the text of an entry's bits."""
    bits = format(int.from_bytes(raw, "little"), f"0{SIZE * 8}b")[::-1]
    text = "0" * changes["lg2"] + "".join(bits[low : high + 1] for high, low in parts)
    text = text[:64].ljust(64, "0")
    sign = changes["sign_bit"]
    text = text[: sign + 1].ljust(64, text[sign])
    kept = "".join(bit if changes["keep"] >> at & 1 else "0" for at, bit in enumerate(text))
    flipped = int(kept[::-1], 2) ^ changes["flip"]
    return (flipped + changes["plus"]) % 2**64


@pytest.fixture(scope="module")
def machine() -> Machine:
    memory = PhysicalMemory()
    memory.place(0, np.zeros(PAD // 8 + 512, np.uint64))
    return Machine("selftest", memory)


@given(raw=raws, described=numbers)
def test_a_number_is_its_bits_changed_in_order(
    machine: Machine, raw: bytes, described: tuple[list[tuple[int, int]], dict[str, int]]
) -> None:
    parts, changes = described
    number = Number(Split(*parts), **changes)
    stores = Meanings(SIZE, 0, {0: means("store", Store(PAD, number, 8))})

    done, kinds = compiled(stores).run(machine.translator, raw)

    stored = machine.memory.read(PAD, 8)
    assert (done, kinds) == (1, {"store": 1})
    assert stored is not None
    assert int.from_bytes(stored, "little") == by_string(raw, parts, changes)
    assert value_of(number, int.from_bytes(raw, "little")) == by_string(raw, parts, changes)


@given(lg2=st.integers(0, 80), address=u64s)
def test_a_block_holds_what_agrees_with_its_address_above_its_size(lg2: int, address: int) -> None:
    start, last = span_of(Block(address, lg2), 0)

    assert start <= address <= last
    assert (start >> lg2, last >> lg2) == (address >> lg2, address >> lg2)
    assert last - start + 1 == min(1 << lg2, 1 << 64)


@given(pages_lg2=st.integers(0, 51), where=u64s)
def test_a_size_told_by_the_lowest_zero_is_read_back(pages_lg2: int, where: int) -> None:
    """Software writes ones below the highest bit of the size's mask, and a zero there."""
    size = 1 << 12 + pages_lg2 + 1
    start = where & -size
    told = start | size // 2 - 0x1000

    assert span_of(Sized(told, 1), 0) == (start, start + size - 1)
    assert span_of(Sized(told, 0), 0) == (told & -0x1000, told | 0xFFF)


def test_a_size_without_any_zero_is_everything() -> None:
    assert span_of(Sized(-0x1000 & LAST, 1), 0) == (0, LAST)


@given(
    address=u64s,
    unit_lg2=st.sampled_from([12, 14, 16]),
    scale=st.integers(0, 63),
    count=st.integers(0, 31),
)
def test_a_counted_range_begins_at_its_block_and_ends_with_the_address_space(
    address: int, unit_lg2: int, scale: int, count: int
) -> None:
    start, last = span_of(Counted(address, unit_lg2, scale, count), 0)

    assert start == address - address % (1 << unit_lg2)
    assert last == min(start + (count + 1) * (1 << scale) * (1 << unit_lg2) - 1, LAST)


def test_a_number_in_more_pieces_than_the_engine_takes_is_refused() -> None:
    field = Split((0, 0), (2, 2), (4, 4), (6, 6), (8, 8))

    with pytest.raises(ValueError, match="at most 4 pieces"):
        compiled(Meanings(SIZE, field, {}))


def test_a_field_beyond_the_entry_is_refused() -> None:
    with pytest.raises(ValueError, match="outside the entry"):
        compiled(Meanings(16, Bits(130, 124), {}))


def test_a_buffer_must_be_whole_entries(machine: Machine) -> None:
    nothing = Meanings(SIZE, 0, {0: means("nothing")})

    platforms: list[Any] = [machine._board, _Without(machine)]
    for executor in (Executor(platform, nothing) for platform in platforms):
        assert executor.run(bytes(3 * SIZE)) == (3, {"nothing": 3})
        assert executor.run(np.zeros((2, SIZE), np.uint8)) == (2, {"nothing": 2})
        assert executor.run(b"") == (0, {})
        with pytest.raises(ValueError, match=f"{SIZE + 1} bytes are no multiple of {SIZE}"):
            executor.run(bytes(SIZE + 1))


class _Without:
    """A platform whose caches are not the engine's own."""

    def __init__(self, machine: Machine) -> None:
        self.memory = machine.memory
        self.caches = object()
