"""What AMD hardware logs comes to the host's log, and to the guest whose device it is about."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from attrs import define, field

from tests.plugins.amd_viommu.guest import Guest
from tests.plugins.amd_viommu.program import AHEAD, PAGE, RID, Program
from viommu.faults import Access
from viommu.iommufd import uapi
from viommu_amd_viommu.host.extensions import TYPE, VeventAmd
from viommu_amd_viommu.host.logs import LENGTH_LG2
from viommu_amd_viommu.spec.events import EventCode, IoPageFault, decode_event

if TYPE_CHECKING:
    from viommu.endpoint import Endpoint
    from viommu.iommufd.user_memory import UserFile
    from viommu.objects.device import Device
    from viommu_amd_viommu.spec.events import AnyEvent

VID, IOVA = 0x0A10, 0x7000_0000
HEADER = 8


@define(eq=False)
class Listener:
    """A guest's VMM that listens to its events."""

    program: Program
    depth: int = 64
    requester: int = RID
    endpoint: Endpoint = field(init=False)
    device: Device = field(init=False)
    guest: Guest = field(init=False)
    file: UserFile = field(init=False)

    def __attrs_post_init__(self) -> None:
        program = self.program
        self.endpoint = program.machine.add_device(self.requester, pasid_bits=8)
        self.device = program.bind(self.endpoint)
        self.guest = Guest.make(program, self.device)
        viommu = program.viommu(self.device, self.guest.parent)
        program.vdevice(self.device, viommu, VID)
        self.device.attach(program.nested(self.device, viommu, self.guest.dte(DomainID=0x33)))
        made = program.must(uapi.VeventqAlloc.of(viommu_id=viommu, type=TYPE, veventq_depth=self.depth))
        self.file = program.process.files[made.out_veventq_fd]

    def events(self) -> list[tuple[int, AnyEvent | None]]:
        """Read the queue: (sequence number, event); None for the mark that events were lost."""
        room = self.program.buffer(32 * PAGE)
        done = self.file.read(self.program.process, room.address, 32 * PAGE)
        found: list[tuple[int, AnyEvent | None]] = []
        at = 0
        while at < done:
            flags, sequence = struct.unpack_from("<II", room.pages, at)
            at += HEADER
            found.append((sequence, None if flags else decode_event(room.pages[at : at + VeventAmd.total])))
            at += 0 if flags else VeventAmd.total
        return found

    def refused(self, iova: int, access: Access = Access.READ, pasid: int | None = None) -> None:
        assert self.program.reaches(iova, access, pasid, self.requester) == "IO_PAGE_FAULT"


@pytest.fixture
def listener() -> Listener:
    return Listener(Program.make(AHEAD, sanitize=False))


def test_a_fault_of_a_guests_device_is_told_in_the_guests_ids(listener: Listener) -> None:
    listener.guest.root(5)
    listener.refused(IOVA, Access.WRITE, 5)

    ((sequence, event),) = listener.events()
    assert sequence == 0
    assert event == IoPageFault(
        EventCode=EventCode.IO_PAGE_FAULT, DeviceID=VID, DomainIDOrPASID=5, GN=1, RW=1, US=1, Address=IOVA
    )


def test_a_fault_without_pasid_names_the_guests_domain(listener: Listener) -> None:
    listener.guest.root()
    other = Listener(listener.program, requester=RID + 8)
    listener.device.replace(
        listener.program.nested(listener.device, _viommu_of(listener), listener.guest.dte(DomainID=0x44, GIOV=0))
    )
    listener.refused(1 << 40)

    ((_, event),) = listener.events()
    assert isinstance(event, IoPageFault)
    assert (event.GN, event.DomainIDOrPASID, event.DeviceID) == (0, 0x44, VID)
    assert not other.events()


def test_the_host_keeps_events_with_its_own_ids(listener: Listener) -> None:
    listener.refused(IOVA)

    (event,) = listener.program.unit.events
    assert isinstance(event, IoPageFault)
    assert event.DeviceID == RID


def test_a_device_that_no_guest_has_tells_the_host_alone(listener: Listener) -> None:
    listener.program.machine.add_device(RID + 8)
    assert listener.program.reaches(IOVA, requester=RID + 8) == "IO_PAGE_FAULT"

    assert not listener.events()
    assert len(listener.program.unit.events) == 1


def test_where_the_guest_does_not_listen_events_are_lost_in_number(listener: Listener) -> None:
    short = Listener(listener.program, depth=2, requester=RID + 8)
    for page in range(5):
        short.refused(IOVA + page * PAGE)

    told = short.events()
    assert [sequence for sequence, _ in told] == [0, 1, 4]
    assert told[-1][1] is None


def test_each_fault_is_read_as_it_comes_however_many_there_are(listener: Listener) -> None:
    for page in range(3 << LENGTH_LG2):
        listener.refused(IOVA + page * PAGE)

    assert [int(event) >> 64 for event in listener.program.unit.events][-3:] == [
        IOVA + page * PAGE for page in range((3 << LENGTH_LG2) - 3, 3 << LENGTH_LG2)
    ]
    assert not listener.program.unit.registers.status.EventOverflow


def test_a_log_that_overflowed_while_nobody_read_is_started_anew(listener: Listener) -> None:
    program = listener.program
    program.unit.registers.switch(EventIntEn=0)
    for page in range((1 << LENGTH_LG2) + 8):
        listener.refused(IOVA + page * PAGE)
    status = program.unit.registers.status
    assert (status.EventOverflow, status.EventLogRun) == (1, 0)

    program.unit.registers.switch(EventIntEn=1)

    assert len(program.unit.events) == (1 << LENGTH_LG2) - 1
    status = program.unit.registers.status
    assert (status.EventOverflow, status.EventLogRun) == (0, 1)
    listener.refused(IOVA)
    assert len(program.unit.events) == 1 << LENGTH_LG2


def _viommu_of(listener: Listener) -> int:
    owner = listener.endpoint.physical.owner
    assert owner is not None
    assert owner.vdevice is not None
    return owner.vdevice.viommu.id
