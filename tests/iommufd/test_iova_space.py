from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from viommu.kernel_errors import AddressInUse, Exists, Invalid, NoSpace, Overflow
from viommu.objects.areas import Area
from viommu.objects.intervals import U64_MAX, Disjoint, Range, holes, merged
from viommu.objects.iova_space import HUGE_PAGE, IovaSpace
from viommu.objects.pages import UserPages
from viommu.ops import Prot
from viommu.oracle.processes import World

PAGE = 4096


def space(*taken: tuple[int, int]) -> IovaSpace:
    made = IovaSpace()
    for start, last in taken:
        pages = UserPages(World().process(0), 1, writable=True, accounting=None)
        made.add(Area(start, last, pages, 0, Prot.READ))
    return made


def test_a_mapping_is_placed_in_the_first_hole_that_fits() -> None:
    assert space().place(0x5000, PAGE) == PAGE
    assert space((PAGE, 2 * PAGE - 1)).place(0x5000, PAGE) == 2 * PAGE
    assert space((0x2000, 0x2FFF)).place(0x4000, 0x2000) == 0x4000


def test_a_placed_mapping_keeps_the_offset_in_its_page() -> None:
    assert space().place(0x5800, 0x800) % PAGE == 0x800


def test_a_placed_mapping_is_aligned_to_its_length_as_far_as_its_address_is() -> None:
    assert space().place(0x40_0000, 0x10000) == 0x10000
    assert space().place(0x40_2000, 0x10000) == 0x2000
    assert space().place(0, HUGE_PAGE * 4) == HUGE_PAGE


def test_placement_obeys_the_allowed_list_and_the_fixed_do_not() -> None:
    made = space()
    made.allow([Range(0x8000, 0x8FFF)])
    assert made.place(0x5000, PAGE) == 0x8000
    with pytest.raises(NoSpace):
        made.place(0x5000, 2 * PAGE)
    made.check_fixed(0x100000, PAGE)


def test_an_address_less_aligned_than_the_ioas_cannot_be_placed() -> None:
    made = space()
    made.alignment = PAGE
    with pytest.raises(Invalid):
        made.place(0x5800, PAGE)


def area(start: int, length: int) -> Area:
    return Area(
        start, start + length - 1, UserPages(World().process(0), 1, writable=True, accounting=None), 0, Prot.READ
    )


class Placements(RuleBasedStateMachine):
    """A space that remembers where to search places as one that has just come to be."""

    def __init__(self) -> None:
        super().__init__()
        self.space = IovaSpace()

    def fresh(self) -> IovaSpace:
        made = IovaSpace(reserved=list(self.space.reserved), allowed=self.space.allowed)
        for taken in self.space.areas:
            made.add(taken)
        return made

    @rule(address=st.sampled_from([0, 0x1000, 0x2000, 0x5800, 0x40_0000]), pages=st.integers(1, 5))
    def place(self, address: int, pages: int) -> None:
        length = pages * PAGE
        try:
            found = self.space.place(address, length)
        except NoSpace:
            with pytest.raises(NoSpace):
                self.fresh().place(address, length)
            return
        assert found == self.fresh().place(address, length)
        self.space.add(area(found, length))

    @rule(page=st.integers(0, 40), pages=st.integers(1, 5))
    def put(self, page: int, pages: int) -> None:
        if self.space.areas.first(page * PAGE, (page + pages) * PAGE - 1) is None:
            self.space.add(area(page * PAGE, pages * PAGE))

    @rule(index=st.integers(0, 50))
    def remove(self, index: int) -> None:
        found = list(self.space.areas)
        if found:
            self.space.remove(found[index % len(found)])

    @rule(page=st.integers(0, 40), pages=st.integers(1, 5))
    def reserve(self, page: int, pages: int) -> None:
        with suppress(AddressInUse):
            self.space.reserve(page * PAGE, (page + pages) * PAGE - 1, self)

    @rule()
    def unreserve(self) -> None:
        self.space.unreserve(self)

    @rule(page=st.integers(0, 40), pages=st.integers(1, 30))
    def allow(self, page: int, pages: int) -> None:
        with suppress(AddressInUse):
            self.space.allow([Range(page * PAGE, (page + pages) * PAGE - 1)])


