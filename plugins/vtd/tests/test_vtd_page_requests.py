"""The page request queue, its interrupt and overflow, and what hardware answers by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plugins.vtd.tests.guest import HOLE
from plugins.vtd.tests.programming import Software
from viommu.faults import Access
from viommu.platform import Interrupt, ResponseCode
from viommu_vtd.spec.commands import PageGroupResponse
from viommu_vtd.spec.page_requests import PageRequestDescriptor
from viommu_vtd.spec.pasid import PasidTableEntry
from viommu_vtd.spec.root_context import ContextEntry, RootEntry

if TYPE_CHECKING:
    from viommu.devices import Device

RID = 0x0108
PASID = 7
SIZE = PageRequestDescriptor.size


def asking(*, pages_lg2: int = 0, **context: int) -> tuple[Software, Device, int]:
    """A device that may ask; gives the page request queue too."""
    software = Software.make()
    guest = software.guest
    guest.pasid(RID, PASID, PasidTableEntry(), **{"DTE": 1, "PRE": 1, **context})
    queue = guest.page()
    while guest.next_page < queue + (0x1000 << pages_lg2):
        guest.page()
    software.write("PQA", queue | pages_lg2)
    software.write("PQH", 0)
    software.write("PQT", 0)
    software.enable()
    return software, software.machine.device(RID), queue


def queued(software: Software, queue: int, index: int = 0) -> PageRequestDescriptor:
    return PageRequestDescriptor.decode(software.guest.memory.read(queue + index * SIZE, SIZE) or b"")


def codes(device: Device) -> list[ResponseCode]:
    return [response.code for response in device.responses]


def test_a_request_is_written_as_the_specification_has_it() -> None:
    software, device, queue = asking()

    device.request_page(0x1234_5678, Access.WRITE | Access.READ, PASID, group=0x155)

    assert queued(software, queue) == PageRequestDescriptor(
        Type=1, PASIDP=1, RID=RID, PASID=PASID, RD=1, WR=1, LPIG=1, PRGI=0x155, ADDR=0x1234_5000
    )
    assert (software.read("PQT"), software.read("PRS")) == (SIZE, 1)
    assert list(device.responses) == []


@pytest.mark.parametrize(
    ("access", "fields"),
    [
        (Access.READ, {"RD": 1}),
        (Access.WRITE, {"WR": 1}),
        (Access.EXECUTE, {"RD": 1, "EXE": 1}),
        (Access.READ | Access.PRIVILEGED, {"RD": 1, "PRIV": 1}),
    ],
)
def test_what_is_asked_for_is_told(access: Access, fields: dict[str, int]) -> None:
    software, device, queue = asking()

    device.request_page(0x1000, access, group=3, last=False)

    assert queued(software, queue) == PageRequestDescriptor(Type=1, RID=RID, PRGI=3, ADDR=0x1000, **fields)


@pytest.mark.parametrize("pages_lg2", [0, 1, 2])
def test_a_queue_wraps_and_holds_one_less_than_its_entries(pages_lg2: int) -> None:
    software, device, queue = asking(pages_lg2=pages_lg2)
    entries = (0x1000 << pages_lg2) // SIZE
    software.write("PQH", 5 * SIZE)
    software.write("PQT", 5 * SIZE)

    for number in range(entries - 1):
        device.request_page(number << 12, Access.READ, PASID, group=number & 0x1FF)
    assert software.read("PRS") == 1
    assert software.read("PQT") == 4 * SIZE
    assert entries - 2 << 12 == queued(software, queue, 3).ADDR
    device.request_page(0x9999_9000, Access.READ, PASID, group=1)

    assert software.read("PRS") == 3
    assert software.read("PQT") == 4 * SIZE
    assert codes(device) == [ResponseCode.SUCCESS]


def test_an_overflow_drops_requests_until_it_is_cleared_and_answers_whole_groups() -> None:
    software, device, queue = asking()
    software.write("PQH", SIZE)  # full
    device.request_page(0x1000, Access.READ, PASID, group=1, last=False)
    assert (software.read("PRS"), codes(device)) == (2, [])
    software.write("PQH", 0)

    device.request_page(0x2000, Access.READ, PASID, group=1)
    assert codes(device) == [ResponseCode.SUCCESS]
    assert software.read("PQT") == 0
    software.write("PRS", 2)
    device.request_page(0x3000, Access.READ, PASID, group=2)

    assert software.read("PRS") == 1
    assert queued(software, queue).ADDR == 0x3000


def test_the_interrupt_is_sent_once_until_software_has_served_the_status() -> None:
    software, device, _ = asking()
    software.write("PEDATA", 0x31)
    software.write("PEADDR", 0xFEE0_0000)
    software.write("PECTL", 0)
    expected = Interrupt("page-request", 0xFEE0_0000, 0x31)

    device.request_page(0x1000, Access.READ, PASID, group=1)
    device.request_page(0x2000, Access.READ, PASID, group=2)
    assert software.heard == [expected]
    software.write("PRS", 1)
    device.request_page(0x3000, Access.READ, PASID, group=3)
    assert software.heard == [expected, expected]

    software.write("PECTL", 1 << 31)
    software.write("PRS", 1)
    device.request_page(0x4000, Access.READ, PASID, group=4)
    assert software.read("PECTL") == 3 << 30
    software.write("PRS", 1)
    assert software.read("PECTL") == 1 << 31


def test_software_answers_through_the_invalidation_queue() -> None:
    software, device, queue = asking()
    software.enable_queue()
    device.request_page(0x1000, Access.READ, PASID, group=9)
    request = queued(software, queue)

    software.submit(
        PageGroupResponse(Type=9, PASID_P=request.PASIDP, PASID=request.PASID, RID=request.RID, PRGI=request.PRGI)
    )

    assert [(response.group, response.pasid, response.code) for response in device.responses] == [
        (9, PASID, ResponseCode.SUCCESS)
    ]


@pytest.mark.parametrize(
    ("context", "pasid", "reason", "code"),
    [
        ({"PRE": 0}, PASID, 0x47, ResponseCode.INVALID),
        ({"PRE": 0}, None, 0x47, ResponseCode.INVALID),
        ({"PASIDE": 0}, PASID, 0x45, ResponseCode.FAILURE),
        ({}, 1 << 13, 0x46, ResponseCode.FAILURE),
        ({"P": 0}, PASID, 0x41, ResponseCode.FAILURE),
    ],
)
def test_a_device_that_may_not_ask_is_answered_and_recorded(
    context: dict[str, int], pasid: int | None, reason: int, code: ResponseCode
) -> None:
    software, device, _ = asking(**context)

    device.request_page(0x1000, Access.READ, pasid, group=1, last=False)
    device.request_page(0x5000, Access.READ, pasid, group=1)

    assert codes(device) == [code]
    assert (software.read("PQT"), software.read("PRS")) == (0, 0)
    record = software.record(1)
    assert (reason, RID, 0x5000, 0, 1) == (record.FR, record.SID, record.FI, record.T, record.T2)


def test_fpd_silences_the_refusal_of_a_page_request() -> None:
    software, device, _ = asking(PRE=0, FPD=1)

    device.request_page(0x1000, Access.READ, PASID, group=1)

    assert codes(device) == [ResponseCode.INVALID]
    assert int(software.fsts) == 0


def test_page_requests_do_not_exist_in_legacy_mode_nor_while_translation_is_off() -> None:
    software, device, _ = asking()
    software.command(TE=0)
    device.request_page(0x1000, Access.READ, group=1)
    assert (codes(device), int(software.fsts)) == ([ResponseCode.INVALID], 0)

    software.guest.mode = 0
    software.guest.put(software.guest.root + 16, RootEntry())
    software.guest.legacy(RID, ContextEntry())
    software.enable()
    device.request_page(0x1000, Access.READ, group=1)

    assert codes(device) == [ResponseCode.INVALID] * 2
    assert software.record().FR == 0x32


def test_abort_mode_refuses_page_requests_too() -> None:
    software, device, _ = asking()
    software.guest.mode = 3
    software.set_root()

    device.request_page(0x1000, Access.READ, group=1)

    assert (codes(device), software.record().FR) == ([ResponseCode.FAILURE], 0x33)


def test_a_queue_where_no_memory_is_loses_what_is_written() -> None:
    software, device, _ = asking()
    software.write("PQA", HOLE)

    device.request_page(0x1000, Access.READ, PASID, group=1)

    assert (software.read("PQT"), software.read("PRS")) == (SIZE, 1)
