"""Records of refused accesses: what a driver says that they do not name is not asked, the rest is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import viommu
from tests.testing.small_host import LiveToy, SmallHost
from viommu.faults import Fault, Report
from viommu.hookspecs import Decoded
from viommu.layout import Bits, Descriptor
from viommu.testing import GuestKit, Options, Subject, conform
from viommu.testing.runner import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.hookspecs import HardwareModel
    from viommu.memory import PhysicalMemory
    from viommu.platform import Platform
    from viommu.testing.runner import Verdict


class Record(Descriptor, width=128):
    Address = Bits(63, 0)
    Stream = Bits(71, 64)


class Streams(SmallHost):
    """Its hardware records a number of its own for each requester, and an address."""

    def __init__(self, streams: Mapping[int, int]) -> None:
        super().__init__(aperture=(0, (1 << 30) - 1))
        self._streams = streams

    @viommu.hookimpl
    def viommu_hardware(  # type: ignore[override]
        self, memory: PhysicalMemory, platform: Platform
    ) -> HardwareModel:
        streams = self._streams

        class Recording(LiveToy):
            def report(self, fault: Fault) -> Report:
                made = Record(Address=fault.iova, Stream=streams.get(fault.requester, 0))
                return Report("fault", "REFUSED", made.encode())

        return Recording(memory, platform)

    @viommu.hookimpl
    def viommu_kinds(self) -> Mapping[str, tuple[int, ...]]:
        return {"event": (16,)}

    @viommu.hookimpl
    def viommu_decode(self, kind: str, raw: bytes) -> Decoded:
        return Decoded(kind, "Record", Record.decode(raw), "a refused access")


def asked(streams: Mapping[int, int], *unrecorded: str) -> dict[str, Verdict]:
    kit = GuestKit(requesters=(3, 5), unrecorded=dict.fromkeys(unrecorded, "its hardware is small"))
    found = conform(Subject.of(Streams(streams), kit), Options(effort=0.1, shrink=False), ["FLT-002", "FLT-003"])
    return {verdict.rule.id: verdict for verdict in found}


def test_records_that_name_less_than_others_are_told_and_the_way_out_with_it() -> None:
    found = asked({3: 0xA1, 5: 0xA2})
    assert {verdict.outcome for verdict in found.values()} == {Outcome.FAILED}
    assert "is the requester 0x3; if hardware knows devices by numbers of its own" in found["FLT-002"].reason


def test_what_a_driver_says_is_not_recorded_is_not_asked() -> None:
    found = asked({3: 0xA1, 5: 0xA2}, "requester", "access")
    assert found["FLT-002"].outcome is Outcome.PASSED
    assert (found["FLT-003"].outcome, found["FLT-003"].reason) == (
        Outcome.SKIPPED,
        "the driver says: its hardware is small",
    )


def test_a_number_that_is_that_of_both_devices_names_none() -> None:
    assert "records of two devices are alike" in asked({3: 0xA1, 5: 0xA1}, "requester")["FLT-002"].reason


def test_what_no_record_has_is_named() -> None:
    with pytest.raises(viommu.ViommuError, match="colour"):
        asked({}, "colour")
