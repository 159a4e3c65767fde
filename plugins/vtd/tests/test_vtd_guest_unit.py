"""A vIOMMU of VT-d: a guest's invalidations in batches and in a queue of its own, beside another guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from attrs import define, field

from plugins.vtd.tests.hosted import RAM, RAM_SIZE, Hosted
from plugins.vtd.tests.plain_table import PlainTable
from viommu.kernel_errors import Exists, Invalid
from viommu.objects.context import Context
from viommu.ops import Prot
from viommu.platform import BadAnswer
from viommu_vtd.host.attach import attach
from viommu_vtd.host.entries import StageOneFlags
from viommu_vtd.host.guest_unit import MOST_PENDING, GuestUnit, Outcome
from viommu_vtd.host.nested import NestedDomain
from viommu_vtd.host.queue import Trouble
from viommu_vtd.host.soft_queue import QueuePage
from viommu_vtd.spec.commands import (
    DeviceTlbInvalidate,
    InvalidationWait,
    IotlbInvalidate,
    PasidCacheInvalidate,
    PasidIotlbInvalidate,
)
from viommu_vtd.spec.faults import FSTS
from viommu_vtd.spec.offsets import OFFSETS
from viommu_vtd.spec.queue_registers import ICS, IQERCD, QueueError

if TYPE_CHECKING:
    from viommu.layout import Descriptor
    from viommu.objects.physical import PhysicalDevice
    from viommu_vtd.host.device import HostDevice
    from viommu_vtd.host.paging import SecondStageDomain

RW = Prot.READ | Prot.WRITE
IOVA = 0x40_0000
RID, OTHER_RID = 0x0108, 0x0208
VIRTUAL = 0x0010
DID = 5
STATUS = 0x7000
"""Where the guest has its wait descriptors' status, as it sees memory."""


@define(eq=False)
class Vdevices:
    """A vIOMMU as far as its driver asks it."""

    device: PhysicalDevice
    context: Context = field(factory=Context)

    def find_device(self, virt_id: int) -> PhysicalDevice | None:
        return self.device if virt_id == VIRTUAL else None

    def virt_id_of(self, device: PhysicalDevice) -> int | None:
        return VIRTUAL if device is self.device else None


@define(eq=False)
class Guest:
    """One guest with one device, whose page at IOVA can be exchanged behind the caches' back."""

    hosted: Hosted
    parent: SecondStageDomain
    device: HostDevice
    unit: GuestUnit
    table: PlainTable
    told: list[tuple[FSTS, ICS]] = field(factory=list)

    @classmethod
    def make(cls, hosted: Hosted, source: int, *, ats: bool = False) -> Guest:
        device = hosted.device(source, ats=ats, pasids=1 << 20)
        parent = hosted.second_stage(nest_parent=True)
        table = PlainTable(hosted.frames, 4, first=True)
        # Its tables and its page lie where they are; its status page somewhere else.
        parent.map(RAM, RAM, RAM_SIZE, RW, None)
        parent.map(STATUS & -0x1000, hosted.frames.allocate(), 0x1000, RW, None)
        unit = GuestUnit(Vdevices(device.physical), hosted.unit, parent)  # type: ignore[arg-type]
        domain = NestedDomain(
            parent=parent, table=table.root, width=48, flags=StageOneFlags(0), guest=unit, guest_domain=DID
        )
        parent.nested.append(domain)
        unit.nested.append(domain)
        attach(device, 0, domain)
        guest = cls(hosted, parent, device, unit, table)
        table.map(IOVA, hosted.frames.allocate(), 0x1000, RW, None)
        assert guest.reached == table.physical(IOVA)
        return guest

    @property
    def reached(self) -> int | str:
        return self.hosted.reaches(self.device.source, IOVA)

    def move(self) -> int:
        """Exchange the page, and tell nobody; gives the new one."""
        self.table.unmap(IOVA, 0x1000)
        page = self.hosted.frames.allocate()
        self.table.map(IOVA, page, 0x1000, RW, None)
        return page

    @property
    def status(self) -> int:
        pa = self.parent.physical(STATUS)
        assert pa is not None
        return int.from_bytes(self.hosted.machine.memory.read(pa, 4) or b"", "little")

    def run(self, *commands: Descriptor | bytes) -> Outcome:
        return self.unit.run(encoded(*commands))


