"""A whole guest: a kernel's driver on an IOMMU of which hardware runs one page, and its VMM the rest.

The guest is the host driver itself, in memory that the host has mapped. Its page of queue pointers is the hardware's;
its VMM keeps the other registers, makes queues of base registers, passes Control on, and follows the guest's device
table entry as it is stored. No command, event or completion passes through the VMM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from attrs import define, field

from tests.plugins.amd_viommu.program import AHEAD, FIXED_RW, HARDWARE, PAGE, RID, Program
from tests.plugins.amd_viommu.vm import make_viommu, queue_command
from viommu.faults import Access
from viommu.iommufd import uapi
from viommu.memory import PhysicalMemory
from viommu.objects.physical import PhysicalDevice, PhysicalIommu
from viommu.ops import DeviceFeatures, DomainFlags, Prot
from viommu.table_frames import TableFrames
from viommu_amd_viommu.hardware.features import MODELLED, MODELLED2
from viommu_amd_viommu.host import attach, interrupts, paging, probing
from viommu_amd_viommu.host.extensions import QueueType
from viommu_amd_viommu.host.unit import Unit
from viommu_amd_viommu.spec.device_table import DTE
from viommu_amd_viommu.spec.events import IoPageFault
from viommu_amd_viommu.spec.places import PLACES
from viommu_amd_viommu.spec.registers import BufferBase, DeviceTableBase, HostLevels

if TYPE_CHECKING:
    from viommu.objects.device import Device
    from viommu.objects.mmap import RegisterMapping
    from viommu_amd_viommu.host.device import HostDevice
    from viommu_amd_viommu.host.paging import PagingDomain

RAM, RAM_SIZE = 0x1_0000_0000, 16 << 20
VIRTUAL, IOVA, PASID = 0x0010, 0x40_0000, 9
GUESTS_EFR = MODELLED.replace(HATS=HostLevels.NONE, HD=0, vIOMMU=0)
"""A guest is shown no host tables: those below its own are the host's."""
PAGES_OF_HARDWARE = range(0x2000, 0x3000)
QUEUES = {"CMDBASE": QueueType.COMMANDS, "EVTBASE": QueueType.EVENTS, "PPRBASE": QueueType.PAGE_REQUESTS}
NAMES = {place.offset: name for name, place in PLACES.items()}
RW = Prot.READ | Prot.WRITE


class GuestFrames(TableFrames):
    """Frames of the guest's RAM, carved off one after the other."""

    next = RAM

    def ensure(self, lg2: int, count: int) -> None:
        while self.pool.available(lg2) < count:
            at = -(-self.next >> lg2) << lg2
            self.next = at + (1 << lg2)
            assert self.next <= RAM + RAM_SIZE
            self.pool.add(at, 1 << lg2, lg2)


@define(eq=False)
class Vmm:
    """What the guest sees as the registers of its IOMMU."""

    program: Program
    device: Device
    memory: PhysicalMemory
    viommu: int
    page: RegisterMapping
    switches: RegisterMapping
    registers: dict[str, int]
    queues: dict[str, int] = field(factory=dict)
    nested: int = 0
    followed: int = 0

    @classmethod
    def make(cls) -> Vmm:
        program = Program.make(HARDWARE)
        device = program.bind(program.machine.add_device(RID, ats=True, page_requests=True, pasid_bits=8))
        ram, memory, ioas = program.buffer(RAM_SIZE), PhysicalMemory(), program.ioas()
        memory.place(RAM, ram.pages)
        program.must(uapi.IoasMap.of(flags=FIXED_RW, ioas_id=ioas, user_va=ram.address, length=RAM_SIZE, iova=RAM))
        viommu, page, switches = make_viommu(program, device, program.hwpt(device, ioas, uapi.HwptFlags.NEST_PARENT))
        program.vdevice(device, viommu, VIRTUAL)
        registers = {"EFR": int(GUESTS_EFR), "EFR2": int(MODELLED2)}
        return cls(program, device, memory, viommu, page, switches, registers)

    def read(self, offset: int, size: int) -> int:
        if offset in PAGES_OF_HARDWARE:
            return int.from_bytes(self.page.read(offset - PAGES_OF_HARDWARE.start, size), "little")
        return self.registers.get(NAMES[offset], 0)

    def write(self, offset: int, size: int, value: int) -> None:
        raw = value.to_bytes(size, "little")
        if offset in PAGES_OF_HARDWARE:
            self.page.write(offset - PAGES_OF_HARDWARE.start, raw)
            return
        name = NAMES[offset]
        self.registers[name] = value
        if name == "CONTROL":
            self.switches.write(offset, raw)
        elif name in QUEUES:
            self.move_queue(name, BufferBase.decode(value))
        elif name == "DEVTAB":
            self.memory.watcher = self.stored

    def move_queue(self, name: str, where: BufferBase) -> None:
        if name in self.queues:
            self.program.must(uapi.Destroy.of(id=self.queues.pop(name)))
        cmd = queue_command(self.viommu, QUEUES[name], where.Base, 16 << where.Length)
        self.queues[name] = self.program.must(cmd).out_hw_queue_id

    def stored(self, pa: int, _old: int, _new: int) -> None:
        """The guest changed memory, which its VMM has write-protected where its device's entry is."""
        at = DeviceTableBase.decode(self.registers["DEVTAB"]).Base + VIRTUAL * DTE.size
        if at <= pa < at + DTE.size:
            self.follow(DTE.decode(self.memory.read(at, DTE.size) or b""))

    def follow(self, entry: DTE) -> None:
        """Let the host's device have what is there now."""
        old, self.nested = self.nested, 0
        self.followed += 1
        if entry.V and entry.TV and entry.GV and entry.GCR3:
            self.nested = self.program.nested(self.device, self.viommu, entry)
            self.device.replace(self.nested) if old else self.device.attach(self.nested)
        elif old:
            self.device.detach()
        if old:
            self.program.must(uapi.Destroy.of(id=old))


