from __future__ import annotations

import pickle
import types
from enum import IntEnum
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from viommu.layout import Bit, Bits, Descriptor, Field, Ignored, Split

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.layout import FieldSpec


class Fruit(IntEnum):
    APPLE = 0
    PEAR = 5


class Basket(Descriptor, width=128):
    V = Bit(0)
    Kind = Field(3, 1, of=Fruit)
    Table = Bits(51, 12, shift=12)
    Soft = Ignored(58, 55)
    Straddling = Bits(70, 60)
    Count = Bits(127, 120)


class DteRoot(Descriptor, width=128):
    """The GCR3 root of an AMD device table entry, which stands in three places."""

    GCR3 = Split((60, 58), (95, 80), (127, 107), shift=12)


BASKET = Basket(V=1, Kind=Fruit.PEAR, Table=0x8000_1000, Straddling=0x7FF, Count=10)


# Declared layouts, judged by hand-made bytes.


def test_fields_are_read_where_they_were_declared() -> None:
    basket = Basket.decode(bytes.fromhex("0b100080000000f07f0000000000000a"))

    assert (basket.V, basket.Kind, basket.Table, basket.Straddling, basket.Count) == (1, 5, 0x8000_1000, 0x7FF, 10)


def test_fields_are_written_where_they_were_declared() -> None:
    assert BASKET.encode() == bytes.fromhex("0b100080000000f07f0000000000000a")


def test_a_split_field_is_spread_over_its_parts() -> None:
    entry = DteRoot(GCR3=0x0001_2345_6789_A000)

    low, high = np.frombuffer(entry.encode(), "<u8").tolist()
    assert (low >> 58 & 7, high >> 16 & 0xFFFF, high >> 43) == (2, 0xCF13, 0x2468A)
    assert entry.GCR3 == 0x0001_2345_6789_A000


def test_a_known_value_reads_as_its_name_and_another_as_a_number() -> None:
    assert Basket(Kind=5).Kind is Fruit.PEAR
    assert Basket(Kind=6).Kind == 6
    assert not isinstance(Basket(Kind=6).Kind, Fruit)


def test_sizes_and_bits_are_known_of_the_class() -> None:
    assert (Basket.width, Basket.size) == (128, 16)
    assert list(Basket.fields) == ["V", "Kind", "Table", "Soft", "Straddling", "Count"]
    table = Basket.fields["Table"]
    assert (table.high, table.low, table.shift, table.bits, table.maximum) == (51, 12, 12, 40, 0xF_FFFF_FFFF_F000)
    assert Basket.Kind.of is Fruit


def test_bits_that_no_field_covers_are_reserved_and_ignored_ones_are_not() -> None:
    assert Basket.reserved_mask == (1 << 120) - (1 << 71) | 1 << 59 | 7 << 52 | 0xFF << 4
    assert Basket.decode(0x0780_0000_0000_0010).reserved_set == 0x10


def test_a_replaced_field_leaves_the_others_and_the_reserved_bits() -> None:
    changed = Basket.decode(1 << 100 | 1).replace(Count=3)

    assert int(changed) == 3 << 120 | 1 << 100 | 1


def test_descriptors_with_the_same_bits_are_equal() -> None:
    same = Basket.decode(int(BASKET))
    assert same == BASKET
    assert hash(same) == hash(BASKET)
    assert BASKET.replace(V=0) != BASKET
    assert cast("object", DteRoot.decode(int(BASKET))) != BASKET
    assert pickle.loads(pickle.dumps(BASKET)) == BASKET  # noqa: S301


def test_a_derived_layout_has_the_fields_of_both() -> None:
    class Fuller(Basket):
        Extra = Bits(119, 112)

    assert list(Fuller.fields)[-2:] == ["Extra", "Count"]
    assert Fuller(V=1, Extra=2).encode()[14] == 2
    assert "Extra" not in Basket.fields


def test_numpy_integers_are_values_too() -> None:
    assert Basket(Count=int(np.uint64(200))) == Basket(Count=cast("int", np.uint64(200)))


# What a person reads.


def test_a_descriptor_prints_names_places_values_and_meanings() -> None:
    assert BASKET.pretty().splitlines() == [
        "Basket",
        "  V           [0]        1",
        "  Kind        [3:1]      5           (PEAR)",
        "  Table       [51:12]    0x80001000",
        "  Straddling  [70:60]    2047",
        "  Count       [127:120]  10",
    ]


