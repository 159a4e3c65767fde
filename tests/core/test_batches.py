"""A batch of columns as the engine takes them goes there as it is; whoever gives others is told the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.toy import Guest, ToyDriver
from viommu import Access, Iotlb, Machine
from viommu.drivers import bind_plugin
from viommu.errors import BadValue, OutOfRange
from viommu.translation import Translations

PAGE = 4096


def machine_of(guest: Guest, *, sanitize: bool = False) -> Machine:
    return Machine(bind_plugin(ToyDriver()), guest.memory, guest.registers, iotlb=Iotlb(), sanitize=sanitize)


def mapped() -> Guest:
    guest = Guest()
    for page in range(6):
        guest.map(0x5000 + page * PAGE, 0x8000_0000 + page * 3 * PAGE, writable=page != 3)
    return guest


def same(one: Translations, other: Translations) -> bool:
    columns = ("pa", "kind", "page_lg2", "rights")
    asked = ("requester", "iova", "access", "pasid")
    return (
        all(np.array_equal(getattr(one, name), getattr(other, name)) for name in columns)
        and all(np.array_equal(getattr(one.asked, name), getattr(other.asked, name)) for name in asked)
        and list(one.faults()) == list(other.faults())
        and one.fault_count == other.fault_count
    )


ROWS = st.lists(
    st.tuples(st.sampled_from((3, 3, 4, 9)), st.integers(0x4000, 0xC000), st.sampled_from((1, 2, 3, 9))), max_size=80
)


@given(rows=ROWS, single=st.sampled_from(("", "requester", "access")), pasid=st.sampled_from((None, 2, "column")))
def test_arrays_lists_and_single_values_are_answered_alike(
    rows: list[tuple[int, int, int]], single: str, pasid: int | str | None
) -> None:
    fast, slow = machine_of(mapped()), machine_of(mapped())
    requester = np.array([row[0] for row in rows], np.uint32)
    iova = np.array([row[1] for row in rows], np.uint64)
    access = np.array([row[2] for row in rows], np.uint8)
    pasids = np.full(len(rows), 2, np.uint32) if pasid == "column" else pasid
    given_requester: Any = 3 if single == "requester" else requester
    given_access: Any = 1 if single == "access" else access
    as_lists = [
        column.tolist() if isinstance(column, np.ndarray) else column
        for column in (given_requester, iova, given_access, pasids)
    ]

    answer = fast.translate_many(given_requester, iova, given_access, pasids)

    assert fast.translate_columns(Translations, given_requester, iova, given_access, pasids) is not None
    assert len(answer) == len(rows)
    if len(rows) != 1:
        assert same(answer, slow.translate_many(*as_lists))  # type: ignore[arg-type]


def columns(**changed: object) -> list[Any]:
    made: dict[str, Any] = {
        "requester": np.full(4, 3, np.uint32),
        "iova": np.arange(4, dtype=np.uint64) * PAGE + 0x5000,
        "access": np.full(4, 1, np.uint8),
        "pasid": None,
    }
    return list((made | changed).values())


@pytest.mark.parametrize(
    "asked",
    [
        columns(iova=np.arange(4) * PAGE),
        columns(iova=np.arange(8, dtype=np.uint64)[::2]),
        columns(iova=np.arange(4, dtype=">u8")),
        columns(iova=0x5000, requester=3, access=1),
        columns(access=np.array([1], np.uint8)),
        columns(pasid=True),
    ],
)
def test_what_the_engine_does_not_take_as_it_is_goes_the_long_way(asked: list[Any]) -> None:
    machine = machine_of(mapped())

    assert (machine.translate_columns(Translations, *asked) is None) == (asked[3] is None)
    assert len(machine.translate_many(*asked)) in {1, 4}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (columns(requester=np.array([3, 3, 0x100, 3], np.uint32)), "RID in row 2 0x100 is above 0xff"),
        (columns(requester=0x100), "RID in row 0 0x100 is above 0xff"),
        (columns(access=np.array([1, 1, 1, 16], np.uint8)), "access in row 3 0x10 is above 0xf"),
        (columns(access=np.array([1, 8, 1, 1], np.uint8)), "access in row 1 0x0 is not one that reads"),
        (columns(access=0), "access in row 0 0x0 is not one that reads"),
        (columns(pasid=np.array([1, 16, 1, 1], np.uint32)), "PASID in row 1 0x10 is above 0xf"),
        (columns(requester=np.full(3, 3, np.uint32)), "columns of a batch 'of 3, 4, 4, 1 rows' is not of one length"),
    ],
)
def test_arrays_out_of_bounds_are_refused_by_row(asked: list[Any], message: str) -> None:
    machine = machine_of(mapped())

    with pytest.raises((BadValue, OutOfRange), match=message):
        machine.translate_many(*asked)
    assert machine.translator.counters()["translations"] == 0


def test_rows_without_a_pasid_may_stand_among_others() -> None:
    machine = machine_of(mapped())
    pasids = np.array([0xFFFF_FFFF, 2, 0xFFFF_FFFF, 2], np.uint32)

    answer = machine.translate_many(*columns(pasid=pasids))

    assert [machine.translate(3, 0x5000 + row * PAGE, Access.READ, None if row % 2 == 0 else 2) for row in range(4)]
    assert answer.asked.pasid.tolist() == pasids.tolist()


def test_a_sanitizer_sees_batches() -> None:
    guest = mapped()
    machine = machine_of(guest, sanitize=True)
    machine.translate_many(*columns())
    guest.map(0x5000, 0x9000_0000)

    machine.translate_many(*columns())

    assert machine.sanitizer is not None
    assert len(machine.sanitizer.reports) == 1


def test_columns_outlive_their_batch_and_are_made_once() -> None:
    machine = machine_of(mapped())
    answer = machine.translate_many(*columns())

    pa, rights = answer.pa, answer.rights

    assert answer.pa is pa
    del answer
    assert pa.tolist() == [0x8000_0000 + row * 3 * PAGE for row in range(4)]
    assert rights.tolist() == [7, 7, 7, 5]
    with pytest.raises(TypeError):
        Translations()


def test_a_fault_is_found_by_its_row() -> None:
    machine = machine_of(mapped())
    answer = machine.translate_many(3, np.array([0x5000, 0x1000, 0x6000, 0x2000], np.uint64), 1)

    assert [answer.fault(row) is not None for row in (-1, 0, 1, 2, 3, 4)] == [False, False, True, False, True, False]
    assert [row for row, _ in answer.faults()] == [1, 3]
