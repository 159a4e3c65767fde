"""From an STE and a SubstreamID to a CD: tables of both shapes, default substreams, and CDs behind stage 2."""

from __future__ import annotations

import pytest

from plugins.smmuv3_cmdqv.tests.guest import (
    AF,
    HOLE,
    IPA,
    RAM,
    S2_DEVICE,
    S2_LEAF,
    S2_READ,
    STAGE1_CD,
    STREAM,
    VALID,
    Guest,
    ipa_of,
)
from viommu.faults import Access, Refusal
from viommu.translation import Translation
from viommu_smmuv3_cmdqv.spec.context_descriptor import CD, L1CD
from viommu_smmuv3_cmdqv.spec.events import OperationClass, TranslationRecord, WalkAbortRecord
from viommu_smmuv3_cmdqv.spec.registers import IDR5
from viommu_smmuv3_cmdqv.spec.stream_table import ContextTableFormat, DefaultSubstream, StreamConfig


def linear(guest: Guest, *ssids: int, cd_max: int = 6, **ste: int) -> int:
    """A linear table with valid CDs for ``ssids``; gives its address."""
    table = guest.take(CD.size << cd_max)
    for ssid in ssids:
        guest.put(table + ssid * CD.size, CD(**STAGE1_CD))
    guest.stream(**({"Config": StreamConfig.STAGE1, "S1ContextPtr": table, "S1CDMax": cd_max} | ste))
    return table


def test_a_linear_table_is_indexed_by_substream(guest: Guest) -> None:
    table = linear(guest, 5)

    guest.context(5)

    assert guest.log.read[1:] == [("CD", table + 5 * CD.size)]


@pytest.mark.parametrize(
    ("fmt", "leaf_size", "l1_offset", "cd_offset"),
    [
        (ContextTableFormat.TWO_LEVEL_64K, 0x1_0000, 0x20, 0x8D00),
        (ContextTableFormat.TWO_LEVEL_4K, 0x1000, 0x240, 0xD00),
    ],
)
def test_a_two_level_table_is_indexed_as_worked_out_by_hand(
    guest: Guest, fmt: ContextTableFormat, leaf_size: int, l1_offset: int, cd_offset: int
) -> None:
    top, leaf = guest.take(0x2000), guest.take(leaf_size)
    guest.put(top + l1_offset, L1CD(V=1, L2PTR=leaf))
    guest.put(leaf + cd_offset, CD(**STAGE1_CD))
    guest.stream(Config=StreamConfig.STAGE1, S1ContextPtr=top, S1CDMax=13, S1Fmt=fmt)

    guest.context(0x1234)

    assert guest.log.read[1:] == [("L1CD", top + l1_offset), ("CD", leaf + cd_offset)]


def test_a_substream_whose_leaf_table_is_absent_is_a_bad_one(guest: Guest) -> None:
    top = guest.take(0x1000)
    guest.stream(Config=StreamConfig.STAGE1, S1ContextPtr=top, S1CDMax=10, S1Fmt=ContextTableFormat.TWO_LEVEL_4K)

    assert guest.report(0x1000, ssid=0x80).reason == "C_BAD_SUBSTREAMID"


def test_the_reserved_table_format_acts_as_linear(guest: Guest) -> None:
    linear(guest, 5, S1Fmt=3)

    guest.context(5)


def test_format_and_default_are_ignored_without_substreams(guest: Guest) -> None:
    table = linear(guest, 0, cd_max=0, S1Fmt=ContextTableFormat.TWO_LEVEL_64K, S1DSS=DefaultSubstream.TERMINATE)

    guest.context()

    assert guest.log.read[1:] == [("CD", table)]


@pytest.mark.parametrize(
    ("default", "ssid", "reason"),
    [
        (DefaultSubstream.TERMINATE, None, "F_STREAM_DISABLED"),
        (3, None, "F_STREAM_DISABLED"),
        (DefaultSubstream.SUBSTREAM_0, None, None),
        (DefaultSubstream.SUBSTREAM_0, 0, "F_STREAM_DISABLED"),
        (DefaultSubstream.SUBSTREAM_0, 1, None),
        (DefaultSubstream.TERMINATE, 0, None),
        (DefaultSubstream.BYPASS_STAGE1, 0, None),
        (DefaultSubstream.TERMINATE, 64, "C_BAD_SUBSTREAMID"),
    ],
)
def test_the_default_substream_decides_who_is_turned_away(
    guest: Guest, default: int, ssid: int | None, reason: str | None
) -> None:
    linear(guest, 0, 1, S1DSS=default)

    found = guest.configure(ssid)

    assert (found.reason if isinstance(found, Refusal) else None) == reason


