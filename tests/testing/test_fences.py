"""NST-008: completion stores of guests ask for the rights of what the IOAS maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.testing import Options, Subject, conform
from viommu.testing.runner import Outcome
from viommu_amd_viommu.host.paging import HostTables

if TYPE_CHECKING:
    import pytest

    from viommu.testing.runner import Verdict


def asked(driver: str) -> Verdict:
    return next(conform(Subject.of(driver), Options(), ["NST-008"]))


def test_stores_by_calls_and_queues_keep_to_what_a_guest_may_write() -> None:
    assert asked("amd_viommu").outcome is Outcome.PASSED


def test_parents_that_take_nothing_read_only_are_told_as_such() -> None:
    found = asked("vtd")
    assert found.outcome is Outcome.PASSED
    assert found.note.startswith("nesting parents take nothing read-only")


def test_a_driver_without_such_stores_is_not_asked() -> None:
    assert "no completion stores of guests (GuestKit.fences)" in asked("smmuv3_cmdqv").reason


def test_a_store_that_asks_for_no_rights_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HostTables, "writable", HostTables.physical)
    found = asked("amd_viommu")
    assert found.outcome is Outcome.FAILED
    assert "by a call, a guest's store comes to memory that the IOAS maps read-only" in found.reason


def test_a_store_that_does_not_come_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: object) -> None: ...

    monkeypatch.setattr(HostTables, "writable", nowhere)
    assert asked("amd_viommu").outcome is Outcome.FAILED
