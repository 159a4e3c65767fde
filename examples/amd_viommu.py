"""A guest on AMD hardware that runs its IOMMU: it owns command buffer, event log and PPR log, with nobody between.

First what Linux 7.2 makes of an AMD vIOMMU: it can be allocated, and nothing can be done with it. Then the hardware
of the published series (policy ``iova_queues``): the VMM sets up, and from then on the guest's loads and stores alone
invalidate, log and answer page requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu import Access, Iotlb, Machine
from viommu.iommufd.experimental import ViommuAmd
from viommu.iommufd.uapi import HwInfoAmd, HwptAmdGuest
from viommu.kernel_errors import KernelError
from viommu.policies import Policy
from viommu_amd_viommu.spec.commands import CompletePprRequest, CompletionWait, InvalidateIommuPages, Opcode
from viommu_amd_viommu.spec.device_table import DTE
from viommu_amd_viommu.spec.events import IoPageFault, decode_event
from viommu_amd_viommu.spec.page_requests import PPRLogEntry
from viommu_amd_viommu.spec.registers import EFR, Control

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from viommu.api import Viommu
    from viommu.devices import Device
    from viommu.objects.mmap import RegisterMapping
    from viommu_amd_viommu.spec.commands import AnyCommand

PAGE, RING = 0x1000, 0x2000
BASE = 0x10_0000
"""Where the guest has memory, as it sees it."""
IOVA, LATER, PASID, DOMAIN, VIRTUAL_ID = 0x40_0000, 0x40_1000, 5, 7, 0x0010
TABLE, LEAF = 0x27, 0x67
"""Present, writable, for all, accessed; a leaf dirty too."""
HARDWARE_VIOMMU, COMMANDS, EVENTS, REQUESTS = 3, 2, 3, 4
"""Types of the published series: its vIOMMU, and the queues of it."""
EVERYTHING = 0x7FFF_FFFF_FFFF_F000
RUNNING = Control(CmdBufEn=1, EventLogEn=1, PPRLogEn=1, PPREn=1)


@define
class Guest:
    """Memory of a guest, in which it keeps GCR3 tables, guest tables and its queues; ``page`` is its VF page."""

    memory: NDArray[np.uint8]
    next: int = BASE
    page: RegisterMapping = field(init=False)
    queues: dict[int, int] = field(factory=dict)

    def take(self, text: bytes = b"", size: int = PAGE) -> int:
        """Take pages, which begin with a text; where they are, as the guest sees them."""
        at, self.next = self.next, self.next + size
        self.write(at, text)
        return at

    def write(self, address: int, data: bytes) -> None:
        """Store bytes."""
        self.memory[address - BASE : address - BASE + len(data)] = list(data)

    def read(self, address: int, size: int) -> bytes:
        """Load bytes."""
        return self.memory[address - BASE : address - BASE + size].tobytes()

    def word(self, address: int) -> int:
        """Load a quadword."""
        return int.from_bytes(self.read(address, 8), "little")

    def map(self, root: int, iova: int, page: int) -> None:
        """Map one page, with tables on the way."""
        table = root
        for level in (3, 2, 1):
            at = table + (iova >> 12 + 9 * level & 0x1FF) * 8
            if not self.word(at):
                self.write(at, (self.take() | TABLE).to_bytes(8, "little"))
            table = self.word(at) & -PAGE
        self.write(table + (iova >> 12 & 0x1FF) * 8, (page | LEAF).to_bytes(8, "little"))

    # --- its IOMMU: registers at 0x2000 of the MMIO that it sees

    def load(self, offset: int) -> int:
        """Load a register of the VF page."""
        return int.from_bytes(self.page.read(offset, 8), "little")

    def store(self, offset: int, value: int) -> None:
        """Store a register of the VF page."""
        self.page.write(offset, value.to_bytes(8, "little"))

    def submit(self, *commands: AnyCommand) -> None:
        """Append commands, and ring the doorbell."""
        tail = self.load(0x08)
        for command in commands:
            self.write(self.queues[COMMANDS] + tail, command.encode())
            tail = (tail + command.size) % RING
        self.store(0x08, tail)

    def taken(self, kind: int, head: int) -> list[bytes]:
        """Take what a log holds; its head lies at ``head``, its tail behind that."""
        first, last = self.load(head), self.load(head + 8)
        self.store(head, last)
        return [self.read(self.queues[kind] + at, 16) for at in range(first, last, 16)]


def as_linux_7_2() -> None:
    """Any type of vIOMMU is taken, and nothing stands on it."""
    with Machine("amd_viommu", memory="64M") as machine, machine.open_iommufd() as iommu:
        device = iommu.bind(machine.add_device(0x0108))
        info = EFR.decode(device.hw_info().registers(HwInfoAmd).efr)
        print(f"hardware: GT={info.GT} GATS={info.GATS} GLX={info.GLX} GIO={info.GIO} vIOMMU={info.vIOMMU}")
        viommu = iommu.ioas_alloc().hwpt_alloc(device, nest_parent=True).viommu_alloc(device, 1)
        try:
            viommu.hwpt_alloc(device, HwptAmdGuest.of(dte=DTE(V=1).encode()))
        except KernelError as error:
            print(f"Linux 7.2: {error}")


def set_up(viommu: Viommu, guest: Guest) -> None:
    """What the VMM does once: the guest's page, its queues, and the bits that it sets in Control."""
    offsets = ViommuAmd.decode(viommu.data)
    guest.page = viommu.mmap(offsets.out_vfmmio_mmap_offset, PAGE)
    for kind in (COMMANDS, EVENTS, REQUESTS):
        guest.queues[kind] = guest.take(size=RING)
        viommu.hw_queue_alloc(kind, 0, guest.queues[kind], RING, by_iova=True)
    with_control = viommu.mmap(offsets.out_control_mmap_offset, PAGE)
    with_control.write(0x18, RUNNING.encode())


