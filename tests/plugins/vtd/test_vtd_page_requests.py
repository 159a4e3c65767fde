"""Page requests: from the device through the queue in memory to a FAULT, and the answer back."""

from __future__ import annotations

import random
import struct
from collections import deque
from functools import partial
from threading import Event, Thread, Timer
from typing import TYPE_CHECKING

import pytest
from attrs import define

from tests.plugins.vtd.guest import Guest
from tests.plugins.vtd.program import PAGE, RID, Program
from viommu.faults import Access
from viommu.iommufd import uapi
from viommu.kernel_errors import NoDevice
from viommu.platform import ResponseCode
from viommu_vtd.hardware.live import LiveUnit
from viommu_vtd.host.page_requests import service
from viommu_vtd.host.unit import PAGE_REQUEST_PAGES_LG2
from viommu_vtd.spec.commands import InvalidationWait
from viommu_vtd.spec.page_requests import PageRequestDescriptor
from viommu_vtd.spec.queue_registers import IQT, PQH, PQT, PRS

if TYPE_CHECKING:
    from tests.plugins.vtd.program import Buffer
    from viommu.devices import Device as Endpoint
    from viommu.iommufd.user_memory import UserFile
    from viommu.objects.device import Device

IOVA = 0x40_0000
PASID = 5
FAULT, FAULT_AND_PASID = uapi.HwptFlags.FAULT_ID_VALID, uapi.HwptFlags.FAULT_ID_VALID | uapi.HwptFlags.PASID
RECORD = struct.Struct("<IIIIIIQII")
ENTRIES = (4096 << PAGE_REQUEST_PAGES_LG2) // 32


@define(eq=False)
class Listener:
    """A program that takes page requests of a device whose guest has mapped nothing yet."""

    program: Program
    device: Device
    guest: Guest
    endpoint: Endpoint
    fault_id: int
    file: UserFile
    inbox: Buffer
    outbox: Buffer

    @classmethod
    def make(cls, *, sanitize: bool = True) -> Listener:
        program = Program.make(sanitize=sanitize)
        device = program.bind(program.host.device(RID, ats=True, page_requests=True, pasids=1 << 20))
        guest = Guest.make(program, device, uapi.HwptFlags.PASID)
        made = program.must(uapi.FaultAlloc.of())
        file = program.process.files[made.out_fault_fd]
        return cls(
            program,
            device,
            guest,
            program.host.machine.device(RID),
            made.out_fault_id,
            file,
            program.buffer(),
            program.buffer(),
        )

    def attach(self, pasid: int = 0) -> int:
        """Attach a nested HWPT whose page requests come here."""
        cmd = self.program.nested_command(self.device, self.guest.parent, self.guest.root, FAULT_AND_PASID)
        cmd.fault_id = self.fault_id
        hwpt = self.program.must(cmd).out_hwpt_id
        self.device.attach(hwpt, pasid)
        return hwpt

    def read(self, count: int = 16) -> list[uapi.HwptPgfault]:
        if self.inbox.length < count * RECORD.size:
            self.inbox = self.program.buffer(count * RECORD.size)
        out = self.inbox
        got = self.file.read(self.program.process, out.address, count * RECORD.size)
        assert got >= 0
        return [uapi.HwptPgfault.decode(out.pages[at : at + RECORD.size]) for at in range(0, got, RECORD.size)]

    def answer(self, cookie: int, code: int = 0) -> None:
        out = self.outbox
        out.pages[:8] = struct.pack("<II", cookie, code)
        assert self.file.write(self.program.process, out.address, 8) == 8

    @property
    def responses(self) -> list[tuple[int | None, int, ResponseCode]]:
        return [(one.pasid, one.group, one.code) for one in self.endpoint.responses]

    @property
    def hardware(self) -> LiveUnit:
        model = self.program.host.machine.iommus[0].hardware.model
        assert isinstance(model, LiveUnit)
        return model

    @property
    def status(self) -> PRS:
        return self.program.host.unit.registers.read(PRS)


def test_a_refused_dma_is_retried_once_the_guest_has_its_page() -> None:
    listener = Listener.make()
    listener.attach()
    assert not hasattr(listener.endpoint.translate(IOVA), "pa")
    listener.endpoint.request_page(IOVA, Access.READ | Access.WRITE, group=3)
    (request,) = listener.read()
    assert (request.flags, request.grpid, request.perm, request.addr) == (2, 3, 3, IOVA)
    assert request.dev_id == listener.device.id
    assert not listener.responses
    listener.guest.map(IOVA, b"now")
    listener.answer(request.cookie)
    assert listener.responses == [(None, 3, ResponseCode.SUCCESS)]
    assert hasattr(listener.endpoint.translate(IOVA), "pa")
    listener.program.clean()


