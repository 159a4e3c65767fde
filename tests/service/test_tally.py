"""Times of calls are kept in little room."""

from __future__ import annotations

from statistics import median_low

from hypothesis import given
from hypothesis import strategies as st

from viommu.service.tally import Times


@given(st.lists(st.integers(0, 10**12), min_size=1))
def test_a_median_is_right_to_two_digits(values: list[int]) -> None:
    times = Times()
    for value in values:
        times.add(value, failed=value % 2 == 0)
    exact = median_low(values)
    assert times.median <= exact <= times.median * 1.1 + 1
    assert (times.count, times.total) == (len(values), sum(values))
    assert times.errors == sum(value % 2 == 0 for value in values)