def encoded(*commands: Descriptor | bytes) -> list[bytes]:
    return [(one if isinstance(one, bytes) else one.encode()).ljust(32, b"\0") for one in commands]


WAIT = InvalidationWait(Type=5, SW=1, STDATA=0x600D, STADDR=STATUS)
BAD = (0xF).to_bytes(32, "little")
FIRST_STAGE = PasidIotlbInvalidate(Type=6, G=3, DID=DID, ADDR=IOVA)
DEVICE_TLB = DeviceTlbInvalidate(Type=3, SID=VIRTUAL, ADDR=IOVA)

ENOUGH = [
    FIRST_STAGE,
    PasidIotlbInvalidate(Type=6, G=2, DID=DID),
    IotlbInvalidate(Type=2, G=1),
    IotlbInvalidate(Type=2, G=2, DID=DID),
    IotlbInvalidate(Type=2, G=3, DID=DID, ADDR=0x1000),
]


@pytest.mark.parametrize("command", ENOUGH, ids=repr)
def test_a_guests_invalidation_reaches_its_translations_and_no_other_guests(command: IotlbInvalidate) -> None:
    hosted = Hosted.make()
    guest, neighbour = Guest.make(hosted, RID), Guest.make(hosted, OTHER_RID)
    before, kept = guest.reached, neighbour.reached
    page, _ = guest.move(), neighbour.move()
    assert guest.reached == before
    assert guest.run(command, WAIT) == Outcome(2)
    assert (guest.reached, neighbour.reached) == (page, kept)
    assert guest.status == 0x600D


@pytest.mark.parametrize(
    "command",
    [PasidIotlbInvalidate(Type=6, G=2, DID=DID + 1), PasidCacheInvalidate(Type=7, G=3)],
    ids=repr,
)
def test_what_is_not_meant_stays(command: IotlbInvalidate) -> None:
    guest = Guest.make(Hosted.make(), RID)
    before = guest.reached
    guest.move()
    assert guest.run(command) == Outcome(1)
    assert guest.reached == before


def test_a_refused_descriptor_stops_the_run_with_those_before_it_done() -> None:
    guest = Guest.make(Hosted.make(), RID)
    page = guest.move()
    assert guest.run(FIRST_STAGE, BAD, WAIT) == Outcome(1, Trouble.REFUSED, 1, QueueError.TYPE)
    assert guest.reached == page
    assert guest.status == 0


def test_a_wait_with_if_tells_and_one_to_nowhere_is_lost() -> None:
    guest = Guest.make(Hosted.make(), RID)
    nowhere = InvalidationWait(Type=5, SW=1, STDATA=1, STADDR=0x66_0000)
    assert guest.run(nowhere, InvalidationWait(Type=5, IF=1)) == Outcome(2, interrupt=True)


def test_a_device_tlb_is_invalidated_under_its_virtual_id() -> None:
    hosted = Hosted.make()
    guest = Guest.make(hosted, RID, ats=True)
    device = hosted.machine.device(RID)
    device.translate(IOVA)
    guest.move()
    assert guest.run(FIRST_STAGE, DEVICE_TLB.replace(SID=VIRTUAL), WAIT) == Outcome(3)
    assert not len(device.tlb)


@pytest.mark.parametrize("virtual", [VIRTUAL, RID], ids=["silent", "unknown"])
def test_a_device_that_does_not_answer_aborts_the_next_wait(virtual: int) -> None:
    hosted = Hosted.make()
    guest = Guest.make(hosted, RID, ats=True)
    hosted.machine.device(RID).answers = False
    ask = DEVICE_TLB.replace(SID=virtual)
    assert guest.run(FIRST_STAGE, ask, FIRST_STAGE, WAIT, FIRST_STAGE) == Outcome(4, Trouble.TIMED_OUT, 1, virtual)
    assert guest.status == 0
    assert guest.run(ask) == Outcome(1, Trouble.TIMED_OUT, 0, virtual)


