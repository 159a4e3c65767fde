"""A device's own TLB forgets what it is told to, also what is on its way."""

from __future__ import annotations

import pytest

from viommu.addresses import RequesterId
from viommu.devices import DeviceTlb, Held
from viommu.faults import Access
from viommu.platform import DeviceInvalidation

PAGE = Held(0x8000, 12, Access.READ)
ALL = DeviceInvalidation(RequesterId(1), None, 0, (1 << 64) - 1)
ELSEWHERE = DeviceInvalidation(RequesterId(1), None, 0x10_0000, 0x10_0FFF)


@pytest.mark.parametrize("invalidation", [ALL, ELSEWHERE], ids=["of it", "of another page"])
def test_a_translation_that_was_asked_for_before_an_invalidation_is_not_held(invalidation: DeviceInvalidation) -> None:
    tlb = DeviceTlb()
    asked = tlb.invalidations
    tlb.drop(invalidation)
    tlb.keep(None, 0x1000, PAGE, asked)

    assert not len(tlb)


def test_a_translation_that_was_asked_for_after_an_invalidation_is_held() -> None:
    tlb = DeviceTlb()
    tlb.drop(ALL)
    tlb.keep(None, 0x1000, PAGE, tlb.invalidations)

    assert tlb.find(None, 0x1234, Access.READ) == PAGE
    assert tlb.drop(ELSEWHERE) == 0
    assert tlb.drop(ALL) == 1
    assert not len(tlb)


def test_the_oldest_leaves_where_there_is_no_room() -> None:
    tlb = DeviceTlb(2)
    for page in range(3):
        tlb.keep(None, 0x1000 * page, PAGE)

    assert [tlb.find(None, 0x1000 * page, Access.READ) for page in range(3)] == [None, PAGE, PAGE]
