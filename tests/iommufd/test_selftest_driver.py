"""The mock driver beyond what recordings show: marks across entries, operations that fail half-way."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.iommufd.client import APERTURE, Client
from viommu.kernel_errors import NoMemory
from viommu.ops import Prot
from viommu.selftest.page_table import HUGE_ENTRY, SMALL_PAGE, MockPageTable

RW = Prot.READ | Prot.WRITE


class Marks:
    """A bitmap that keeps what it is told."""

    def __init__(self) -> None:
        self.marks: list[tuple[int, int]] = []

    def mark(self, iova: int, length: int) -> None:
        self.marks.append((iova, length))


def marks_of(table: MockPageTable, iova: int, length: int, *, clear: bool = False) -> list[tuple[int, int]]:
    bitmap = Marks()
    table.read_dirty(iova, length, bitmap, clear=clear)
    return bitmap.marks


@given(st.lists(st.integers(0, 63)), st.integers(0, 63), st.integers(1, 64))
def test_marks_are_told_once_each_by_range_and_go_where_cleared(dirty: list[int], start: int, count: int) -> None:
    table = MockPageTable(dirty_tracking=True, tracking=True)
    table.map(APERTURE, SMALL_PAGE, 64 * SMALL_PAGE, RW, None)  # so placed that no larger entry fits
    for index in dirty:
        table.set_dirty(APERTURE + index * SMALL_PAGE + 5)

    told = marks_of(table, APERTURE + start * SMALL_PAGE, count * SMALL_PAGE, clear=True)

    inside = {index for index in dirty if start <= index < start + count}
    assert told == [(APERTURE + index * SMALL_PAGE, SMALL_PAGE) for index in sorted(inside)]
    left = sorted(set(dirty) - inside)
    assert marks_of(table, APERTURE, 64 * SMALL_PAGE) == [(APERTURE + index * SMALL_PAGE, SMALL_PAGE) for index in left]


def test_an_entry_of_one_item_is_told_whole() -> None:
    table = MockPageTable(dirty_tracking=True, huge=True, tracking=True)
    table.map(0, 0, 2 * HUGE_ENTRY, RW, None)
    table.set_dirty(HUGE_ENTRY + 5 * 4096)

    assert marks_of(table, HUGE_ENTRY, 4096, clear=True) == [(HUGE_ENTRY, HUGE_ENTRY)]
    assert marks_of(table, 0, 2 * HUGE_ENTRY) == []


@pytest.mark.parametrize(
    ("pages", "marked", "start", "told"),
    [(2, 0, 0, (0, 1)), (2, 1, 0, (0, 1)), (4, 0, 0, (0, 3)), (4, 0, 1, (1, 2)), (4, 3, 2, (2, 1)), (4, 1, 3, (3, 0))],
)
def test_an_entry_of_several_items_is_told_up_to_before_its_last_one(
    pages: int, marked: int, start: int, told: tuple[int, int]
) -> None:
    table = MockPageTable(dirty_tracking=True, tracking=True)
    table.map(APERTURE, 0, pages * SMALL_PAGE, RW, None)
    table.set_dirty(APERTURE + marked * SMALL_PAGE)

    found = marks_of(table, APERTURE + start * SMALL_PAGE, (pages - start) * SMALL_PAGE, clear=True)

    assert found == [(APERTURE + told[0] * SMALL_PAGE, told[1] * SMALL_PAGE)]
    assert marks_of(table, APERTURE, pages * SMALL_PAGE) == []


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 90), st.sampled_from([None, 4096]))
def test_a_run_is_cut_into_the_largest_entries_that_fit(iova: int, pa: int, pages: int, largest: int | None) -> None:
    table = MockPageTable(dirty_tracking=True, tracking=True)
    table.map(APERTURE + iova * SMALL_PAGE, pa * SMALL_PAGE, pages * SMALL_PAGE, RW, largest)
    at = 0
    while at < pages:
        size = 1
        while (iova + at | pa + at) % (2 * size) == 0 and at + 2 * size <= pages and not (largest and size == 2):
            size *= 2
        for inside in (at, at + size - 1):
            entry = table._entry_at(APERTURE + (iova + inside) * SMALL_PAGE + 7)
            assert entry is not None
            assert (entry.start, entry.size) == (APERTURE + (iova + at) * SMALL_PAGE, size * SMALL_PAGE)
        at += size


def test_unmapping_takes_marks_along() -> None:
    table = MockPageTable(dirty_tracking=True, tracking=True)
    table.map(APERTURE, SMALL_PAGE, 4 * SMALL_PAGE, RW, None)
    for index in range(4):
        table.set_dirty(APERTURE + index * SMALL_PAGE)

    table.unmap(APERTURE + SMALL_PAGE, 2 * SMALL_PAGE)

    assert [iova for iova, _ in marks_of(table, APERTURE, 4 * SMALL_PAGE)] == [APERTURE, APERTURE + 3 * SMALL_PAGE]


def test_an_access_that_gets_no_fd_leaves_the_ioas_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    ioas = client.ioas()

    def no_fd(_: object) -> int:
        raise NoMemory("fd", bound="a free one")

    with monkeypatch.context() as patch:
        patch.setattr(client.process, "install", no_fd)
        client.test(5, ioas, ("I", 0), ("I", 1))

    assert client.result == -errno.ENOMEM
    assert client.destroy(ioas) == 0