def test_a_device_that_answers_wrongly_is_told_so_by_its_index() -> None:
    hosted = Hosted.make()
    guest = Guest.make(hosted, RID, ats=True)
    hosted.machine.device(RID).answers = BadAnswer.WRONG_TAG
    ask = DEVICE_TLB.replace(SID=VIRTUAL)
    assert guest.run(FIRST_STAGE, ask, WAIT, FIRST_STAGE) == Outcome(3, Trouble.COMPLETION, 1, VIRTUAL)
    assert guest.status == 0


def test_what_is_said_again_before_a_wait_is_done_once() -> None:
    guest = Guest.make(Hosted.make(), RID)
    assert guest.run(*[FIRST_STAGE] * 100, WAIT, FIRST_STAGE) == Outcome(102)
    assert guest.hosted.commands["pasid_iotlb"] == 2


def test_a_run_longer_than_what_is_gathered_is_done_whole() -> None:
    guest = Guest.make(Hosted.make(), RID)
    count = MOST_PENDING + 100
    assert guest.run(*(FIRST_STAGE.replace(ADDR=page << 12) for page in range(count)), WAIT) == Outcome(count + 1)
    assert guest.hosted.commands["pasid_iotlb"] == count
    assert guest.status == 0x600D


def test_a_silent_device_is_remembered_until_the_next_wait_however_much_comes_between() -> None:
    guest = Guest.make(Hosted.make(), RID)
    ask = DEVICE_TLB.replace(SID=0x77)
    many = [FIRST_STAGE.replace(ADDR=page << 12) for page in range(MOST_PENDING + 100)]
    assert guest.run(ask, *many, WAIT, WAIT) == Outcome(len(many) + 2, Trouble.TIMED_OUT, 0, 0x77)


# --- the software vQUEUE


@define(eq=False)
class Queue:
    """A guest's queue of two pages, and the page of its registers."""

    guest: Guest
    page: QueuePage
    base: int
    tail: int = 0

    @classmethod
    def make(cls, guest: Guest) -> Queue:
        base = guest.hosted.frames.allocate(2)
        page = QueuePage(guest.unit, lambda status, ics: guest.told.append((status, ics)))
        page.enable(base, base, 0x2000)
        return cls(guest, page, base)

    def put(self, *commands: Descriptor | bytes) -> None:
        for raw in encoded(*commands):
            self.guest.hosted.machine.memory.write(self.base + self.tail, raw)
            self.tail = (self.tail + 32) % 0x2000

    def ring(self, tail: int | None = None) -> None:
        self.page.write(OFFSETS["IQT"], (self.tail if tail is None else tail).to_bytes(8, "little"))

    def register(self, name: str, size: int = 4) -> int:
        return int.from_bytes(self.page.read(OFFSETS[name], size), "little")

    @property
    def head(self) -> int:
        return self.register("IQH", 8)


@pytest.fixture
def queue() -> Queue:
    return Queue.make(Guest.make(Hosted.make(), RID))


def test_a_doorbell_has_the_queue_consumed(queue: Queue) -> None:
    page = queue.guest.move()
    queue.put(FIRST_STAGE, WAIT)
    assert queue.guest.reached != page
    queue.ring()
    assert queue.guest.reached == page
    assert (queue.head, queue.guest.status) == (64, 0x600D)
    assert not queue.guest.told


def test_a_queue_wraps(queue: Queue) -> None:
    for _ in range(3):
        queue.put(*(FIRST_STAGE.replace(ADDR=page << 12) for page in range(200)))
        queue.ring()
        assert queue.head == queue.tail
    assert queue.guest.hosted.commands["pasid_iotlb"] == 600


def test_a_refused_descriptor_stops_the_queue_until_the_guest_clears_it(queue: Queue) -> None:
    queue.put(FIRST_STAGE, BAD, WAIT)
    queue.ring()
    assert queue.head == 32
    assert FSTS.decode(queue.register("FSTS")) == FSTS(IQE=1)
    assert IQERCD.decode(queue.register("IQERCD", 8)).IQEI == QueueError.TYPE
    assert queue.guest.told == [(FSTS(IQE=1), ICS())]
    queue.ring()
    assert queue.head == 32
    queue.guest.hosted.machine.memory.write(queue.base + 32, encoded(FIRST_STAGE)[0])
    queue.page.write(OFFSETS["FSTS"], int(FSTS(IQE=1)).to_bytes(4, "little"))
    assert (queue.head, queue.guest.status) == (96, 0x600D)
    assert queue.register("IQERCD", 8) == 0


