"""From a StreamID to its STE, and what an STE that lets nothing pass, or everything, makes of an access."""

from __future__ import annotations

import pytest

from plugins.smmuv3_cmdqv.tests.guest import HOLE, STREAM, Guest
from viommu.errors import BadRegister
from viommu.faults import Access, Fault
from viommu.translation import Translation
from viommu_smmuv3_cmdqv.spec.registers import (
    CR0,
    CR2,
    GBPA,
    IDR0,
    IDR1,
    IDR5,
    STRTAB_BASE,
    STRTAB_BASE_CFG,
    StreamTableFormat,
)
from viommu_smmuv3_cmdqv.spec.stream_table import L1STD, STE, StreamConfig


def two_level(
    guest: Guest, sid: int, *, split: int = 8, span: int | None = None, log2size: int = 16
) -> tuple[int, int]:
    """A two-level table in which ``sid`` bypasses; gives the addresses of both tables."""
    span = split + 1 if span is None else span
    top, leaf = guest.take(8 << log2size - split), guest.take(STE.size << split)
    guest.set(STRTAB_BASE, ADDR=top)
    guest.set(STRTAB_BASE_CFG, LOG2SIZE=log2size, SPLIT=split, FMT=StreamTableFormat.TWO_LEVEL)
    guest.put(top + (sid >> split) * 8, L1STD(SPAN=span, L2PTR=leaf))
    guest.put(leaf + (sid & (1 << split) - 1) * STE.size, STE(V=1, Config=StreamConfig.BYPASS))
    return top, leaf


def test_a_linear_table_is_indexed_by_stream_id(guest: Guest) -> None:
    address = guest.stream(Config=StreamConfig.BYPASS)

    guest.context()

    assert guest.log.read == [("STE", address)]


def test_a_two_level_table_is_indexed_as_worked_out_by_hand(guest: Guest) -> None:
    top, leaf = two_level(guest, 0x1234)

    assert isinstance(guest.outcome(0x5000, sid=0x1234), Translation)
    assert guest.log.read == [("L1STD", top + 0x90), ("STE", leaf + 0xD00)]


@pytest.mark.parametrize(("written", "acts_as"), [(6, 6), (8, 8), (10, 10), (7, 6), (0, 6), (31, 6)])
def test_a_split_that_does_not_exist_acts_as_six(guest: Guest, written: int, acts_as: int) -> None:
    two_level(guest, 0x1234, split=acts_as)
    guest.set(STRTAB_BASE_CFG, SPLIT=written)

    assert isinstance(guest.outcome(0x5000, sid=0x1234), Translation)


@pytest.mark.parametrize("span", [0, 10, 11, 12, 31])
def test_a_span_that_no_leaf_table_can_have_is_a_bad_stream_id(guest: Guest, span: int) -> None:
    two_level(guest, 0x34, span=span)

    assert guest.refusal(sid=0x34).reason == "C_BAD_STREAMID"


@pytest.mark.parametrize(("sid", "reached"), [(0x34, False), (0x0F, True), (0x10, False)])
def test_a_stream_beyond_the_span_is_a_bad_stream_id(guest: Guest, sid: int, reached: bool) -> None:
    two_level(guest, sid, span=5)

    assert isinstance(guest.outcome(0x5000, sid=sid), Translation) == reached


@pytest.mark.parametrize(
    ("sid", "log2size", "sid_bits", "reached"),
    [(0xFF, 8, 16, True), (0x100, 8, 16, False), (0x80, 8, 7, False), (0x7F, 8, 7, True), (0x7F, 63, 7, True)],
)
def test_a_stream_beyond_the_table_is_a_bad_stream_id(
    guest: Guest, sid: int, log2size: int, sid_bits: int, reached: bool
) -> None:
    guest.set(IDR1, SIDSIZE=sid_bits)
    guest.stream(sid, Config=StreamConfig.BYPASS)
    if log2size != 63:  # a table of that size starts at 0
        guest.set(STRTAB_BASE_CFG, LOG2SIZE=log2size)

    assert isinstance(guest.outcome(0x5000, sid=sid), Translation) == reached


def test_low_bits_of_the_table_base_take_no_part(guest: Guest) -> None:
    address = guest.stream(Config=StreamConfig.BYPASS)
    guest.registers[STRTAB_BASE]["ADDR"] |= 0x2040

    guest.context()

    assert guest.log.read == [("STE", address)]