TestPlacements = Placements.TestCase
TestPlacements.settings = settings(max_examples=60, stateful_step_count=30)


def test_half_of_all_addresses_is_too_much_to_place() -> None:
    with pytest.raises(Overflow):
        space().place(0, U64_MAX // 2)


@pytest.mark.parametrize(
    ("iova", "length", "error"),
    [
        (0x1001, PAGE, Invalid),
        (U64_MAX - PAGE + 1 + 4, PAGE, Invalid),
        (U64_MAX + 1 - PAGE, 2 * PAGE, Overflow),
        (0x10000, PAGE, Exists),
        (0xF000, 2 * PAGE, Exists),
        (0x20000, PAGE, Invalid),
    ],
)
def test_a_fixed_place_is_checked_for_alignment_then_the_end_then_what_is_there(
    iova: int, length: int, error: type[Exception]
) -> None:
    made = space((0x10000, 0x10FFF))
    made.alignment = 0x10
    made.reserve(0x20000, 0x20FFF, None)
    with pytest.raises(error):
        made.check_fixed(iova, length)


def test_what_is_mapped_or_allowed_cannot_be_reserved() -> None:
    made = space((0x10000, 0x10FFF))
    made.allow([Range(0x30000, 0x30FFF)])
    for start in (0x10000, 0x30FFF):
        with pytest.raises(AddressInUse):
            made.reserve(start, start + PAGE, None)


def test_what_no_page_table_has_entries_for_is_told_as_beyond_its_aperture() -> None:
    made = space((0x10000, 0x10FFF))
    with pytest.raises(
        AddressInUse, match=r"beyond the aperture of the page table IOVA 0x8000: free of .* at 0x10000-"
    ):
        made.reserve(0x8000, U64_MAX, None, beyond_aperture=True)
    made.reserve(0x20000, U64_MAX, None, beyond_aperture=True)
    with pytest.raises(Invalid, match=r"outside 0x20000-0xffffffffffffffff, which is beyond the aperture"):
        made.check_fixed(0x20000, PAGE)
    made.reserve(0x0, 0xFFF, None)
    with pytest.raises(Invalid, match="outside the reserved 0x0-0xfff"):
        made.check_fixed(0, PAGE)


def test_reserved_ranges_may_meet_and_each_owner_takes_back_its_own() -> None:
    made, owner = space(), object()
    made.reserve(0x1000, 0x3FFF, owner)
    made.reserve(0x2000, 0x2FFF, None)
    assert made.usable() == [Range(0, 0xFFF), Range(0x4000, U64_MAX)]
    made.unreserve(owner)
    assert made.usable() == [Range(0, 0x1FFF), Range(0x3000, U64_MAX)]


def test_where_everything_is_reserved_nothing_is_usable() -> None:
    made = space()
    made.reserve(0, U64_MAX, None)
    assert made.usable() == []


def test_a_new_list_that_meets_a_reserved_range_leaves_the_old_one() -> None:
    made = space()
    made.reserve(0x2000, 0x2FFF, None)
    made.allow([Range(0x8000, 0x8FFF)])
    with pytest.raises(AddressInUse):
        made.allow([Range(0x2800, 0x4000)])
    assert made.allowed == (Range(0x8000, 0x8FFF),)


def test_ranges_that_touch_are_joined_and_holes_lie_between() -> None:
    ranges = [Range(0, 4), Range(5, 9), Range(20, 29)]
    assert list(merged(ranges)) == [Range(0, 9), Range(20, 29)]
    assert list(holes(ranges, 0, 40)) == [Range(10, 19), Range(30, 40)]


def test_disjoint_ranges_are_found_by_any_address_that_they_hold() -> None:
    known: Disjoint[Range] = Disjoint()
    for found in (Range(30, 39), Range(10, 19)):
        known.add(found)
    assert known.first(0, 9) is None
    assert known.first(19, 50) == Range(10, 19)
    assert list(known.within(15, 30)) == [Range(10, 19), Range(30, 39)]
    assert known.first(U64_MAX, U64_MAX) is None