def test_ignored_bits_and_reserved_ranges_are_printed_where_they_are_set() -> None:
    odd = Basket.decode(3 << 57 | 1 << 59 | 5 << 110 | 6 << 1)

    assert odd.pretty().splitlines() == [
        "Basket",
        "  V           [0]        0",
        "  Kind        [3:1]      6              (no such value)",
        "  Table       [51:12]    0x0",
        "  Soft        [58:55]    12",
        "  Straddling  [70:60]    0",
        "  Count       [127:120]  0",
        "  reserved    [59]       0x1",
        "  reserved    [119:71]   0x28000000000",
    ]


def test_a_split_field_is_printed_with_its_top_part_first() -> None:
    assert "[127:107|95:80|60:58]  0x123456789a000" in DteRoot(GCR3=0x1_2345_6789_A000).pretty()


def test_repr_gives_what_is_set() -> None:
    assert repr(Basket(V=1, Kind=5, Table=0x1000)) == "Basket(V=1, Kind=Fruit.PEAR, Table=0x1000)"
    assert repr(Basket.decode(0x10)) == "Basket(reserved_set=0x10)"
    assert repr(Basket()) == "Basket()"


# Values that do not fit: the text names the field, the value and the bound.


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: Basket(V=2), r"Basket\.V \[0\]: 0x2 does not fit; it holds 0 to 0x1"),
        (lambda: Basket(V=-1), r"Basket\.V \[0\]: -0x1 does not fit; it holds 0 to 0x1"),
        (lambda: BASKET.replace(Kind=8), r"Basket\.Kind \[3:1\]: 0x8 does not fit; it holds 0 to 0x7"),
        (lambda: Basket(Table=1 << 52), r"Basket\.Table \[51:12\]: 0x10+ does not fit; it holds 0 to 0xf{10}000"),
        (lambda: Basket(Table=0x1800), r"Basket\.Table \[51:12\]: 0x1800 is not a multiple of 0x1000"),
        (lambda: Basket.decode(bytes(15)), r"Basket: 15 bytes given, it has 16"),
        (lambda: Basket.decode(1 << 128), r"Basket: 0x10+ is not a value of 128 bits"),
        (lambda: Basket.decode(-1), r"Basket: -0x1 is not a value of 128 bits"),
        (
            lambda: Basket.columns(np.zeros((2, 15), np.uint8)),
            r"Basket\.columns: the array is uint8 \(2, 15\), not uint8 \(n, 16\)",
        ),
        (lambda: Basket.columns(np.zeros(16, np.uint8)), r"Basket\.columns: the array is uint8 \(16,\)"),
        (
            lambda: Basket.columns(cast("np.typing.NDArray[np.uint8]", np.zeros((2, 16)))),
            r"Basket\.columns: the array is float64 \(2, 16\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_field_value_and_bound(build: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        build()


def test_a_field_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="Basket has no field 'Knid'; it has V, Kind, "):
        Basket(Knid=1)


def test_a_descriptor_cannot_be_changed() -> None:
    basket = Basket(V=1)

    with pytest.raises(AttributeError, match=r"Basket is immutable: make a changed one with \.replace\(V=\.\.\.\)"):
        setattr(basket, "V", 0)  # noqa: B010
    with pytest.raises(AttributeError, match="Knid"):
        setattr(basket, "Knid", 0)  # noqa: B010
    assert basket.V == 1


# Layouts that cannot be.


def declare(width: int, **fields: FieldSpec) -> type[Descriptor]:
    made = types.new_class("Made", (Descriptor,), {"width": width}, lambda body: body.update(fields))
    return cast("type[Descriptor]", made)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: declare(64, A=Bits(3, 0), B=Bit(3)), r"Made\.B \[3\] overlaps A \[3:0\]"),
        (lambda: declare(64, A=Split((7, 4), (5, 5))), r"Made\.A \[5\|7:4\] overlaps A"),
        (lambda: declare(64, A=Ignored(9, 8), B=Bits(12, 9)), r"Made\.B \[12:9\] overlaps A \[9:8\]"),
        (lambda: declare(64, A=Bit(64)), r"Made\.A \[64\]: the highest bit is 63"),
        (lambda: declare(64, A=Split((3, 0), (99, 90))), r"Made\.A \[99:90\|3:0\]: the highest bit is 63"),
        (lambda: declare(60), r"Made: width is 60, not a positive multiple of 8 bits"),
        (lambda: declare(0), r"Made: width is 0"),
        (lambda: declare(64, encode=Bit(0)), r"Made\.encode: every descriptor has a member of that name"),
        (lambda: Bits(0, 3), r"bits \[0:3\]: the high bit comes first"),
        (lambda: Bit(-1), r"bits \[-1:-1\]: the high bit comes first, and no bit is below 0"),
        (lambda: Bits(64, 0), r"bits \[64:0\]: 65 bits shifted by 0 are not a value of at most 64 bits"),
        (lambda: Bits(63, 12, shift=13), r"bits \[63:12\]: 52 bits shifted by 13 "),
        (lambda: Bits(7, 0, shift=-1), r"8 bits shifted by -1 "),
        (lambda: Field(1, 0, of=Fruit), r"bits \[1:0\]: <Fruit.PEAR: 5> does not fit, the largest value is 0x3"),
        (Split, r"Split\(\) needs at least one \(high, low\) part"),
    ],
)
def test_a_layout_that_cannot_be_is_refused_where_it_is_declared(build: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        build()


def test_a_name_that_is_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="field V is declared twice"):

        class Twice(Descriptor, width=64):
            V = Bit(0)
            V = Bit(1)  # noqa: PIE794

    with pytest.raises(ValueError, match=r"Derived\.V is declared twice: a layout it derives from has it too"):

        class Derived(Basket):
            V = Bit(119)