def test_two_levels_are_not_used_where_the_smmu_lacks_them(guest: Guest) -> None:
    address = guest.stream(Config=StreamConfig.BYPASS)
    guest.set(IDR0, ST_LEVEL=0)
    guest.set(STRTAB_BASE_CFG, FMT=StreamTableFormat.TWO_LEVEL)

    guest.context()

    assert guest.log.read == [("STE", address)]


@pytest.mark.parametrize("recinvsid", [0, 1])
def test_a_bad_stream_id_is_recorded_where_software_asks_for_it(guest: Guest, recinvsid: int) -> None:
    guest.set(CR2, RECINVSID=recinvsid)

    report = guest.report(0x1000, sid=0x100)

    assert report.reason == "C_BAD_STREAMID"
    assert report.outcome == ("fault" if recinvsid else "abort")
    assert (report.record is not None) == bool(recinvsid)


def test_an_ste_that_cannot_be_read_is_a_fetch_fault_with_its_address(guest: Guest) -> None:
    guest.set(STRTAB_BASE, ADDR=HOLE)

    report = guest.report(0x1000)

    assert report.reason == "F_STE_FETCH"
    assert report.record is not None
    assert int.from_bytes(report.record[24:], "little") == HOLE + STREAM * STE.size


def test_a_first_level_descriptor_that_cannot_be_read_is_a_fetch_fault(guest: Guest) -> None:
    two_level(guest, 0x34)
    guest.set(STRTAB_BASE, ADDR=HOLE)

    assert guest.refusal(sid=0x134).address == HOLE + 8


def test_an_invalid_ste_is_bad_whatever_else_it_holds(guest: Guest) -> None:
    guest.stream(V=0, Config=StreamConfig.BYPASS)

    assert guest.report(0x1000).reason == "C_BAD_STE"


@pytest.mark.parametrize("config", [0, 1, 2, 3])
def test_a_stream_that_is_shut_aborts_without_a_record(guest: Guest, config: int) -> None:
    guest.stream(Config=config, S2AA64=0, S1CDMax=31)

    report = guest.report(0x1000)

    assert (report.outcome, report.record) == ("abort", None)


def test_a_bypassed_stream_passes_what_fits_the_output(guest: Guest) -> None:
    guest.set(IDR5, OAS=4)
    guest.stream(Config=StreamConfig.BYPASS, S2AA64=0, S1CDMax=31)

    fits, beyond = guest.outcome((1 << 44) - 1, Access.WRITE), guest.report(1 << 44)

    assert isinstance(fits, Translation)
    assert fits.untranslated
    assert fits.pa == (1 << 44) - 1
    assert (beyond.outcome, beyond.reason) == ("fault", "F_ADDR_SIZE")
    assert beyond.record is not None
    assert int.from_bytes(beyond.record[8:16], "little") == 0x208_0000_0000


def test_a_substream_needs_stage_1(guest: Guest) -> None:
    guest.stream(Config=StreamConfig.BYPASS)

    assert guest.report(0x1000, ssid=3).reason == "C_BAD_SUBSTREAMID"


def test_a_disabled_smmu_passes_everything_or_nothing_as_gbpa_says(guest: Guest) -> None:
    guest.set(CR0, SMMUEN=0)
    passed = guest.outcome(0x1234)
    guest.set(GBPA, ABORT=1)
    refused = guest.report(0x1234)

    assert isinstance(passed, Translation)
    assert passed.pa == 0x1234
    assert guest.log.read == []
    assert (refused.outcome, refused.record) == ("abort", None)


def test_a_disabled_smmu_records_nothing_of_an_address_that_does_not_fit(guest: Guest) -> None:
    guest.set(CR0, SMMUEN=0)
    guest.set(IDR5, OAS=0)

    assert isinstance(guest.outcome(1 << 32), Fault)
    assert guest.report(1 << 32).outcome == "abort"


def test_registers_that_describe_no_hardware_of_ours_are_refused_by_name(guest: Guest) -> None:
    guest.set(IDR0, TTF=1)

    with pytest.raises(BadRegister, match=r"IDR0 .*TTF is 1"):
        _ = guest.hardware
