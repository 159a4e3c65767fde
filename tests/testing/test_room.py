"""The kit maps where a driver's page tables can: other apertures and page sizes than 4 KiB break no rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import viommu
from tests.testing.small_host import SmallHost
from viommu.testing import GuestKit, Options, Subject, conform
from viommu.testing.report import story
from viommu.testing.room import NEEDED, Room
from viommu.testing.rule import Inapplicable, Need
from viommu.testing.runner import Outcome, Verdict

if TYPE_CHECKING:
    from tests.testing.small_host import Domain
    from viommu.objects.physical import PhysicalDevice

HOST = [
    "DRV-005", "DRV-006", "HWD-004", "PAG-001", "PAG-003", "PAG-004", "PAG-005", "PAG-006", "PAG-007", "ERR-009",
    "FLT-001", "FLT-003", "HST-003", "HST-004", "LEK-001", "LEK-004", "THR-001",
]  # fmt: skip
MAPPING = [number for number in HOST if number.startswith(("PAG", "HST", "LEK", "THR"))]
KIT = GuestKit(requesters=(3, 5), unrecorded={"access": "its records have an address and a requester"})


def asked(driver: object, *wanted: str, kit: GuestKit = KIT) -> dict[str, Verdict]:
    options = Options(effort=0.05)
    return {verdict.rule.id: verdict for verdict in conform(Subject.of(driver, kit), options, wanted)}


@pytest.mark.parametrize(
    "aperture",
    [(0, (1 << 30) - 1), (0, (1 << 32) - 1), (0x20_0000, 0x7F_FFFF), (0, (1 << 39) - 1)],
    ids=["30 bits", "32 bits", "six megabytes", "39 bits"],
)
def test_a_driver_of_any_aperture_keeps_all_rules_of_hosts(aperture: tuple[int, int]) -> None:
    found = asked(SmallHost(aperture=aperture), *HOST)
    skipped = {number for number, verdict in found.items() if verdict.outcome is Outcome.SKIPPED}
    assert skipped == {"FLT-003"}
    assert [story(verdict) for verdict in found.values() if verdict.outcome is Outcome.FAILED] == []


def test_an_aperture_that_is_too_small_is_a_reason() -> None:
    found = asked(SmallHost(aperture=(0, (1 << 21) - 1)), *MAPPING)
    assert {verdict.outcome for verdict in found.values()} == {Outcome.SKIPPED}
    assert "its aperture is too small: the kit maps 0x400000 bytes in a row" in found["LEK-001"].reason
    assert "0x0 to 0x1fffff" in found["LEK-001"].reason


def test_pages_beyond_those_of_the_modelled_kernel_are_a_reason() -> None:
    large = asked(SmallHost(page_sizes=1 << 14), *HOST)
    assert {verdict.outcome for verdict in large.values()} == {Outcome.SKIPPED}
    told = "its domains map no 4K page (the smallest has 16K), and the kernel that is modelled has pages of 4K"
    assert {verdict.reason for verdict in large.values()} == {told}


def test_frames_that_are_left_behind_are_found_within_a_small_aperture() -> None:
    kept = []

    class Leaking(SmallHost):
        @viommu.hookimpl
        def viommu_free_domain(self, domain: Domain) -> None:
            kept.append(domain)

    verdict = asked(Leaking(aperture=(0, (1 << 30) - 1)), "LEK-001")["LEK-001"]
    assert verdict.outcome is Outcome.FAILED
    assert "bytes of table frames more" in verdict.reason


def test_a_detach_that_does_nothing_is_found_within_a_small_aperture() -> None:
    class Open(SmallHost):
        @viommu.hookimpl
        def viommu_detach(self, device: PhysicalDevice) -> None:
            """Let it go on."""

    assert asked(Open(aperture=(0, (1 << 30) - 1)), "PAG-003")["PAG-003"].outcome is Outcome.FAILED


@pytest.mark.parametrize(
    "ranges", [[(0, 0xFEDF_FFFF), (0xFEF0_0000, (1 << 39) - 1)], [(0, 0x3FFF_FFFF)], [(0x1000, 0x60_0FFF)]]
)
def test_places_lie_within_ranges(ranges: list[tuple[int, int]]) -> None:
    room = Room(ranges)
    assert room.holds(room.base, NEEDED)
    assert room.base % (NEEDED // 2) == 0
    assert room.holds(room.far, 0x8000)
    assert not room.base <= room.far < room.base + 0x4000


def test_no_range_at_all_is_a_reason() -> None:
    with pytest.raises(Inapplicable, match="IOVAs none"):
        _ = Room([]).base


def test_reasons_are_sentences() -> None:
    for verdict in asked(SmallHost()).values():
        assert " no a " not in verdict.reason
        assert " no an " not in verdict.reason
    subject = Subject.of(SmallHost(), KIT)
    nested = next(one.rule for one in asked(SmallHost(), "INV").values())
    assert (subject.why_not(nested) or "").count(", and no ") == 1
    assert all(not need.value.startswith(("a ", "an ", "the ")) for need in Need)