# Any layout, judged bit by bit.


@st.composite
def layouts(draw: st.DrawFn) -> type[Descriptor]:
    """Cut a width into pieces, shuffle them, and make fields of one to three pieces; wide ones stay reserved."""
    width = draw(st.sampled_from([8, 32, 64, 128, 160, 512]))
    cuts = draw(st.sets(st.integers(1, width - 1), max_size=16))
    pieces = draw(st.permutations([(end - 1, start) for start, end in pairwise(sorted(cuts | {0, width}))]))
    fields: dict[str, FieldSpec] = {}
    while pieces:
        taken = draw(st.integers(1, 3))
        parts, pieces = pieces[:taken], pieces[taken:]
        room = 64 - sum(high - low + 1 for high, low in parts)
        if room >= 0:
            fields[f"f{len(fields)}"] = Split(*parts, shift=draw(st.integers(0, room)))
    return declare(width, **fields)


def bit_by_bit(spec: FieldSpec, raw: int) -> int:
    places = [bit for high, low in spec.parts for bit in range(low, high + 1)]
    return sum((raw >> bit & 1) << number for number, bit in enumerate(places)) << spec.shift


@given(layouts(), st.data())
def test_decode_agrees_with_reading_bit_by_bit(layout: type[Descriptor], data: st.DataObject) -> None:
    raw = data.draw(st.integers(0, (1 << layout.width) - 1))

    entry = layout.decode(raw.to_bytes(layout.size, "little"))

    assert {name: getattr(entry, name) for name in layout.fields} == {
        name: bit_by_bit(spec, raw) for name, spec in layout.fields.items()
    }
    covered = {bit for spec in layout.fields.values() for high, low in spec.parts for bit in range(low, high + 1)}
    assert entry.reserved_set == sum(raw & 1 << bit for bit in range(layout.width) if bit not in covered)


@given(layouts(), st.data())
def test_what_was_built_is_read_back(layout: type[Descriptor], data: st.DataObject) -> None:
    values = {
        name: data.draw(st.integers(0, (1 << spec.bits) - 1)) << spec.shift for name, spec in layout.fields.items()
    }

    built = layout(**values)
    read = layout.decode(built.encode())

    assert {name: getattr(read, name) for name in layout.fields} == values
    assert read == built
    assert read.reserved_set == 0
    assert built.pretty().count("\n") == len(values)


@given(layouts(), st.data())
def test_columns_agree_with_decode(layout: type[Descriptor], data: st.DataObject) -> None:
    entries = data.draw(st.lists(st.binary(min_size=layout.size, max_size=layout.size), max_size=4))
    raw = np.frombuffer(b"".join(entries), np.uint8).reshape(len(entries), layout.size)

    columns = layout.columns(raw)

    assert list(columns) == list(layout.fields)
    assert all(column.dtype == np.uint64 for column in columns.values())
    assert {name: column.tolist() for name, column in columns.items()} == {
        name: [getattr(layout.decode(entry), name) for entry in entries] for name in layout.fields
    }


def test_columns_leave_the_array_as_it_was() -> None:
    raw = np.frombuffer(BASKET.encode() * 3, np.uint8).reshape(3, 16).copy()
    before = raw.copy()

    columns = Basket.columns(raw[::2])
    columns["Straddling"] += np.uint64(1)

    assert columns["Count"].tolist() == [10, 10]
    assert (raw == before).all()
