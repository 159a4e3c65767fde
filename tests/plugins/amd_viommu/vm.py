"""A virtual machine whose IOMMU hardware runs: the VMM sets it up by ioctls, the guest rings doorbells by itself."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from attrs import define, field

from tests.plugins.amd_viommu.guest import Guest
from tests.plugins.amd_viommu.program import PAGE, RID, Program
from viommu.iommufd import experimental, uapi
from viommu.objects.mmap import RegisterMapping
from viommu_amd_viommu.host.extensions import QueueType
from viommu_amd_viommu.spec.commands import InvalidateIommuPages, Opcode
from viommu_amd_viommu.spec.events import AnyEvent, decode_event
from viommu_amd_viommu.spec.page_requests import PPRLogEntry
from viommu_amd_viommu.spec.registers import Control, Status

if TYPE_CHECKING:
    from viommu.endpoint import Endpoint
    from viommu.objects.device import Device
    from viommu_amd_viommu.spec.commands import AnyCommand

VID, IOVA = 0x0A10, 0x7000_0000
QUEUE_BYTES = 8192
EVERYTHING = 0x7FFF_FFFF_FFFF_F000
RUNNING = Control(CmdBufEn=1, ComWaitIntEn=1, EventLogEn=1, EventIntEn=1, PPRLogEn=1, PPRIntEn=1, PPREn=1)
HEAD = {QueueType.COMMANDS: 0x00, QueueType.EVENTS: 0x10, QueueType.PAGE_REQUESTS: 0x30}
STATUS = 0x20


@define(eq=False)
class Vm:
    """One guest: 1 MiB of memory at `BASE`, a device that it knows as `VID`, its queues, its VF page."""

    program: Program
    requester: int = RID
    queues: tuple[QueueType, ...] = tuple(QueueType)
    control: Control = RUNNING
    endpoint: Endpoint = field(init=False)
    device: Device = field(init=False)
    guest: Guest = field(init=False)
    viommu: int = field(init=False)
    page: RegisterMapping = field(init=False)
    switches: RegisterMapping = field(init=False)
    bases: dict[QueueType, int] = field(factory=dict)
    queue_ids: dict[QueueType, int] = field(factory=dict)
    hwpt: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        program = self.program
        self.endpoint = program.machine.add_device(self.requester, ats=True, page_requests=True, pasid_bits=8)
        self.device = program.bind(self.endpoint)
        self.guest = Guest.make(program, self.device)
        self.viommu, self.page, self.switches = make_viommu(program, self.device, self.guest.parent)
        program.vdevice(self.device, self.viommu, VID)
        for kind in self.queues:
            self.add_queue(kind)
        self.switch(self.control)
        self.guest.map(IOVA, b"old")
        self.guest.map(IOVA, b"old", pasid=5)
        self.hwpt = program.nested(self.device, self.viommu, self.guest.dte(PPR=1))
        self.device.attach(self.hwpt)

    def add_queue(self, kind: QueueType) -> None:
        base = self.bases.get(kind) or self.guest.pages(QUEUE_BYTES // PAGE)
        self.bases[kind] = base
        self.queue_ids[kind] = self.program.must(queue_command(self.viommu, kind, base)).out_hw_queue_id

    def switch(self, control: Control) -> None:
        self.switches.write(0x18, control.encode())

    # --- the guest's side: loads and stores alone

    def load(self, offset: int) -> int:
        return int.from_bytes(self.page.read(offset, 8), "little")

    def store(self, offset: int, value: int) -> None:
        self.page.write(offset, value.to_bytes(8, "little"))

    @property
    def status(self) -> Status:
        return Status.decode(self.load(STATUS))

    def give(self, *commands: AnyCommand | bytes) -> bool:
        """Append commands and ring the doorbell; whether the buffer is empty again."""
        head = HEAD[QueueType.COMMANDS]
        tail = self.load(head + 8)
        for command in commands:
            raw = command if isinstance(command, bytes) else command.encode()
            self.guest.write(self.bases[QueueType.COMMANDS] + tail, raw)
            tail = (tail + 16) % QUEUE_BYTES
        self.store(head + 8, tail)
        return self.load(head) == self.load(head + 8)

    def take(self, kind: QueueType) -> list[bytes]:
        """Take what a log holds."""
        head, tail = self.load(HEAD[kind]), self.load(HEAD[kind] + 8)
        found = []
        while head != tail:
            found.append(self.guest.read(self.bases[kind] + head, 16))
            head = (head + 16) % QUEUE_BYTES
        self.store(HEAD[kind], head)
        return found

    @property
    def events(self) -> list[AnyEvent]:
        return [decode_event(raw) for raw in self.take(QueueType.EVENTS)]

    @property
    def requests(self) -> list[PPRLogEntry]:
        return [PPRLogEntry.decode(raw) for raw in self.take(QueueType.PAGE_REQUESTS)]

    def look(self, pasid: int | None = None) -> object:
        return self.program.text_at(IOVA, 3, pasid, self.requester)


def make_viommu(program: Program, device: Device, parent: int) -> tuple[int, RegisterMapping, RegisterMapping]:
    """A vIOMMU of the hardware's type, and mappings of its two pages."""
    data = program.buffer()
    made = program.must(
        uapi.ViommuAlloc.of(type=3, dev_id=device.id, hwpt_id=parent, data_len=16, data_uptr=data.address)
    )
    mappings = [program.file.mmap(PAGE, 3, 1, offset) for offset in struct.unpack_from("<QQ", data.pages)]
    page, switches = mappings
    assert isinstance(page, RegisterMapping)
    assert isinstance(switches, RegisterMapping)
    return made.out_viommu_id, page, switches


def queue_command(viommu: int, kind: int, base: int, length: int = QUEUE_BYTES) -> uapi.HwQueueAlloc:
    return uapi.HwQueueAlloc.of(
        flags=experimental.HwQueueFlags.IOVA, viommu_id=viommu, type=kind, nesting_parent_iova=base, length=length
    )


def pages(domain: int = 1, pasid: int = 0, **fields: int) -> InvalidateIommuPages:
    usual = {"GN": 1, "PDE": 1, "S": 1, "Address": EVERYTHING}
    return InvalidateIommuPages(Opcode=Opcode.INVALIDATE_IOMMU_PAGES, DomainID=domain, PASID=pasid, **usual | fields)


__all__ = ["EVERYTHING", "IOVA", "QUEUE_BYTES", "RUNNING", "VID", "Vm", "make_viommu", "pages", "queue_command"]
