"""Fault records, their overflow, fault status and the fault interrupt."""

from __future__ import annotations

import pytest

from plugins.vtd.tests.guest import R
from plugins.vtd.tests.programming import Software
from viommu.faults import Access
from viommu.platform import Interrupt
from viommu_vtd.hardware.live.register_map import FULL_CAP, FULL_ECAP
from viommu_vtd.spec.faults import FRCD_HI, FSTS
from viommu_vtd.spec.queue_registers import EventControl
from viommu_vtd.spec.root_context import ContextEntry

RID = 0x0108
FULL = int(FRCD_HI(F=1))


def faulting(records: int = 8, *, fpd: int = 0, **registers: int) -> Software:
    software = Software.make(FULL_CAP.replace(NFR=records - 1), FULL_ECAP, **registers)
    guest = software.guest
    guest.legacy(RID, ContextEntry(P=1, FPD=fpd, AW=2, DID=5, SSPTPTR=guest.page()))
    software.enable()
    return software


def fault(software: Software, count: int = 1) -> None:
    for number in range(count):
        software.machine.translate(RID, number << 12)


def unmask(software: Software) -> None:
    software.write("FEDATA", 0x41)
    software.write("FEADDR", 0xFEE0_0000)
    software.write("FECTL", 0)


MESSAGE = Interrupt("fault", 0xFEE0_0000, 0x41)


def test_a_fault_fills_a_record_and_sets_ppf() -> None:
    software = faulting()
    software.machine.translate(RID, 0x1234_5678, Access.WRITE)

    record = software.record()

    assert (record.F, record.FR, record.SID, record.FI, record.T) == (1, 5, RID, 0x1234_5000, 0)
    assert software.fsts == FSTS(PPF=1, FRI=0)


@pytest.mark.parametrize("records", [1, 2, 8, 256])
def test_the_fault_after_the_last_record_is_lost_and_told_by_pfo(records: int) -> None:
    software = faulting(records)

    fault(software, records)
    assert software.fsts == FSTS(PPF=1)
    assert [software.record(index).FI >> 12 for index in range(records)] == list(range(records))
    fault(software, 2)

    assert software.fsts == FSTS(PPF=1, PFO=1)
    assert software.record().FI == 0


def test_nothing_is_recorded_until_pfo_is_cleared() -> None:
    software = faulting(2)
    fault(software, 3)
    software.write("FRCD0_HI", FULL)
    software.write("FRCD1_HI", FULL)
    assert software.fsts == FSTS(PFO=1)
    fault(software)
    assert software.record().F == 0

    software.write("FSTS", FSTS(PFO=1))
    fault(software)

    assert software.fsts == FSTS(PPF=1, FRI=0)


def test_ppf_is_cleared_with_the_last_record_and_not_by_a_store_to_it() -> None:
    software = faulting()
    fault(software, 2)

    software.write("FSTS", 0xFFFF_FFFF)
    assert software.fsts.PPF == 1
    software.write("FRCD0_HI", FULL)
    assert software.fsts.PPF == 1
    software.write("FRCD1_HI", FULL)

    assert software.fsts.PPF == 0
    assert software.record(0).FR == 6  # only F was cleared


def test_fri_names_the_first_record_since_ppf_was_last_set() -> None:
    software = faulting(4)
    fault(software, 3)
    for index in range(3):
        software.write(f"FRCD{index}_HI", FULL)

    fault(software, 2)

    assert software.fsts == FSTS(PPF=1, FRI=3)
    assert (software.record(3).F, software.record(0).F, software.record(1).F) == (1, 1, 0)


def test_a_record_is_written_by_hardware_alone() -> None:
    software = faulting()
    fault(software)
    before = software.record()

    software.write("FRCD0_LO", (1 << 64) - 1)
    software.write("FRCD0_HI", FULL - 1)

    assert software.record() == before


def test_the_first_condition_sends_the_message_and_others_are_no_news() -> None:
    software = faulting(1)
    unmask(software)

    fault(software, 3)  # a record, then the overflow
    assert software.heard == [MESSAGE]
    software.write("FRCD0_HI", FULL)
    fault(software)
    assert software.heard == [MESSAGE]
    software.write("FSTS", FSTS(PFO=1))
    fault(software)

    assert software.heard == [MESSAGE, MESSAGE]


def test_a_masked_message_waits_and_is_forgotten_when_all_is_served() -> None:
    software = faulting()
    fault(software)
    assert EventControl.decode(software.read("FECTL")) == EventControl(IM=1, IP=1)

    software.write("FRCD0_HI", FULL)
    assert EventControl.decode(software.read("FECTL")) == EventControl(IM=1)
    unmask(software)
    assert software.heard == []

    software.write("FECTL", EventControl(IM=1))
    fault(software)
    unmask(software)
    assert software.heard == [MESSAGE]
    assert software.read("FECTL") == 0


def test_fpd_keeps_a_fault_out_of_the_records() -> None:
    software = faulting(fpd=1)

    fault(software)

    assert (int(software.fsts), software.record().F) == (0, 0)


def test_a_batch_is_recorded_in_its_order() -> None:
    software = faulting(4)

    software.machine.translate_many(RID, [0x1000, 0x2000, 0x3000], [Access.READ, Access.WRITE, Access.READ])

    assert [software.record(index).FI for index in range(3)] == [0x1000, 0x2000, 0x3000]
    assert [software.record(index).T for index in range(3)] == [1, 0, 1]


def test_records_that_are_loaded_from_a_capture_are_there_and_the_next_one_follows() -> None:
    software = faulting(4, FRCD1_LO=0x2000, FRCD1_HI=FULL | 6 << 32, FSTS=int(FSTS(PPF=1, FRI=1)))
    assert (software.record(1).FI, software.record(1).FR) == (0x2000, 6)

    fault(software)

    assert (software.record(2).F, software.fsts.FRI) == (1, 1)


def test_full_records_that_are_loaded_overflow() -> None:
    full = {f"FRCD{index}_HI": FULL for index in range(4)}
    software = faulting(4, **full, FSTS=int(FSTS(PPF=1, FRI=2)))

    fault(software)

    assert software.fsts == FSTS(PPF=1, PFO=1, FRI=2)


def test_reporting_a_fault_writes_nothing() -> None:
    software = faulting()
    found = software.machine.probe_many(RID, [0x5000], [Access.READ])

    report = software.machine.report(next(fault for _, fault in found.faults()))

    assert report.reason == "0x6"
    assert (int(software.fsts), software.record().F) == (0, 0)


def test_a_write_within_rights_is_no_fault() -> None:
    software = faulting()
    table = software.guest.page()
    software.guest.legacy(RID, ContextEntry(P=1, AW=2, DID=5, SSPTPTR=table))
    software.guest.map(table, 4, 0, 0x5000 | R)

    fault(software)

    assert int(software.fsts) == 0
