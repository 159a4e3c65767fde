"""Page requests on AMD: from the device through the PPR log to a FAULT, and the answer back."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from attrs import define, field

from tests.plugins.amd_viommu.guest import Guest
from tests.plugins.amd_viommu.program import AHEAD, PAGE, RID, Program
from viommu.faults import Access
from viommu.iommufd import uapi
from viommu.iommufd.uapi import HwptFlags
from viommu.platform import ResponseCode

if TYPE_CHECKING:
    from viommu.devices import Device as Ats
    from viommu.iommufd.user_memory import UserFile
    from viommu.objects.device import Device

IOVA, PASID = 0x40_0000, 5
RECORD = uapi.HwptPgfault.total


@define(eq=False)
class Listener:
    """A program that takes page requests of a device whose guest has mapped nothing yet."""

    program: Program = field(factory=lambda: Program.make(AHEAD))
    device: Device = field(init=False)
    guest: Guest = field(init=False)
    ats: Ats = field(init=False)
    fault_id: int = field(init=False)
    file: UserFile = field(init=False)

    def __attrs_post_init__(self) -> None:
        endpoint = self.program.machine.add_device(RID, ats=True, page_requests=True, pasid_bits=8)
        assert endpoint.ats is not None
        self.ats = endpoint.ats
        self.device = self.program.bind(endpoint)
        self.guest = Guest.make(self.program, self.device)
        self.guest.root(PASID)
        made = self.program.must(uapi.FaultAlloc.of())
        self.fault_id, self.file = made.out_fault_id, self.program.process.files[made.out_fault_fd]

    def attach(self, **entry: int) -> None:
        """Attach a nested HWPT whose page requests come here."""
        viommu = self.program.viommu(self.device, self.guest.parent)
        dte = self.guest.dte(**{"PPR": 1} | entry)
        self.device.attach(
            self.program.nested(self.device, viommu, dte, flags=HwptFlags.FAULT_ID_VALID, fault=self.fault_id)
        )

    def read(self) -> list[uapi.HwptPgfault]:
        out = self.program.buffer()
        got = self.file.read(self.program.process, out.address, PAGE // RECORD * RECORD)
        assert got >= 0
        return [uapi.HwptPgfault.decode(out.pages[at : at + RECORD]) for at in range(0, got, RECORD)]

    def answer(self, cookie: int, code: int = 0) -> None:
        out = self.program.buffer(text=struct.pack("<II", cookie, code))
        assert self.file.write(self.program.process, out.address, 8) == 8

    @property
    def responses(self) -> list[tuple[int | None, int, ResponseCode]]:
        return [(one.pasid, one.group, one.code) for one in self.ats.responses]


@pytest.fixture
def listener() -> Listener:
    return Listener()


def test_a_refused_dma_is_retried_once_the_guest_has_its_page(listener: Listener) -> None:
    listener.attach()
    assert not hasattr(listener.ats.translate(IOVA, pasid=PASID), "pa")
    listener.ats.request_page(IOVA, Access.READ | Access.WRITE, PASID, group=3)

    (request,) = listener.read()
    assert (request.flags, request.pasid, request.grpid, request.perm, request.addr) == (3, PASID, 3, 3, IOVA)
    assert request.dev_id == listener.device.id
    assert not listener.responses
    listener.guest.map(IOVA, b"now", PASID)
    listener.answer(request.cookie)

    assert listener.responses == [(PASID, 3, ResponseCode.SUCCESS)]
    assert hasattr(listener.ats.translate(IOVA, pasid=PASID), "pa")
    listener.program.clean()


@pytest.mark.parametrize(("code", "expected"), [(0, ResponseCode.SUCCESS), (1, ResponseCode.INVALID)])
def test_what_user_space_answers_is_what_the_device_is_told(
    listener: Listener, code: int, expected: ResponseCode
) -> None:
    listener.attach()
    listener.ats.request_page(IOVA, Access.EXECUTE | Access.READ | Access.PRIVILEGED, PASID, group=7)
    (request,) = listener.read()
    assert request.perm == 1 | 4 | 8

    listener.answer(request.cookie, code)

    assert listener.responses == [(PASID, 7, expected)]


def test_a_group_is_read_whole_and_answered_once(listener: Listener) -> None:
    listener.attach()
    for page in range(3):
        listener.ats.request_page(IOVA + page * PAGE, Access.READ, PASID, group=1, last=page == 2)

    requests = listener.read()

    assert [(one.addr, one.flags & 2) for one in requests] == [(IOVA, 0), (IOVA + PAGE, 0), (IOVA + 2 * PAGE, 2)]
    listener.answer(requests[0].cookie)
    assert listener.responses == [(PASID, 1, ResponseCode.SUCCESS)]


@pytest.mark.parametrize("pasid", [None, 0, 256])
def test_what_linux_takes_no_request_for_is_answered_at_once(listener: Listener, pasid: int | None) -> None:
    listener.attach()
    listener.ats.request_page(IOVA, Access.READ, pasid, group=2)

    assert not listener.read()
    assert listener.responses == [(pasid, 2, ResponseCode.INVALID)]


def test_a_guest_that_takes_no_page_requests_gets_none(listener: Listener) -> None:
    listener.attach(PPR=0)
    listener.ats.request_page(IOVA, Access.READ, PASID, group=2)

    assert not listener.read()
    assert listener.responses == [(PASID, 2, ResponseCode.INVALID)]


def test_where_nobody_listens_the_answer_is_invalid(listener: Listener) -> None:
    viommu = listener.program.viommu(listener.device, listener.guest.parent)
    listener.device.attach(listener.program.nested(listener.device, viommu, listener.guest.dte(PPR=1)))
    listener.ats.request_page(IOVA, Access.READ, PASID, group=4)

    assert listener.responses == [(PASID, 4, ResponseCode.INVALID)]


def test_what_waits_when_the_device_is_detached_is_answered(listener: Listener) -> None:
    listener.attach()
    listener.ats.request_page(IOVA, Access.READ, PASID, group=4)
    listener.device.detach()

    assert listener.responses == [(PASID, 4, ResponseCode.INVALID)]


def test_requests_of_a_paging_hwpt_on_a_pasid_come_to_its_fault() -> None:
    listener = Listener()
    program, device = listener.program, listener.device
    ioas = program.ioas()
    flags = HwptFlags.PASID | HwptFlags.FAULT_ID_VALID
    device.attach(program.hwpt(device, ioas, flags, listener.fault_id), PASID)
    listener.ats.request_page(IOVA, Access.READ, PASID, group=6)
    (request,) = listener.read()
    program.map(ioas, IOVA, program.buffer())
    listener.answer(request.cookie)

    assert listener.responses == [(PASID, 6, ResponseCode.SUCCESS)]
    assert hasattr(listener.ats.translate(IOVA, pasid=PASID), "pa")


def test_more_requests_than_the_log_holds_are_taken_one_by_one(listener: Listener) -> None:
    listener.attach()
    for number in range(1200):
        listener.ats.request_page(IOVA + number * PAGE, Access.READ, PASID, group=number % 512)
        (request,) = listener.read()
        listener.answer(request.cookie)

    assert len(listener.responses) == 1200


def test_groups_whose_end_the_log_lost_are_forgotten_and_later_ones_are_not(listener: Listener) -> None:
    listener.attach()
    registers = listener.program.unit.registers
    registers.switch(PPRIntEn=0)
    for number in range(600):
        listener.ats.request_page(IOVA + number * PAGE, Access.READ, PASID, group=1, last=False)
    assert registers.status.PPROverflow
    registers.switch(PPRIntEn=1)
    assert not listener.device.physical.partial_faults
    listener.ats.request_page(IOVA, Access.READ, PASID, group=1)

    (request,) = listener.read()
    assert request.addr == IOVA
    assert not registers.status.PPROverflow
