"""What is recorded of a fault, and what FPD keeps from being recorded."""

from __future__ import annotations

import pytest

from plugins.vtd.tests.guest import HOLE, USED, Guest, P, R
from viommu.errors import BadRegister, OutOfRange
from viommu.faults import Access
from viommu.hookspecs import Registers
from viommu.memory import PhysicalMemory
from viommu_vtd.hardware import VtdHardware
from viommu_vtd.spec.faults import FRCD, UNQUALIFIED
from viommu_vtd.spec.pasid import PasidDirectoryEntry, PasidTableEntry
from viommu_vtd.spec.root_context import ContextEntry, RootEntry, ScalableContextEntry

RID = 0x3A10


def recorded(guest: Guest, access: Access = Access.READ, pasid: int | None = None, iova: int = 0x1234_5678) -> FRCD:
    record = guest.report(RID, iova, access, pasid).record
    assert record is not None
    return FRCD.decode(record)


def test_a_record_names_device_page_and_reason_in_memory_order(guest: Guest) -> None:
    guest.legacy(RID, ContextEntry(P=1, AW=2, SSPTPTR=guest.page()))

    report = guest.report(RID, 0x1000_0000_0FFF, Access.WRITE)

    assert (report.outcome, report.reason) == ("fault", "0x5")
    assert report.record == bytes.fromhex("0000000000100000103a000005000080")


def test_an_address_is_recorded_whole_as_the_recordings_show_it(guest: Guest) -> None:
    guest.legacy(RID, ContextEntry(P=1, AW=2, SSPTPTR=guest.page()))

    assert recorded(guest, iova=0xFFFF_FFFF_FFFF_FFFF).FI == 0xFFFF_FFFF_FFFF_F000


@pytest.mark.parametrize(
    ("access", "t", "t2"),
    [
        (Access.WRITE, 0, 0),
        (Access.READ, 1, 0),
        (Access.READ | Access.EXECUTE, 1, 0),
        (Access.READ | Access.WRITE, 1, 1),
    ],
)
def test_the_kind_of_access_is_recorded(guest: Guest, access: Access, t: int, t2: int) -> None:
    record = recorded(guest, access)

    assert (1, t, t2, 0) == (record.F, record.T, record.T2, record.AT)


def test_the_pasid_and_its_flags_are_recorded_once_its_table_is_found(guest: Guest) -> None:
    access = Access.READ | Access.EXECUTE | Access.PRIVILEGED
    guest.pasid(RID, 0x45, PasidTableEntry())
    record = recorded(guest, access, 0x45)
    assert (record.FR, record.PP, record.PASID, record.EXE, record.PRIV) == (0x59, 1, 0x45, 1, 1)

    guest.scalable(RID, ScalableContextEntry(P=1, PASIDE=1, PASIDDIRPTR=guest.page()))
    record = recorded(guest, access, 0x45)
    assert (record.FR, record.PP, record.PASID, record.EXE, record.PRIV) == (0x51, 0, 0, 0, 0)


def test_rid_pasid_is_not_recorded(guest: Guest) -> None:
    guest.pasid(RID, 0x45, PasidTableEntry(P=1, PGTT=1, FSPTPTR=guest.page()), RID_PASID=0x45)

    assert (recorded(guest).FR, recorded(guest).PP) == (0x71, 0)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (ContextEntry(FPD=1), "0x2"),
        (ContextEntry(P=1, FPD=1, SSPTPTR=1 << 46), "0xb"),
        (ContextEntry(P=1, FPD=1, TT=3), "0x3"),
        (ContextEntry(P=1, FPD=1, AW=2, SSPTPTR=HOLE), "0x3"),
    ],
)
def test_fpd_of_a_context_entry_silences_its_own_faults_and_those_after_it(
    guest: Guest, entry: ContextEntry, reason: str
) -> None:
    guest.legacy(RID, entry)

    report = guest.report(RID)

    assert (report.outcome, report.reason, report.record) == ("abort", reason, None)


