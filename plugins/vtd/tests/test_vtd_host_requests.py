"""Descriptors of the host driver, held against positions as the fact sheet prints them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viommu_vtd.host import requests
from viommu_vtd.host.requests import EVERYTHING, Pages
from viommu_vtd.spec.registers import CAP

ABLE = CAP(PSI=1, MAMV=9)


def words(descriptor: object) -> tuple[int, int]:
    raw = int(descriptor)  # type: ignore[call-overload]
    return raw & (1 << 64) - 1, raw >> 64


@pytest.mark.parametrize(
    ("descriptor", "expected"),
    [
        (requests.contexts_globally(), (1 | 1 << 4, 0)),
        (requests.context_of_device(5, 0x0108), (1 | 3 << 4 | 5 << 16 | 0x0108 << 32, 0)),
        (requests.pasids_globally(), (7 | 3 << 4, 0)),
        (requests.pasid_entry(5, 0x12345), (7 | 1 << 4 | 5 << 16 | 0x12345 << 32, 0)),
        (requests.iotlb_globally(), (2 | 1 << 4 | 1 << 6 | 1 << 7, 0)),
        (requests.iotlb_of_domain(5), (2 | 2 << 4 | 1 << 6 | 1 << 7 | 5 << 16, 0)),
        (
            requests.iotlb_pages(ABLE, 5, Pages(0x40_0000, 9), leaf_only=True),
            (2 | 3 << 4 | 1 << 6 | 1 << 7 | 5 << 16, 0x40_0000 | 1 << 6 | 9),
        ),
        (requests.pasid_iotlb(5, 7, EVERYTHING, leaf_only=True), (6 | 2 << 4 | 5 << 16 | 7 << 32, 0)),
        (
            requests.pasid_iotlb(5, 7, Pages(0x3000, 0), leaf_only=False),
            (6 | 3 << 4 | 5 << 16 | 7 << 32, 0x3000),
        ),
        (requests.device_tlb(0x0108, 0, Pages(0x3000, 0)), (3 | 0x0108 << 32, 0x3000)),
        (requests.device_tlb(0x0108, 0, Pages(0x4000, 1)), (3 | 0x0108 << 32, 0x4000 | 1)),
        (requests.device_tlb(0x0108, 0, Pages(0x8000, 3)), (3 | 0x0108 << 32, 0xB000 | 1)),
        (requests.device_tlb(0x0108, 0, EVERYTHING), (3 | 0x0108 << 32, 0x7FFF_FFFF_FFFF_F001)),
        (
            requests.device_tlb(0x0108, 7, EVERYTHING),
            (8 | 0x0108 << 16 | 7 << 32, 0x7FFF_FFFF_FFFF_F000 | 1 << 11),
        ),
        (requests.page_response(0x0108, 7, 3, 1), (9 | 1 << 4 | 1 << 12 | 0x0108 << 16 | 7 << 32, 3 << 3)),
        (requests.page_response(0x0108, None, 3, 0), (9 | 0x0108 << 16, 3 << 3)),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, tuple) else "",
)
def test_a_descriptor_has_its_fields_where_the_sheet_has_them(descriptor: object, expected: tuple[int, int]) -> None:
    assert words(descriptor) == expected


@pytest.mark.parametrize("cap", [CAP(PSI=0, MAMV=9), CAP(PSI=1, MAMV=8)], ids=["no PSI", "beyond MAMV"])
def test_more_pages_than_hardware_can_name_are_the_whole_domain(cap: CAP) -> None:
    assert requests.iotlb_pages(cap, 5, Pages(0, 9), leaf_only=True) == requests.iotlb_of_domain(5)


@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))
def test_pages_around_a_range_cover_it_and_are_the_smallest_aligned_block(one: int, other: int) -> None:
    start, last = min(one, other), max(one, other)
    pages = Pages.around(start, last)
    size = 4096 << pages.lg2
    assert pages.address % size == 0
    assert pages.address <= start <= last < pages.address + size
    if pages.lg2:
        assert start // (size // 2) != last // (size // 2)
