"""Event records of refused accesses, in memory order (AMD 48882, 2.5; flags as implementations agree on them)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from viommu.faults import Access
from viommu_amd_viommu.spec.events import IllegalDevTableEntry, IoPageFault, PageTabHardwareError, decode_event

if TYPE_CHECKING:
    from plugins.amd_viommu.tests.conftest import Amd

DEVICE_TABLE = 0x1000_0000
HOST_PAGE = 1 | 3 << 61
GUEST_PAGE = 0b111


def flags(event: IoPageFault) -> str:
    return " ".join(name for name in ("PR", "PE", "RZ", "RW", "GN", "NX", "US") if getattr(event, name))


def page_fault(amd: Amd, iova: int, access: Access = Access.READ, pasid: int | None = None) -> IoPageFault:
    record = amd.report(iova, access=access, pasid=pasid).record
    assert record is not None
    event = decode_event(record)
    assert isinstance(event, IoPageFault)
    assert event.Address == iova
    return event


def host(amd: Amd, leaf: int, **fields: int) -> None:
    """One page at 0x1000 of a 3-level table."""
    root = amd.page()
    amd.device(**{"Mode": 3, "HostPageTableRoot": root} | fields)
    amd.map(root, 3, 0x1000, leaf)


def guest(amd: Amd, leaf: int, **fields: int) -> None:
    """One page at 0x1000 in the guest tables of PASID 0x12345 & 0x1FF and of PASID 0."""
    root, table = amd.page(), amd.page()
    amd.map(root, 4, 0x1000, leaf, link=lambda address, _: address | GUEST_PAGE)
    amd.store(table, root | 1)
    amd.store(table + 8 * 0x145, root | 1)
    amd.device(**{"GV": 1, "GCR3": table} | fields)


def test_a_page_fault_record_byte_for_byte(amd: Amd) -> None:
    host(amd, 0x5000 | 1 | 1 << 61)

    report = amd.report(0x1234, access=Access.WRITE)

    assert (report.outcome, report.reason) == ("fault", "IO_PAGE_FAULT")
    assert report.record == bytes.fromhex("23010000 77007020 3412000000000000")


def test_translation_is_blocked(amd: Amd) -> None:
    amd.device(TV=0)

    assert flags(page_fault(amd, 0x1000, Access.WRITE)) == "RW"


def test_a_mode_above_hardware(amd: Amd) -> None:
    amd.features["HATS"] = 0
    amd.device(Mode=5)

    assert flags(page_fault(amd, 0x1000)) == "PR"


def test_the_entry_denies_the_access(amd: Amd) -> None:
    amd.device(IW=0)

    assert flags(page_fault(amd, 0x1000, Access.WRITE)) == "PR PE RW"


@pytest.mark.parametrize(
    ("leaf", "expected"),
    [
        (0, ""),
        (0x5000 | 1 | 1 << 62, "PR PE"),
        (0x5000 | HOST_PAGE | 7 << 9 | 0x00FF_F000, "PR"),
        (0x5000 | HOST_PAGE | 1 << 9, "PR"),
        (0x5000 | HOST_PAGE | 1 << 52, "PR RZ"),
    ],
    ids=["not present", "no read right", "impossible size", "level that does not fall", "reserved bit"],
)
def test_flags_tell_why_host_tables_refused(amd: Amd, leaf: int, expected: str) -> None:
    host(amd, leaf)

    event = page_fault(amd, 0x1000)

    assert flags(event) == expected
    assert event.DomainIDOrPASID == 0x77


def test_a_skipped_level_whose_address_bits_are_set(amd: Amd) -> None:
    root = amd.page()
    amd.device(Mode=3, HostPageTableRoot=root)
    amd.store(root, amd.page() | 1 << 9 | HOST_PAGE)

    assert flags(page_fault(amd, 0x20_0000)) == "PR"


def test_an_address_beyond_the_tables(amd: Amd) -> None:
    host(amd, 0x5000 | HOST_PAGE)

    assert flags(page_fault(amd, 1 << 39)) == ""


def test_guest_faults_name_the_pasid_and_the_privilege(amd: Amd) -> None:
    guest(amd, 0x5000 | 0b101)

    event = page_fault(amd, 0x1000, Access.WRITE, pasid=0x145)
    assert flags(event) == "PR PE RW GN US"
    assert event.DomainIDOrPASID == 0x145
    assert flags(page_fault(amd, 0x2000, Access.EXECUTE | Access.PRIVILEGED, pasid=0x145)) == "GN NX"


def test_all_20_bits_of_a_pasid_are_told(amd: Amd) -> None:
    guest(amd, 0x5000 | GUEST_PAGE)

    event = page_fault(amd, 0x1000, pasid=0xA_BCDE)

    assert (event.PASIDHigh, event.DomainIDOrPASID) == (0xA, 0xBCDE)


def test_a_fault_of_pasid_0_by_giov_is_a_guest_fault(amd: Amd) -> None:
    guest(amd, 0x5000 | GUEST_PAGE, GIOV=1)

    event = page_fault(amd, 0x2000)

    assert flags(event) == "GN US"
    assert event.DomainIDOrPASID == 0


def test_guest_reserved_bits(amd: Amd) -> None:
    root, table = amd.page(), amd.page()
    amd.store(root, amd.page() | GUEST_PAGE | 1 << 7)
    amd.store(table, root | 1)
    amd.device(GV=1, GCR3=table)

    assert flags(page_fault(amd, 0x1000, pasid=0)) == "PR RZ GN US"


@pytest.mark.parametrize(("bit", "mode", "RZ"), [(3, 0, 1), (None, 7, 0)])
def test_an_illegal_entry_tells_reserved_bits_from_bad_levels(amd: Amd, bit: int | None, mode: int, RZ: int) -> None:  # noqa: N803
    amd.device(Mode=mode)
    if bit is not None:
        slot = DEVICE_TABLE + 0x123 * 32
        amd.store(slot, amd.load(slot) | 1 << bit)

    report = amd.report(0x1237, access=Access.WRITE, pasid=0x1_0002)

    assert report.reason == "ILLEGAL_DEV_TABLE_ENTRY"
    assert report.record is not None
    event = decode_event(report.record)
    assert isinstance(event, IllegalDevTableEntry)
    assert (event.RZ, event.RW, event.GN, event.PASID, event.Address) == (RZ, 1, 1, 0x1_0002, 0x1234)


def test_an_unreadable_device_table_is_told_with_its_address(amd: Amd) -> None:
    amd.others["DEVTAB"] = 0x7000_0003

    report = amd.report(0x1000)

    assert report.reason == "DEV_TAB_HW_ERROR"
    assert report.record == bytes.fromhex("23010000 00000032 6024007000000000")


def test_an_unreadable_page_table_is_told_with_its_address(amd: Amd) -> None:
    amd.device(Mode=3, HostPageTableRoot=0x7000_0000)

    report = amd.report(0x4000_0000, access=Access.WRITE)

    assert report.reason == "PAGE_TAB_HW_ERROR"
    assert report.record is not None
    event = decode_event(report.record)
    assert isinstance(event, PageTabHardwareError)
    assert (event.Address, event.Type, event.RW, event.DomainIDOrPASID) == (0x7000_0008, 1, 1, 0x77)


def test_an_unreadable_gcr3_table_is_a_page_table_error(amd: Amd) -> None:
    amd.device(GV=1, GCR3=0x7000_0000)

    report = amd.report(0x1000, pasid=2)

    assert report.record is not None
    event = decode_event(report.record)
    assert isinstance(event, PageTabHardwareError)
    assert (event.Address, event.GN, event.DomainIDOrPASID) == (0x7000_0010, 1, 2)


def test_sa_silences_page_faults_and_nothing_else(amd: Amd) -> None:
    amd.device(TV=0, SA=1)
    report = amd.report(0x1000)
    assert (report.outcome, report.reason, report.record) == ("abort", "IO_PAGE_FAULT", None)

    amd.device(Mode=7, SA=1)
    assert amd.report(0x1000).outcome == "fault"


def test_se_lets_the_first_page_fault_through(amd: Amd) -> None:
    amd.device(TV=0, SE=1)

    assert amd.report(0x1000).outcome == "fault"


def test_a_fault_is_told_as_the_configuration_was_when_it_happened(amd: Amd) -> None:
    amd.device(IR=0, DomainID=0x11)
    fault = amd.fault(0x1000)
    amd.device(IR=0, DomainID=0x22, SA=1)

    record = amd.hardware.report(fault).record

    assert record is not None
    assert record[4:6] == bytes.fromhex("1100")