def test_fpd_silences_what_the_page_tables_refuse(guest: Guest) -> None:
    table = guest.page()
    guest.legacy(RID, ContextEntry(P=1, FPD=1, AW=2, SSPTPTR=table))
    guest.map(table, 4, 0, 0x5000 | R)

    assert guest.reason(RID) is None
    assert guest.report(RID, 0, Access.WRITE).outcome == "abort"
    assert guest.report(RID, 1 << 60).outcome == "abort"


@pytest.mark.parametrize("where", ["context", "directory", "table"])
def test_fpd_anywhere_on_the_way_silences_a_fault_of_the_page_tables(guest: Guest, where: str) -> None:
    fpd = int(where == "table")
    address = guest.pasid(RID, 7, PasidTableEntry(P=1, FPD=fpd, PGTT=1, FSPTPTR=guest.page()), FPD=where == "context")
    directory = next(at for at in range(guest.root, address, 8) if guest.memory.load(at) == (address & ~0xFFF) | 1)
    guest.put(directory, PasidDirectoryEntry(P=1, FPD=where == "directory", SMPTBLPTR=address & ~0xFFF))

    assert guest.report(RID, 0, pasid=7) == guest.report(RID, 0, Access.WRITE, 7)
    assert guest.report(RID, 0, pasid=7).outcome == "abort"


def test_fpd_of_a_pasid_entry_that_is_not_present_is_honoured(guest: Guest) -> None:
    guest.pasid(RID, 0, PasidTableEntry(FPD=1))
    assert (guest.report(RID).outcome, guest.report(RID).reason) == ("abort", "0x59")


@pytest.mark.parametrize("hole", ["directory", "table"])
def test_a_structure_that_cannot_be_read_is_recorded_whatever_fpd_says(guest: Guest, hole: str) -> None:
    directory = guest.page()
    guest.put(directory, PasidDirectoryEntry(P=1, FPD=1, SMPTBLPTR=HOLE))
    guest.scalable(RID, ScalableContextEntry(P=1, FPD=1, PASIDDIRPTR=HOLE if hole == "directory" else directory))

    report = guest.report(RID)

    assert (report.outcome, report.reason) == ("fault", "0x50" if hole == "directory" else "0x58")


def test_faults_of_the_root_and_errors_of_access_are_the_ones_that_fpd_does_not_silence() -> None:
    assert {int(reason) for reason in UNQUALIFIED} == {0x1, 0x8, 0x9, 0xA, 0x38, 0x39, 0x3A, 0x40, 0x50, 0x58}


def test_a_refusal_says_whether_it_is_silenced(guest: Guest) -> None:
    guest.put(guest.root + 0x3A0, RootEntry())
    assert guest.report(RID).outcome == "fault"

    guest.legacy(RID, ContextEntry(FPD=1))
    found = guest.configured(RID)

    assert getattr(found, "suppressed", None) is True


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"CAP": 1 << 64}, "register CAP 0x10000000000000000: the register has 64 bits"),
        ({"GSTS": 1 << 32}, "register GSTS 0x100000000: the register has 32 bits"),
        ({"GSTS": 1 << 31}, "register CAP 0x0: MGAW (21:16) gives 1 bits, at least 32"),
    ],
)
def test_registers_that_describe_no_hardware_are_refused_by_name(values: dict[str, int], message: str) -> None:
    with pytest.raises(BadRegister) as caught:
        VtdHardware.of(PhysicalMemory(), Registers(values))

    assert str(caught.value) == message


@pytest.mark.parametrize("width", [31, 53])
def test_a_host_address_width_out_of_bounds_is_refused(width: int) -> None:
    with pytest.raises(OutOfRange, match="host_address_width"):
        VtdHardware.of(PhysicalMemory(), Registers(), host_address_width=width)


def test_a_first_stage_fault_has_its_own_code(guest: Guest) -> None:
    table = guest.page()
    guest.pasid(RID, 0, PasidTableEntry(P=1, PGTT=1, FSPTPTR=table, PWSNP=1))
    guest.map(table, 4, 0, USED & ~P, link=USED)

    assert recorded(guest).FR == 0x71