def test_a_substream_on_a_stream_without_substreams_is_a_bad_one(guest: Guest) -> None:
    linear(guest, 0, cd_max=0)

    assert guest.refusal(0).reason == "C_BAD_SUBSTREAMID"


def test_stage_1_can_be_bypassed_for_want_of_a_substream(guest: Guest) -> None:
    guest.set(IDR5, OAS=4)
    linear(guest, 0, S1DSS=DefaultSubstream.BYPASS_STAGE1)

    outcome = guest.outcome(0x1234_5678)

    assert isinstance(outcome, Translation)
    assert (outcome.pa, outcome.untranslated) == (0x1234_5678, True)
    assert guest.report(1 << 44).reason == "F_ADDR_SIZE"


def test_stage_2_still_translates_what_bypasses_stage_1(guest: Guest) -> None:
    guest.nested(S1CDMax=6, S1DSS=DefaultSubstream.BYPASS_STAGE1)

    assert guest.pa(IPA + 0x1234) == RAM + 0x1234


def test_a_cd_that_cannot_be_read_is_a_fetch_fault_with_its_address(guest: Guest) -> None:
    guest.stream(Config=StreamConfig.STAGE1, S1ContextPtr=HOLE)

    report = guest.report(0x1000)

    assert report.reason == "F_CD_FETCH"
    assert report.record is not None
    assert int.from_bytes(report.record[24:], "little") == HOLE


def test_cd_tables_of_a_nested_stream_are_found_through_stage_2(guest: Guest) -> None:
    top, leaf = guest.take(0x1000), guest.take(0x1000)
    guest.put(top + 8, L1CD(V=1, L2PTR=ipa_of(leaf)))
    guest.put(leaf + 2 * CD.size, CD(**STAGE1_CD))
    guest.nested(S1ContextPtr=ipa_of(top), S1CDMax=8, S1Fmt=ContextTableFormat.TWO_LEVEL_4K)

    guest.context(0x42)

    assert guest.log.read[1:] == [("L1CD", top + 8), ("CD", leaf + 2 * CD.size)]
    assert f"IPA {ipa_of(top) + 8:#x}" in guest.log.notes[1]


@pytest.mark.parametrize("access", [Access.READ, Access.WRITE])
def test_a_cd_that_stage_2_does_not_map_is_a_stage_2_fault_of_class_cd(guest: Guest, access: Access) -> None:
    guest.nested(S1ContextPtr=0x7000_0040)

    report = guest.report(0xABC, access)

    assert (report.outcome, report.reason) == ("fault", "F_TRANSLATION")
    assert report.record is not None
    record = TranslationRecord.decode(report.record)
    assert (record.SID, record.S2, record.CLASS, record.RnW) == (STREAM, 1, OperationClass.CD, 1)
    assert (record.InputAddr, record.IPA) == (0xABC, 0x7000_0000)


@pytest.mark.parametrize(
    ("leaf", "reason"),
    [
        (VALID | AF, "F_PERMISSION"),
        (S2_LEAF & ~AF, "F_ACCESS"),
        (VALID | AF | S2_READ | S2_DEVICE, "F_PERMISSION"),
        (1 << 47 | S2_LEAF, "F_ADDR_SIZE"),
    ],
)
def test_whatever_stage_2_says_of_a_cd_fetch_is_told_as_its_event(guest: Guest, leaf: int, reason: str) -> None:
    root = guest.nested(S2PTW=1, S2PS=4, S1ContextPtr=0x7000_0000)
    guest.map(root, 0x7000_0000, leaf, at=2, start=1)

    assert guest.report(0x1000).reason == reason


def test_a_cd_in_device_memory_is_read_where_table_walks_are_not_protected(guest: Guest) -> None:
    root = guest.nested(S1ContextPtr=0x7000_0000)
    guest.map(root, 0x7000_0000, RAM | VALID | AF | S2_READ | S2_DEVICE, at=2, start=1)

    assert guest.refusal().reason == "C_BAD_CD"


def test_a_table_of_stage_2_that_cannot_be_read_ends_a_cd_fetch_with_its_address(guest: Guest) -> None:
    root = guest.nested(S1ContextPtr=0x7000_0000)
    guest.put(root + 8, HOLE | 3)

    report = guest.report(0x1000)

    assert report.reason == "F_WALK_EABT"
    assert report.record is not None
    record = WalkAbortRecord.decode(report.record)
    assert (record.S2, record.CLASS, record.FetchAddr) == (1, OperationClass.CD, HOLE + 0x180 * 8)


def test_stage_2_faults_of_a_cd_fetch_are_silent_where_the_ste_says_so(guest: Guest) -> None:
    guest.nested(S1ContextPtr=0x7000_0000, S2R=0)

    report = guest.report(0x1000)

    assert (report.outcome, report.reason, report.record) == ("abort", "F_TRANSLATION", None)