def test_a_device_that_does_not_answer_stops_the_queue_behind_the_aborted_wait(queue: Queue) -> None:
    queue.put(DEVICE_TLB.replace(SID=0x77), WAIT, FIRST_STAGE)
    queue.ring()
    assert queue.head == 64
    assert IQERCD.decode(queue.register("IQERCD", 8)).ITESID == 0x77
    assert queue.guest.told == [(FSTS(ITE=1), ICS())]
    queue.page.write(OFFSETS["FSTS"], int(FSTS(ITE=1)).to_bytes(4, "little"))
    assert (queue.head, queue.guest.status) == (96, 0)


def test_a_device_that_answers_wrongly_is_told_in_both_error_fields_until_each_is_cleared() -> None:
    hosted = Hosted.make()
    queue = Queue.make(Guest.make(hosted, RID, ats=True))
    hosted.machine.device(RID).answers = BadAnswer.WRONG_TAG
    queue.put(DEVICE_TLB.replace(SID=VIRTUAL), WAIT, FIRST_STAGE)
    queue.ring()
    assert queue.head == 64
    assert FSTS.decode(queue.register("FSTS")) == FSTS(ITE=1, ICE=1)
    assert IQERCD.decode(queue.register("IQERCD", 8)) == IQERCD(ITESID=VIRTUAL, ICESID=VIRTUAL)
    assert queue.guest.told == [(FSTS(ITE=1, ICE=1), ICS())]
    queue.page.write(OFFSETS["FSTS"], int(FSTS(ITE=1)).to_bytes(4, "little"))
    assert queue.head == 96
    assert IQERCD.decode(queue.register("IQERCD", 8)) == IQERCD(ICESID=VIRTUAL)
    queue.page.write(OFFSETS["FSTS"], int(FSTS(ICE=1)).to_bytes(4, "little"))
    assert (queue.register("FSTS"), queue.register("IQERCD", 8)) == (0, 0)


@pytest.mark.parametrize(
    ("tail", "error"),
    [(0x2000, QueueError.TAIL), (1 << 63, QueueError.TAIL), (0x21, QueueError.TAIL), (0x30, QueueError.TAIL_ALIGNMENT)],
)
def test_a_tail_that_no_queue_has_is_an_error(queue: Queue, tail: int, error: QueueError) -> None:
    queue.ring(tail)
    assert error == IQERCD.decode(queue.register("IQERCD", 8)).IQEI


def test_completion_interrupts_once_until_it_is_cleared(queue: Queue) -> None:
    done = InvalidationWait(Type=5, IF=1)
    for _ in range(2):
        queue.put(done)
        queue.ring()
    assert queue.guest.told == [(FSTS(), ICS(IWC=1))]
    queue.page.write(OFFSETS["ICS"], (1).to_bytes(4, "little"))
    queue.put(done)
    queue.ring()
    assert len(queue.guest.told) == 2


@pytest.mark.parametrize(("address", "length"), [(0, 0x3000), (0, 0x10_0000), (0, 0x800), (0x800, 0x1000)])
def test_a_queue_has_a_size_and_a_place_that_hardware_would_take(queue: Queue, address: int, length: int) -> None:
    queue.page.disable()
    with pytest.raises(Invalid):
        queue.page.enable(queue.base, address, length)


def test_there_is_one_queue_and_a_disabled_one_reads_nothing(queue: Queue) -> None:
    with pytest.raises(Exists):
        queue.page.enable(queue.base, queue.base, 0x1000)
    queue.put(FIRST_STAGE)
    queue.page.disable()
    queue.ring()
    assert (queue.head, queue.guest.hosted.commands.get("pasid_iotlb", 0)) == (0, 0)


def test_bytes_of_the_page_can_be_read_in_any_size_and_odd_stores_are_lost(queue: Queue) -> None:
    queue.put(FIRST_STAGE)
    queue.page.write(OFFSETS["IQT"], bytes([32]))
    assert queue.head == 0
    queue.ring()
    assert queue.page.read(OFFSETS["IQH"] + 1, 3) == bytes(3)
    assert queue.page.read(OFFSETS["IQH"], 1) == bytes([32])
    assert queue.page.read(0, 0x1000)[OFFSETS["IQH"]] == 32
