"""Faults: which are the guest's, which the host's; stalled accesses on their way to user space and back."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from attrs import define

from tests.plugins.smmuv3_cmdqv.guest import BASE, LEAF, NG, READ_ONLY, VSID, Guest
from tests.plugins.smmuv3_cmdqv.program import DIRTY, PAGE, SID, Program, identity
from viommu.faults import Access, Fault
from viommu.iommufd import uapi
from viommu.platform import ResponseCode
from viommu_smmuv3_cmdqv.spec.events import RECORDS, EventId, TranslationRecord
from viommu_smmuv3_cmdqv.spec.stream_table import STE

if TYPE_CHECKING:
    from viommu.endpoint import Endpoint
    from viommu.iommufd.user_memory import UserFile
    from viommu.objects.device import Device

IOVA = 0x7000_0000
RECORD = struct.Struct("<IIIIIIQII")
AF_CLEAR = 1 << 10


def made(**features: bool | int) -> Guest:
    program = Program.make()
    device = program.machine.add_device(SID, **features)  # type: ignore[arg-type]
    return Guest.make(program, program.bind(device))


def endpoint(guest: Guest) -> Endpoint:
    return guest.program.machine.endpoints[0]


def test_a_fault_of_the_guests_stage_1_is_the_guests_with_its_own_stream_id() -> None:
    guest = made()
    guest.attach()
    events = guest.events()
    endpoint(guest).translate(IOVA + 0x123, Access.WRITE)
    ((flags, sequence, raw),) = events.read()
    record = TranslationRecord.decode(raw)
    assert (flags, sequence) == (0, 0)
    assert (record.ID, record.SID, record.InputAddr, record.RnW) == (EventId.F_TRANSLATION, VSID, IOVA + 0x123, 0)
    assert not guest.program.smmu.log


@pytest.mark.parametrize(
    ("extra", "access", "event"),
    [
        (READ_ONLY, Access.WRITE, EventId.F_PERMISSION),
        (-AF_CLEAR, Access.READ, EventId.F_ACCESS),
        (1 << 47, Access.READ, EventId.F_ADDR_SIZE),
    ],
    ids=["permission", "access flag", "address size"],
)
def test_every_fault_of_stage_1_is_the_guests(extra: int, access: Access, event: EventId) -> None:
    guest = made()
    guest.put(guest.cd, guest.descriptor(guest.root, IPS=2))
    guest.store(guest.leaf(IOVA), (guest.page() | LEAF | NG) + extra)
    guest.attach()
    events = guest.events()
    endpoint(guest).translate(IOVA, access)
    ((_, _, raw),) = events.read()
    assert raw[0] == event


@pytest.mark.parametrize(
    ("ste", "pasid", "event"),
    [
        ({}, 3, EventId.C_BAD_SUBSTREAMID),
        ({"S1CDMax": 2, "S1DSS": 0}, None, EventId.F_STREAM_DISABLED),
        ({"S1CDMax": 2, "S1DSS": 2}, 1, EventId.C_BAD_CD),
    ],
    ids=["bad substream", "disabled", "bad CD"],
)
def test_faults_of_a_guests_configuration_are_the_guests(
    ste: dict[str, int], pasid: int | None, event: EventId
) -> None:
    guest = made(pasid_bits=8)
    guest.attach(guest.ste(**ste))
    events = guest.events()
    endpoint(guest).translate(IOVA, Access.READ, pasid)
    ((_, _, raw),) = events.read()
    record = RECORDS[event].decode(raw)
    assert EventId(record.ID) is event
    assert record.SID == VSID


def test_a_fault_of_stage_2_is_the_hosts() -> None:
    guest = made()
    guest.store(guest.leaf(IOVA), BASE - PAGE | LEAF | NG)
    guest.attach()
    events = guest.events()
    endpoint(guest).translate(IOVA)
    assert events.read() == []
    (record,) = guest.program.smmu.log
    assert isinstance(record, TranslationRecord)
    assert (record.S2, record.SID) == (1, SID)


def test_a_guests_abort_tells_nobody() -> None:
    guest = made()
    guest.attach(STE(V=1, Config=0))
    events = guest.events()
    endpoint(guest).translate(IOVA)
    assert events.read() == []
    assert not guest.program.smmu.log


def test_a_device_without_a_vdevice_has_no_guest_to_tell() -> None:
    guest = made()
    guest.device.attach(guest.nested(STE(V=1, Config=4)))
    events = guest.events()
    endpoint(guest).translate(1 << 50)
    assert events.read() == []
    assert len(guest.program.smmu.log) == 1


def test_events_beyond_the_depth_are_lost_and_that_is_told() -> None:
    guest = made()
    guest.attach()
    events = guest.events(depth=2)
    for page in range(5):
        endpoint(guest).translate(IOVA + PAGE * page)
    assert [(flags, sequence) for flags, sequence, _ in events.read()] == [(0, 0), (0, 1), (1, 4)]
    endpoint(guest).translate(IOVA + PAGE * 9)
    assert [(flags, sequence) for flags, sequence, _ in events.read()] == [(0, 5)]


def test_equal_events_that_nobody_has_read_are_merged_by_hardware_alone() -> None:
    """MEV is set, but the host reads each record at once, so that none is left to merge with."""
    guest = made()
    guest.attach()
    events = guest.events()
    for _ in range(3):
        endpoint(guest).translate(IOVA)
    assert len(events.read()) == 3


def test_events_of_two_guests_go_their_own_ways() -> None:
    program = Program.make()
    guests = []
    for sid in (SID, SID + 8):
        guest = Guest.make(program, program.bind(program.machine.add_device(sid)))
        guest.attach()
        guests.append(guest)
    queues = [guest.events() for guest in guests]
    program.machine.endpoints[1].translate(IOVA)
    assert [len(queue.read()) for queue in queues] == [0, 1]


def test_once_detached_a_guest_hears_no_more() -> None:
    guest = made()
    guest.attach()
    events = guest.events()
    guest.device.detach()
    endpoint(guest).translate(IOVA)
    assert events.read() == []


# --- stalls


@define(eq=False)
class Listener:
    """A program that takes faults of a device whose accesses wait."""

    guest: Guest
    fault_id: int
    file: UserFile

    @classmethod
    def make(cls, registers: dict[str, int] | None = None, **features: bool | int) -> Listener:
        program = Program.make(registers)
        device = program.machine.add_device(SID, **{"stalls": True, **features})  # type: ignore[arg-type]
        made = program.must(uapi.FaultAlloc.of())
        file = program.machine.process.files[made.out_fault_fd]
        return cls(Guest.make(program, program.bind(device)), made.out_fault_id, file)

    def read(self) -> list[tuple[int, ...]]:
        program = self.guest.program
        buffer = program.buffer()
        count = self.file.read(program.machine.process, buffer.ctypes.data, RECORD.size * 8)
        return list(RECORD.iter_unpack(buffer[:count].tobytes()))

    def answer(self, cookie: int, code: int) -> None:
        program = self.guest.program
        address = program.data(struct.pack("<II", cookie, code))
        assert self.file.write(program.machine.process, address, 8) == 8

    @property
    def device(self) -> Device:
        return self.guest.device

    @property
    def endpoint(self) -> Endpoint:
        return endpoint(self.guest)


def nested_listener(**features: bool | int) -> Listener:
    listener = Listener.make(None, **features)
    guest = listener.guest
    guest.put(guest.cd, guest.descriptor(guest.root, S=1))
    flags = uapi.HwptFlags.FAULT_ID_VALID
    guest.attach(guest.ste(), flags=flags, fault_id=listener.fault_id)
    return listener


def test_a_stalled_access_is_told_to_user_space_and_tried_again() -> None:
    listener = nested_listener()
    found = listener.endpoint.translate(IOVA + 0x40, Access.WRITE)
    assert isinstance(found, Fault)
    ((flags, dev_id, pasid, group, perm, _, addr, _, cookie),) = listener.read()
    assert (flags, dev_id, pasid, perm, addr) == (2, listener.device.id, 0, 2, IOVA + 0x40)
    assert (SID, group) in listener.guest.program.machine.stalled
    listener.guest.map(IOVA)
    listener.answer(cookie, uapi.ResponseCode.SUCCESS)
    ((_, outcome),) = listener.guest.program.machine.resumed
    assert not isinstance(outcome, Fault)
    assert not listener.guest.program.machine.stalled


def test_a_stalled_access_that_is_answered_invalid_ends_with_an_abort() -> None:
    listener = nested_listener()
    listener.endpoint.translate(IOVA)
    ((*_, cookie),) = listener.read()
    listener.answer(cookie, uapi.ResponseCode.INVALID)
    ((_, outcome),) = listener.guest.program.machine.resumed
    assert isinstance(outcome, Fault)
    assert not listener.guest.program.machine.stalled


def test_an_access_that_is_tried_again_too_early_waits_again() -> None:
    listener = nested_listener()
    listener.endpoint.translate(IOVA)
    for _ in range(3):
        ((*_, cookie),) = listener.read()
        listener.answer(cookie, uapi.ResponseCode.SUCCESS)
    assert len(listener.read()) == 1


def test_the_guests_pasid_is_told() -> None:
    listener = Listener.make(pasid_bits=8)
    guest = listener.guest
    table = guest.page()
    guest.put(table + 64 * 3, guest.descriptor(guest.root, S=1))
    flags = uapi.HwptFlags.FAULT_ID_VALID
    guest.attach(guest.ste(S1ContextPtr=table, S1CDMax=2), flags=flags, fault_id=listener.fault_id)
    listener.endpoint.translate(IOVA, Access.READ, 3)
    ((flag, _, pasid, _, perm, *_),) = listener.read()
    assert (flag, pasid, perm) == (3, 3, 1)


def test_a_stall_that_nobody_listens_to_ends_at_once() -> None:
    program = Program.make()
    device = program.machine.add_device(SID, stalls=True)
    program.bind(device).attach(program.ioas())
    assert isinstance(device.translate(IOVA), Fault)
    assert not program.machine.stalled
    assert len(program.smmu.log) == 1


def test_a_device_that_cannot_wait_is_not_made_to() -> None:
    program = Program.make()
    device = program.machine.add_device(SID)
    program.bind(device).attach(program.ioas())
    assert program.master(device).ste.S1STALLD
    assert isinstance(device.translate(IOVA), Fault)
    assert not program.machine.stalled


def test_detaching_answers_what_waits() -> None:
    listener = nested_listener()
    listener.endpoint.translate(IOVA)
    listener.device.detach()
    assert not listener.guest.program.machine.stalled
    assert listener.read() == []


def test_where_hardware_forces_stalls_every_device_stalls() -> None:
    listener = Listener.make(identity(IDR0_STALL_MODEL=2), stalls=False)
    program = listener.guest.program
    hwpt = program.hwpt(listener.device, program.ioas(), DIRTY, listener.fault_id)
    listener.device.attach(hwpt)
    listener.endpoint.translate(IOVA)
    assert len(listener.read()) == 1


def test_a_page_request_by_pri_is_refused_as_linux_refuses_it() -> None:
    program = Program.make()
    device = program.machine.add_device(SID, ats=True, page_requests=True)
    program.bind(device).attach(program.ioas())
    assert device.ats is not None
    device.ats.request_page(IOVA, Access.READ, group=7, last=False)
    device.ats.request_page(IOVA + PAGE, Access.READ, group=7)
    (answer,) = device.ats.responses
    assert (answer.group, answer.code) == (7, ResponseCode.FAILURE)