def answer(guest: Guest, root: int, device: Device) -> None:
    """Take a page request out of the PPR log, map the page, and say so."""
    request = PPRLogEntry.decode(*guest.taken(REQUESTS, 0x30))
    guest.map(root, request.Address, guest.take(b"later"))
    tag = request.Tag & 0x1FF
    guest.submit(
        CompletePprRequest(
            Opcode=Opcode.COMPLETE_PPR_REQUEST, DeviceID=request.DeviceID, PASID=request.PASID, GN=1, Tag=tag
        )
    )
    print(f"page request {request.Address:#x}: {[response.code.value for response in device.responses]}")


def as_hardware_does() -> None:
    """The guest's doorbells, events and page requests, with no call of anybody's in between."""
    policy = Policy(iova_queues=True)
    with Machine("amd_viommu", memory="64M", iotlb=Iotlb(), policy=policy) as machine, machine.open_iommufd() as iommu:
        endpoint = machine.add_device(0x0108, ats=True, page_requests=True, pasid_bits=8)
        device = iommu.bind(endpoint)
        guest, ioas = Guest(machine.buffer("1M")), iommu.ioas_alloc()
        ioas.map(guest.memory, BASE)
        parent = ioas.hwpt_alloc(device, nest_parent=True)
        viommu = parent.viommu_alloc(device, HARDWARE_VIOMMU, ViommuAmd.of())
        viommu.vdevice_alloc(device, VIRTUAL_ID)
        set_up(viommu, guest)

        gcr3, root = guest.take(), guest.take()
        guest.write(gcr3 + 8 * PASID, (root | 1).to_bytes(8, "little"))
        guest.map(root, IOVA, guest.take(b"first"))
        entry = DTE(V=1, TV=1, GV=1, PPR=1, GCR3=gcr3, DomainID=DOMAIN)
        device.attach(viommu.hwpt_alloc(device, HwptAmdGuest.of(dte=entry.encode())))
        print(f"nested: {endpoint.dma_read(IOVA, 5, PASID)!r}")

        calls = machine.activity.host_calls
        guest.map(root, IOVA, guest.take(b"other"))
        done = guest.take()
        invalidate = InvalidateIommuPages(
            Opcode=Opcode.INVALIDATE_IOMMU_PAGES, DomainID=DOMAIN, PASID=PASID, GN=1, S=1, Address=EVERYTHING
        )
        guest.submit(invalidate, CompletionWait(Opcode=Opcode.COMPLETION_WAIT, s=1, Address=done, Data=1))
        print(f"doorbell: waited for {guest.word(done)}, {endpoint.dma_read(IOVA, 5, PASID)!r}")

        endpoint.translate(LATER, Access.WRITE, PASID)
        (event,) = (decode_event(raw) for raw in guest.taken(EVENTS, 0x10))
        if isinstance(event, IoPageFault):
            print(f"event: device {event.DeviceID:#x}, PASID {event.DomainIDOrPASID}, address {event.Address:#x}")
        if endpoint.ats is not None:
            endpoint.ats.request_page(LATER, Access.WRITE, PASID, group=9)
            answer(guest, root, endpoint.ats)
            print(f"now: {endpoint.dma_read(LATER, 5, PASID)!r}")
        print(f"calls of the host meanwhile: {machine.activity.host_calls - calls}")
        print(f"\n{machine.summary()}")


as_linux_7_2()
as_hardware_does()
