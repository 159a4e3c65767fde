"""ATS: which devices may keep translations, what their requests end with, and what is recorded of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plugins.vtd.tests.guest import HOLE, USED, A, D, R, W
from plugins.vtd.tests.programming import Software
from viommu.faults import Access, Fault
from viommu.platform import Completion
from viommu.translation import Translation
from viommu_vtd.hardware.live.ats import NO_RIGHTS, NOT_PRESENT, completion
from viommu_vtd.spec.faults import AddressType, FaultReason
from viommu_vtd.spec.pasid import PasidTableEntry
from viommu_vtd.spec.root_context import ContextEntry, RootEntry, ScalableContextEntry

if TYPE_CHECKING:
    from viommu.devices import Device

RID = 0x0108
IOVA = 0x40_0000
PASID = 7
UR, CA, NONE = Completion.UNSUPPORTED_REQUEST, Completion.COMPLETER_ABORT, Completion.NO_ACCESS


def legacy(**fields: int) -> tuple[Software, Device, int]:
    software = Software.make()
    guest = software.guest
    table, page = guest.page(), guest.page()
    guest.legacy(RID, ContextEntry(P=1, TT=1, AW=2, DID=5, SSPTPTR=table).replace(**fields))
    guest.map(table, 4, IOVA, page | R)
    software.enable()
    return software, software.machine.device(RID), page


def scalable(**context: int) -> tuple[Software, Device, int]:
    software = Software.make()
    guest = software.guest
    table, page = guest.page(), guest.page()
    guest.map(table, 4, IOVA, page | USED | A | D, link=USED)
    guest.pasid(RID, PASID, PasidTableEntry(P=1, PGTT=1, DID=5, FSPTPTR=table, PWSNP=1), **{"DTE": 1, **context})
    software.enable()
    return software, software.machine.device(RID), page


def test_a_device_keeps_a_translation_until_it_is_told() -> None:
    software, device, page = legacy()

    found = device.translate(IOVA + 0x123)

    assert isinstance(found, Translation)
    assert found.pa == page + 0x123
    assert len(device.tlb) == 1
    assert software.fsts.PPF == 0


@pytest.mark.parametrize("tt", [0, 2])
def test_a_legacy_device_may_use_ats_only_where_tt_says_so(tt: int) -> None:
    software, device, _ = legacy(TT=tt, AW=3 if tt == 2 else 2)

    assert device.translate(IOVA) is UR

    record = software.record()
    assert (record.FR, record.AT, record.FI) == (0xD, AddressType.TRANSLATION_REQUEST, IOVA)


def test_a_translated_request_is_held_against_tt_too() -> None:
    software, _, page = legacy(TT=0)

    found = software.machine.send_translated(RID, page, Access.WRITE)

    assert isinstance(found, Fault)
    record = software.record()
    assert (0xD, AddressType.TRANSLATED, page, 0) == (record.FR, record.AT, record.FI, record.T)


@pytest.mark.parametrize("pasid", [None, PASID])
def test_a_scalable_mode_device_may_use_ats_only_with_dte(pasid: int | None) -> None:
    software, device, page = scalable(DTE=0, RID_PASID=PASID)
    assert device.translate(IOVA, Access.READ, pasid) is UR
    assert isinstance(software.machine.send_translated(RID, page, Access.READ, pasid), Fault)

    assert [(software.record(index).FR, software.record(index).AT) for index in (0, 1)] == [(0x44, 1), (0x44, 2)]


@pytest.mark.parametrize("pasid", [None, PASID])
def test_a_device_with_dte_gets_its_pages(pasid: int | None) -> None:
    software, device, page = scalable(RID_PASID=PASID)

    found = device.translate(IOVA, Access.WRITE, pasid)

    assert isinstance(found, Translation)
    assert found.pa == page
    assert int(software.fsts) == 0


@pytest.mark.parametrize(
    ("context", "pasid", "reason"),
    [({"PASIDE": 0}, PASID, 0x45), ({}, 1 << 13, 0x46), ({"PASIDE": 0, "RID_PASID": 1 << 13}, None, 0x48)],
)
def test_pasids_are_checked_of_ats_requests_too(context: dict[str, int], pasid: int | None, reason: int) -> None:
    software, device, _ = scalable(**context)

    answer = device.translate(IOVA, Access.READ, pasid)
    assert answer is (CA if reason == 0x48 else UR)
    assert isinstance(software.machine.send_translated(RID, IOVA, Access.READ, pasid), Fault)

    assert [(software.record(index).FR, software.record(index).AT) for index in (0, 1)] == [(reason, 1), (reason, 2)]


def test_a_page_without_the_right_is_an_answer_without_rights_and_no_fault() -> None:
    software, device, _ = legacy()

    assert device.translate(IOVA, Access.WRITE) is NONE
    assert device.translate(IOVA + 0x1000) is NONE
    assert device.translate(1 << 50) is NONE

    assert int(software.fsts) == 0


def test_a_structure_that_is_absent_is_unsupported_and_a_broken_one_aborts() -> None:
    software, device, _ = legacy(SSPTPTR=HOLE)
    assert device.translate(IOVA) is CA
    software.guest.legacy(RID, ContextEntry())
    assert device.translate(IOVA) is UR
    software.guest.put(software.guest.root + 16, RootEntry(P=1, CTP=HOLE))
    assert device.translate(IOVA) is CA
    assert [software.record(index).FR for index in range(3)] == [3, 2, 9]
    assert {software.record(index).AT for index in range(3)} == {AddressType.TRANSLATION_REQUEST}


def test_fpd_silences_ats_faults() -> None:
    software, device, page = legacy(TT=0, FPD=1)

    assert device.translate(IOVA) is UR
    assert isinstance(software.machine.send_translated(RID, page), Fault)

    assert int(software.fsts) == 0


def test_a_translated_request_beyond_the_host_or_to_the_interrupt_range_is_refused() -> None:
    software, _, page = scalable(RID_PASID=PASID)
    send = software.machine.send_translated
    assert isinstance(send(RID, page), Translation)

    assert isinstance(send(RID, 0xFEE0_1000, Access.WRITE), Fault)
    assert int(software.fsts) == 0  # an unsupported request
    assert isinstance(send(RID, 1 << 52), Fault)

    assert (software.record().FR, software.record().AT) == (0x83, AddressType.TRANSLATED)


def test_ats_does_not_exist_while_translation_is_off() -> None:
    software, device, page = legacy()
    software.command(TE=0)

    assert device.translate(IOVA) is UR
    assert isinstance(software.machine.send_translated(RID, page), Fault)

    assert int(software.fsts) == 0


@pytest.mark.parametrize(("mode", "reason"), [(2, 0x30), (3, 0x33)])
def test_ats_is_refused_with_everything_else_where_the_mode_refuses(mode: int, reason: int) -> None:
    software, device, _ = legacy()
    software.guest.mode = mode
    software.set_root()

    assert device.translate(IOVA) is (UR if reason == 0x33 else CA)

    assert (reason, 1) == (software.record().FR, software.record().AT)


def test_a_pasid_does_not_exist_in_legacy_mode() -> None:
    software, device, _ = legacy()

    assert device.translate(IOVA, Access.READ, 1) is UR

    assert software.record().FR == 0x31


def test_protected_memory_is_out_of_reach_of_translated_requests() -> None:
    software, _, page = legacy()
    software.write("PHMBASE", page & -(1 << 20))
    software.write("PHMLIMIT", page & -(1 << 20))
    software.write("PMEN", 1 << 31)

    assert isinstance(software.machine.send_translated(RID, page), Fault)
    assert isinstance(software.machine.send_translated(RID, 0xFEE0_0000), Fault)

    assert int(software.fsts) == 0


def test_every_reason_of_translation_has_an_ending() -> None:
    endings = {reason: completion(reason) for reason in FaultReason}

    assert not NO_RIGHTS & NOT_PRESENT
    assert {endings[reason] for reason in NO_RIGHTS} == {NONE}
    assert {endings[reason] for reason in NOT_PRESENT} == {UR}
    assert endings[FaultReason.FS_RESERVED] is CA


def test_a_write_through_ats_sees_the_right_of_second_stage() -> None:
    software = Software.make()
    guest = software.guest
    table = guest.page()
    guest.map(table, 4, IOVA, guest.page() | R | W)
    guest.scalable(RID, ScalableContextEntry())
    guest.pasid(RID, 0, PasidTableEntry(P=1, PGTT=2, AW=2, DID=5, SSPTPTR=table), DTE=1)
    software.enable()

    found = software.machine.device(RID).translate(IOVA, Access.WRITE)

    assert isinstance(found, Translation)
    assert found.rights & Access.WRITE
