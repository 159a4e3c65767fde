"""A guest on VT-d: its tables on the host's, page requests, invalidations; beyond mainline, a queue of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from viommu import Fault, Iotlb, Machine
from viommu.iommufd.experimental import ExperimentalType, HwptVtdGuest, VeventVtd, ViommuVtd, VtdDescriptor
from viommu.iommufd.uapi import HwInfoVtd, HwptVtdS1, HwptVtdS1Invalidate
from viommu.policies import Policy
from viommu_vtd.spec.commands import InvalidationType, InvalidationWait, PasidIotlbGranularity, PasidIotlbInvalidate
from viommu_vtd.spec.faults import FRCD
from viommu_vtd.spec.offsets import OFFSETS
from viommu_vtd.spec.registers import CAP, ECAP

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from viommu.api import Device, Hwpt, Iommufd
    from viommu.layout import Descriptor
    from viommu.objects.mmap import RegisterMapping

PAGE = 0x1000
BASE = 0x10_0000
"""Where the guest has memory, as it sees it."""
IOVA, LATER = 0x40_0000, 0x40_1000
GUEST_DOMAIN, GUEST_DEVICE = 7, 0x10
TABLE, LEAF = 0x27, 0x67
"""Present, writable, for all, accessed; a leaf dirty too."""


@define
class Guest:
    """Memory of a guest, in which it keeps first-stage tables."""

    memory: NDArray[np.uint8]
    next: int = BASE

    def page(self, text: bytes = b"") -> int:
        """Take a page, which begins with a text; where it is, as the guest sees it."""
        at = self.next - BASE
        self.memory[at : at + len(text)] = list(text)
        self.next += PAGE
        return at + BASE

    def write(self, address: int, data: bytes) -> None:
        """Store bytes."""
        self.memory[address - BASE : address - BASE + len(data)] = list(data)

    def read(self, address: int, size: int) -> int:
        """Load a number."""
        return int.from_bytes(self.memory[address - BASE : address - BASE + size].tobytes(), "little")

    def map(self, root: int, iova: int, page: int) -> None:
        """Map one page, with tables on the way."""
        table = root
        for level in (3, 2, 1):
            at = table + (iova >> 12 + 9 * level & 0x1FF) * 8
            if not self.read(at, 8):
                self.write(at, (self.page() | TABLE).to_bytes(8, "little"))
            table = self.read(at, 8) & -PAGE
        self.write(table + (iova >> 12 & 0x1FF) * 8, (page | LEAF).to_bytes(8, "little"))


def show_hardware(device: Device) -> None:
    """What the guest's VMM learns of the hardware."""
    info = device.hw_info().registers(HwInfoVtd)
    cap, ecap = CAP.decode(info.cap_reg), ECAP.decode(info.ecap_reg)
    print(f"hardware: NEST={ecap.NEST} PRS={ecap.PRS} PASID={ecap.PASID} FL5LP={cap.FL5LP} CM={cap.CM}")


def as_mainline_does(machine: Machine, iommu: Iommufd, device: Device, parent: Hwpt, guest: Guest) -> None:
    """Nest on the parent, invalidate by address, answer a page request."""
    root = guest.page()
    guest.map(root, IOVA, guest.page(b"first"))
    faults = iommu.fault_alloc()
    hwpt = parent.hwpt_alloc(device, HwptVtdS1.of(pgtbl_addr=root, addr_width=48), fault=faults)
    device.attach(hwpt)
    print("nested:", device.dma_read(IOVA, 5))

    guest.map(root, IOVA, guest.page(b"other"))
    print("before invalidating:", device.dma_read(IOVA, 5))
    hwpt.invalidate([HwptVtdS1Invalidate.of(addr=IOVA, npages=1)])
    print("after:", device.dma_read(IOVA, 5))

    device.request_page(LATER, group=1)
    (request,) = faults.read()
    guest.map(root, LATER, guest.page(b"later"))
    faults.respond(request)
    print("page request:", hex(request.addr), device.dma_read(LATER, 5))
    device.detach()
    print("detached:", reason(machine, device))


def beyond_mainline(device: Device, parent: Hwpt, guest: Guest) -> None:
    """Give the guest a vIOMMU: its own descriptors in a batch, then in a queue of its own; its faults as events."""
    kind = ExperimentalType.VTD
    root, status, ring = guest.page(), guest.page(), guest.page()
    guest.map(root, IOVA, guest.page(b"first"))
    viommu = parent.viommu_alloc(device, kind, ViommuVtd.of())
    viommu.vdevice_alloc(device, GUEST_DEVICE)
    told = viommu.veventq_alloc(kind)
    device.attach(viommu.hwpt_alloc(device, HwptVtdGuest.of(pgtbl_addr=root, addr_width=48, domain_id=GUEST_DOMAIN)))
    print("on a vIOMMU:", device.dma_read(IOVA, 5))

    drop = PasidIotlbInvalidate(Type=InvalidationType.PASID_IOTLB, G=PasidIotlbGranularity.PASID, DID=GUEST_DOMAIN)
    wait = InvalidationWait(Type=InvalidationType.WAIT, SW=1, STDATA=1, STADDR=status)
    guest.map(root, IOVA, guest.page(b"other"))
    done = viommu.invalidate([VtdDescriptor.of(descriptor=wide(one)) for one in (drop, wait)])
    print("batch:", done, "descriptors,", device.dma_read(IOVA, 5), "status", guest.read(status, 4))

    viommu.hw_queue_alloc(kind, 0, ring, PAGE)
    where = ViommuVtd.decode(viommu.data)
    registers = viommu.mmap(where.out_queue_mmap_offset, where.out_queue_mmap_length)
    guest.map(root, IOVA, guest.page(b"third"))
    guest.write(ring, wide(drop) + wide(wait.replace(STDATA=2)))
    ring_doorbell(registers, 2)
    print("queue:", device.dma_read(IOVA, 5), "status", guest.read(status, 4))

    device.dma_read(LATER, 1)
    record = FRCD.decode(VeventVtd.decode(told.read()[0].data).record)
    print("event:", repr(record))


def ring_doorbell(registers: RegisterMapping, descriptors: int) -> None:
    """Tell the queue its new tail."""
    registers.write(OFFSETS["IQT"], (descriptors * 32).to_bytes(8, "little"))


def wide(descriptor: Descriptor) -> bytes:
    """A descriptor as scalable mode has it, of 32 bytes."""
    return descriptor.encode().ljust(32, b"\0")


def reason(machine: Machine, device: Device) -> str:
    """Why an access is refused."""
    outcome = device.translate(IOVA)
    return machine.report(outcome).reason if isinstance(outcome, Fault) else "not refused"


def main() -> None:
    """Tell the story."""
    policy = Policy(invalidate_by_viommu=True, software_queues=True)
    with Machine("vtd", memory="64M", iotlb=Iotlb(), policy=policy) as machine:
        iommu = machine.open_iommufd()
        device = iommu.bind(machine.add_device(0x0108, ats=True, page_requests=True, pasid_bits=20))
        show_hardware(device)
        guest = Guest(machine.buffer("1M"))
        ioas = iommu.ioas_alloc()
        ioas.map(guest.memory, BASE)
        parent = ioas.hwpt_alloc(device, nest_parent=True)
        as_mainline_does(machine, iommu, device, parent, guest)
        beyond_mainline(device, parent, guest)


if __name__ == "__main__":
    main()