@define(eq=False)
class Kernel:
    """The guest: a driver with its IOMMU and one device."""

    vmm: Vmm
    frames: GuestFrames
    unit: Unit
    device: HostDevice

    @classmethod
    def boot(cls) -> Kernel:
        vmm = Vmm.make()
        frames = GuestFrames(vmm.memory)
        unit = Unit.bring_up("guest's IOMMU", vmm.memory, frames, vmm, AHEAD)
        vmm.program.machine._board.on_interrupt = lambda interrupt: (
            interrupts.hear(unit) if interrupt.guest is not None else None
        )
        physical = PhysicalDevice("guest's device", PhysicalIommu("guest", vmm.program.machine.driver), VIRTUAL)
        physical.features = DeviceFeatures(ats=True, page_requests=True, pasid_bits=8)
        return cls(vmm, frames, unit, probing.add(unit, physical))

    def domain(self, flags: DomainFlags = paging.NO_FLAGS) -> PagingDomain:
        return paging.make(self.unit, flags, None)

    def page(self, text: bytes) -> int:
        page = self.frames.allocate()
        assert self.vmm.memory.write(page, text)
        return page

    def dma(self, length: int = 5, pasid: int | None = None) -> object:
        return self.vmm.program.text_at(IOVA, length, pasid)

    def clean(self) -> None:
        """The guest's driver told hardware all it had to, and the host heard of nothing."""
        self.vmm.program.clean()
        assert not self.vmm.program.unit.events


@pytest.fixture
def kernel() -> Kernel:
    return Kernel.boot()


def test_a_guest_boots_and_its_device_reaches_nothing(kernel: Kernel) -> None:
    assert kernel.vmm.program.reaches(IOVA) == "IO_PAGE_FAULT"
    assert not kernel.unit.able.host_tables
    assert kernel.unit.registers.status.CmdBufRun


def test_what_the_guests_kernel_maps_and_unmaps_its_device_reaches_and_does_not(kernel: Kernel) -> None:
    domain = kernel.domain()
    domain.map(IOVA, kernel.page(b"first"), PAGE, RW, None)
    attach.attach(kernel.device, 0, domain)
    assert kernel.dma() == b"first"
    domain.unmap(IOVA, PAGE)
    assert kernel.vmm.program.reaches(IOVA) == "IO_PAGE_FAULT"
    domain.map(IOVA, kernel.page(b"other"), PAGE, RW, None)
    assert kernel.dma() == b"other"
    attach.block(kernel.device, 0)
    assert kernel.vmm.program.reaches(IOVA, requester=RID) == "IO_PAGE_FAULT"
    kernel.vmm.program.clean()


def test_the_guests_kernel_reads_its_devices_faults_in_its_own_log(kernel: Kernel) -> None:
    attach.attach(kernel.device, 0, kernel.domain())
    assert kernel.vmm.program.reaches(IOVA, Access.WRITE) == "IO_PAGE_FAULT"

    (event,) = kernel.unit.events
    assert isinstance(event, IoPageFault)
    assert (event.DeviceID, event.RW, event.Address) == (VIRTUAL, 1, IOVA)
    kernel.clean()


def test_pasids_of_the_guests_kernel_have_memories_of_their_own(kernel: Kernel) -> None:
    for pasid, text in ((0, b"zero."), (PASID, b"nine.")):
        domain = kernel.domain(DomainFlags.PASID)
        domain.map(IOVA, kernel.page(text), PAGE, RW, None)
        attach.attach(kernel.device, pasid, domain)
    assert (kernel.dma(), kernel.dma(pasid=PASID)) == (b"zero.", b"nine.")
    attach.block(kernel.device, PASID)

    assert kernel.vmm.program.reaches(IOVA, pasid=PASID) == "IO_PAGE_FAULT"
    assert kernel.dma() == b"zero."
    kernel.clean()


def test_a_device_tlb_is_told_by_the_guests_kernel(kernel: Kernel) -> None:
    (endpoint,) = kernel.vmm.program.machine.endpoints
    assert endpoint.ats is not None
    domain = kernel.domain()
    domain.map(IOVA, kernel.page(b"first"), PAGE, RW, None)
    attach.attach(kernel.device, 0, domain)
    endpoint.ats.translate(IOVA)
    assert len(endpoint.ats.tlb) == 1
    domain.unmap(IOVA, PAGE)

    assert not len(endpoint.ats.tlb)
    kernel.clean()


def test_thousands_of_commands_pass_with_no_call_of_the_vmms(kernel: Kernel) -> None:
    domain = kernel.domain()
    attach.attach(kernel.device, 0, domain)
    before = kernel.vmm.followed
    for number in range(400):
        domain.map(IOVA, kernel.page(b"%5d" % number), PAGE, RW, None)
        assert kernel.dma() == b"%5d" % number
        domain.unmap(IOVA, PAGE)

    assert kernel.vmm.followed == before
    assert kernel.vmm.program.machine.command_counts["COMPLETION_WAIT"] > 400
    kernel.clean()
