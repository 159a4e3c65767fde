"""Host (v1) tables as a device table entry configures them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from viommu.faults import Access, FaultKind
from viommu.translation import Translation

if TYPE_CHECKING:
    from plugins.amd_viommu.tests.conftest import Amd

PAGE = 1 | 3 << 61
"""A present 4 KiB leaf that grants everything."""
ACCESSED, DIRTY = 1 << 5, 1 << 6


@pytest.mark.parametrize("mode", range(1, 7))
def test_a_table_of_every_mode_translates(amd: Amd, mode: int) -> None:
    root = amd.page()
    last = (1 << min(64, 12 + 9 * mode)) - 0x1000
    amd.device(Mode=mode, HostPageTableRoot=root)
    amd.map(root, mode, last, 0xABC_D000 | PAGE)

    assert amd.pa(last + 0x123) == 0xABC_D123


@pytest.mark.parametrize("mode", range(1, 6))
def test_an_address_beyond_the_mode_is_refused(amd: Amd, mode: int) -> None:
    amd.device(Mode=mode, HostPageTableRoot=amd.page())

    assert amd.fault(1 << 12 + 9 * mode).kind is FaultKind.INPUT_SIZE


@pytest.mark.parametrize(
    ("level", "entry", "size"),
    [
        (1, 0x1_0000 | 7 << 9, 0x2000),
        (1, 0x1_1000 | 7 << 9, 0x4000),
        (1, 0x1_7000 | 7 << 9, 0x1_0000),
        (1, 0x17_F000 | 7 << 9, 0x10_0000),
        (2, 0x20_0000, 0x20_0000),
        (2, 0x5F_F000 | 7 << 9, 0x40_0000),
        (3, 0x4000_0000, 0x4000_0000),
        (3, 0xBFFF_F000 | 7 << 9, 0x8000_0000),
    ],
)
def test_page_sizes_as_linux_encodes_them(amd: Amd, level: int, entry: int, size: int) -> None:
    root = amd.page()
    amd.device(Mode=4, HostPageTableRoot=root)
    amd.map(root, 4, 0x10_0000_0000, entry | PAGE, at_level=level)

    outcome = amd.translate(0x10_0000_0000 + 0x345)

    assert isinstance(outcome, Translation)
    assert outcome.page_size == size
    assert outcome.pa == (entry & 0x000F_FFFF_FFFF_F000) // size * size + 0x345


def test_a_level_may_be_skipped_where_its_address_bits_are_zero(amd: Amd) -> None:
    root, last = amd.page(), amd.page()
    amd.device(Mode=4, HostPageTableRoot=root)
    amd.store(root, last | 1 << 9 | PAGE)
    amd.store(last + 8, 0x5000 | PAGE)

    assert amd.pa(0x1040) == 0x5040
    assert amd.fault(0x20_1040).kind is FaultKind.MALFORMED


def test_the_root_rights_of_the_entry_bound_those_of_the_tables(amd: Amd) -> None:
    root = amd.page()
    amd.device(Mode=3, HostPageTableRoot=root, IW=0)
    amd.map(root, 3, 0x1000, 0x5000 | PAGE)

    assert amd.pa(0x1000) == 0x5000
    assert amd.fault(0x1000, access=Access.WRITE).kind is FaultKind.PERMISSION


@pytest.mark.parametrize(
    ("had", "features", "after_read", "after_write"),
    [
        (0, {}, 0, 0),
        (1, {}, ACCESSED, ACCESSED),
        (3, {}, ACCESSED, ACCESSED | DIRTY),
        (2, {}, 0, 0),
        (3, {"HA": 0, "HD": 0}, 0, 0),
        (3, {"HD": 0}, ACCESSED, ACCESSED),
    ],
)
def test_had_sets_flags_in_the_leaf_as_far_as_hardware_can(
    amd: Amd, had: int, features: dict[str, int], after_read: int, after_write: int
) -> None:
    root = amd.page()
    amd.features |= features
    amd.device(Mode=3, HostPageTableRoot=root, HAD=had)
    slot = amd.map(root, 3, 0x1000, 0x5000 | PAGE)

    amd.pa(0x1000)
    assert amd.load(slot) & 0xFFF == PAGE & 0xFFF | after_read
    amd.pa(0x1000, access=Access.WRITE)
    assert amd.load(slot) & 0xFFF == PAGE & 0xFFF | after_write


def test_caches_are_tagged_with_the_domain(amd: Amd) -> None:
    amd.device(Mode=3, HostPageTableRoot=amd.page(), DomainID=0xBEEF)

    context = amd.configure()

    assert getattr(context, "stage2_tag", None) == 0xBEEF


def test_a_guest_root_is_not_looked_at_without_pasid_or_giov(amd: Amd) -> None:
    root = amd.page()
    amd.device(Mode=3, HostPageTableRoot=root, GV=1, GCR3=0x7000_0000)
    amd.map(root, 3, 0x1000, 0x5000 | PAGE)

    assert amd.pa(0x1000) == 0x5000