@pytest.mark.parametrize(("code", "expected"), [(0, ResponseCode.SUCCESS), (1, ResponseCode.INVALID)])
def test_what_user_space_answers_is_what_the_device_is_told(code: int, expected: ResponseCode) -> None:
    listener = Listener.make()
    listener.attach(PASID)
    listener.endpoint.request_page(IOVA, Access.READ, PASID, group=7)
    (request,) = listener.read()
    assert (request.flags, request.pasid, request.perm) == (3, PASID, 1)
    listener.answer(request.cookie, code)
    assert listener.responses == [(PASID, 7, expected)]


def test_a_group_is_read_whole_and_answered_once() -> None:
    listener = Listener.make()
    listener.attach()
    for page in range(3):
        listener.endpoint.request_page(IOVA + page * 0x1000, Access.READ, group=1, last=page == 2)
    requests = listener.read()
    assert [(one.addr, one.flags) for one in requests] == [(IOVA, 0), (IOVA + 0x1000, 0), (IOVA + 0x2000, 2)]
    assert len({one.cookie for one in requests}) == 1
    listener.answer(requests[0].cookie)
    assert listener.responses == [(None, 1, ResponseCode.SUCCESS)]


@pytest.mark.parametrize("attached", [True, False])
def test_where_nobody_listens_the_answer_is_invalid(attached: bool) -> None:
    listener = Listener.make()
    if attached:
        listener.device.attach(listener.program.nested(listener.device, listener.guest.parent, listener.guest.root))
    listener.endpoint.request_page(IOVA, Access.READ, group=1)
    assert listener.responses == [(None, 1, ResponseCode.INVALID)]
    assert not listener.read()


@pytest.mark.parametrize(
    ("iova", "access"),
    [
        (1 << 57, Access.READ),
        (1 << 56, Access.READ),
        ((1 << 64) - (1 << 56) - 0x1000, Access.READ),
        (IOVA, Access.READ | Access.PRIVILEGED),
        (IOVA, Access.EXECUTE),
    ],
)
def test_what_linux_takes_for_malformed_is_answered_without_user_space(iova: int, access: Access) -> None:
    listener = Listener.make()
    listener.attach(PASID)
    listener.endpoint.request_page(iova, access, PASID, group=1, last=False)
    assert not listener.responses
    listener.endpoint.request_page(iova, access, PASID, group=1)
    assert listener.responses == [(PASID, 1, ResponseCode.INVALID)]
    assert not listener.read()


@pytest.mark.parametrize("iova", [0, (1 << 56) - 0x1000, (1 << 64) - (1 << 56), (1 << 64) - 0x1000])
def test_addresses_of_both_canonical_halves_are_passed_on(iova: int) -> None:
    listener = Listener.make()
    listener.attach(PASID)
    listener.endpoint.request_page(iova, Access.READ, PASID, group=1)
    assert [one.addr for one in listener.read()] == [iova]


def queued(listener: Listener, descriptor: PageRequestDescriptor) -> None:
    """Let hardware queue something that no device of ours sends."""
    unit, registers = listener.program.host.unit, listener.hardware.state.registers
    unit.memory.write(unit.page_requests + registers["PQT"], descriptor.encode())
    registers["PQT"] += descriptor.size
    unit.queue.turns.leave(lambda: service(unit))


def test_a_stop_marker_wants_no_answer_and_is_not_passed_on() -> None:
    listener = Listener.make()
    listener.attach()
    queued(listener, PageRequestDescriptor(Type=1, RID=RID, LPIG=1, PRGI=5))
    assert not listener.responses
    assert not listener.read()


def test_a_request_of_a_device_that_nobody_knows_is_answered_that_it_was_invalid() -> None:
    listener = Listener.make()
    listener.attach()
    stranger = listener.program.host.machine.device(RID + 1)
    queued(listener, PageRequestDescriptor(Type=1, RID=RID + 1, RD=1, LPIG=1, PRGI=5))
    assert [(one.group, one.code) for one in stranger.responses] == [(5, ResponseCode.INVALID)]
    assert not listener.read()


@pytest.mark.parametrize("pasid", [0, PASID])
def test_a_hwpt_with_a_fault_queue_is_not_for_a_device_that_never_asks(pasid: int) -> None:
    listener = Listener.make()
    program = listener.program
    mute = program.bind(program.host.device(RID + 8, ats=True, pasids=1 << 20))
    cmd = program.nested_command(listener.device, listener.guest.parent, listener.guest.root, FAULT_AND_PASID)
    cmd.fault_id = listener.fault_id
    hwpt = program.must(cmd).out_hwpt_id
    with pytest.raises(NoDevice, match="page requests"):
        mute.attach(hwpt, pasid)


