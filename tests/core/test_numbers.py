"""Numbers have one owner each, whoever asks at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viommu.kernel_errors import Busy, Invalid, NoSpace
from viommu.numbers import Numbers

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    AtOnce: TypeAlias = Callable[[int, Callable[[int], object]], None]

STEPS = st.lists(st.tuples(st.sampled_from(["take", "reserve", "give back"]), st.integers(0, 9)), max_size=60)


@given(STEPS)
def test_the_lowest_free_one_is_given_and_none_twice(steps: list[tuple[str, int]]) -> None:
    numbers, free = Numbers("tag", range(2, 9)), set(range(2, 9))
    for what, number in steps:
        if what == "take":
            if free:
                assert numbers.take("somebody") == min(free)
                free.remove(min(free))
            else:
                with pytest.raises(NoSpace):
                    numbers.take("somebody")
        elif what == "reserve":
            if number in free:
                numbers.reserve(number, "somebody")
                free.remove(number)
            else:
                with pytest.raises((Busy, Invalid)):
                    numbers.reserve(number, "somebody")
        elif number in numbers.taken:
            numbers.give_back(number)
            free.add(number)
        assert numbers.taken == set(range(2, 9)) - free


def test_those_who_take_at_the_same_time_have_numbers_of_their_own(at_once: AtOnce) -> None:
    numbers, found = Numbers("tag", range(1, 1 << 16)), list[int]()
    at_once(4, lambda _: found.extend([numbers.take("somebody") for _ in range(2000)]))
    assert sorted(found) == list(range(1, 8001))