@pytest.mark.parametrize("delivered", [True, False])
def test_a_detach_answers_what_was_not_answered(delivered: bool) -> None:
    listener = Listener.make()
    listener.attach()
    listener.endpoint.request_page(IOVA, Access.READ, group=1)
    if delivered:
        listener.read()
    listener.device.detach()
    assert listener.responses == [(None, 1, ResponseCode.INVALID)]
    assert listener.program.host.commands["page_group_response"] == 1


def test_a_detach_drains_what_the_device_has_sent() -> None:
    listener = Listener.make()
    listener.attach()
    unit = listener.program.host.unit
    listener.device.detach()
    last = (unit.registers.read(IQT).QT or 2 * PAGE) - 32
    raw = unit.memory.read(unit.queue.base + last, InvalidationWait.size)
    assert InvalidationWait.decode(raw or b"").PD


def test_what_lies_in_the_queue_when_the_device_is_detached_is_answered() -> None:
    listener = Listener.make()
    listener.attach()
    sent, ended = Event(), Event()

    def held_up() -> None:
        """The host's handler does not come to the queue: somebody has the unit's turn."""
        for group in range(5):
            listener.endpoint.request_page(IOVA, Access.READ, group=group)
        sent.set()
        ended.wait(10)

    other = Thread(target=listener.program.host.unit.queue.turns.take, args=(held_up,))
    other.start()
    assert sent.wait(10)
    Timer(0.05, ended.set).start()
    listener.device.detach()
    other.join()
    assert sorted(listener.responses) == [(None, group, ResponseCode.INVALID) for group in range(5)]
    assert not listener.read()


def burst(count: int, *, held_up: bool = False) -> int:
    """A device asks as fast as it can, and user space reads when its turn comes; how many found no room.

    What finds room is read in its order. What finds none, since the host's handler is ``held_up`` at times, is told to
    ask again: that alone may hardware lose.
    """
    listener, chance = Listener.make(sanitize=False), random.Random(count)
    listener.attach()
    responses = listener.endpoint.responses = deque(maxlen=1)
    expected, asked, answered = deque[int](), 0, 0

    def ask(number: int) -> None:
        for index in range(asked, asked + number):
            responses.clear()
            listener.endpoint.request_page(IOVA + index * 0x1000, Access.READ, group=index & 0x1FF)
            if not responses:
                expected.append(IOVA + index * 0x1000)

    while asked < count:
        stretch = min(chance.randrange(1, 2 * ENTRIES), count - asked)
        if held_up and chance.random() < 0.5:
            listener.program.host.unit.queue.turns.take(partial(ask, stretch))
        else:
            ask(stretch)
        asked += stretch
        for request in listener.read(2 * ENTRIES):
            assert request.addr == expected.popleft()
            listener.answer(request.cookie)
            answered += 1
        assert not expected
    assert answered == listener.program.host.commands["page_group_response"]
    return count - answered


def test_requests_of_a_burst_are_all_there_in_order() -> None:
    assert burst(ENTRIES + 500) == 0


def test_requests_that_find_no_room_are_told_to_ask_again_and_no_others_are_lost() -> None:
    assert burst(3 * ENTRIES, held_up=True) > 0


@pytest.mark.long
def test_a_million_requests_are_all_there_in_order() -> None:
    assert burst(1_000_000) == 0


@pytest.mark.long
def test_of_a_million_requests_those_alone_are_lost_that_find_no_room() -> None:
    assert burst(1_000_000, held_up=True) > 0


def test_a_queue_that_software_left_full_is_taken_over_and_works_again() -> None:
    listener = Listener.make()
    listener.attach()
    unit = listener.program.host.unit

    # As if the handler had been held up: somebody has the unit's queue, so that it must leave its work.
    def busy() -> None:
        for index in range(ENTRIES + 5):
            listener.endpoint.request_page(IOVA + index * 0x1000, Access.READ, group=index & 0x1FF)
        assert listener.status.PRO

    unit.queue.turns.take(busy)
    assert (listener.status.PRO, listener.status.PPR) == (0, 0)
    assert unit.registers.read(PQH).PQH == unit.registers.read(PQT).PQT
    # Those that found no room were answered with success, so that the device asks again.
    assert len(listener.endpoint.responses) == 6
    assert len(listener.read(ENTRIES)) == ENTRIES - 1
    listener.endpoint.request_page(IOVA, Access.READ, group=9)
    assert [one.grpid for one in listener.read()] == [9]


def test_after_an_overflow_half_groups_are_forgotten() -> None:
    listener = Listener.make()
    listener.attach()

    def busy() -> None:
        for index in range(ENTRIES + 5):
            listener.endpoint.request_page(IOVA + index * 0x1000, Access.READ, group=1, last=False)

    listener.program.host.unit.queue.turns.take(busy)
    listener.endpoint.request_page(IOVA, Access.READ, group=1)
    assert len(listener.read()) == 1
