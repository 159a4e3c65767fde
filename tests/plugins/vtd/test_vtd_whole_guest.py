"""A whole guest: a kernel's driver on an emulated unit in caching mode, whose VMM passes on what it is told.

The guest is the host driver itself, on a hardware model of its own, in memory that the host has mapped. Its VMM
reads the guest's PASID entries when the guest invalidates them, as it must in caching mode, and nests what it finds;
the other descriptors it hands to the vIOMMU as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from attrs import define, field

from plugins.vtd.tests.hosted import RAM, RAM_SIZE, Bump
from tests.plugins.vtd.host import Host
from tests.plugins.vtd.program import FIXED_RW, PAGE, RID, Program
from viommu import Machine
from viommu.iommufd import uapi
from viommu.memory import PhysicalMemory
from viommu.objects.physical import PhysicalDevice, PhysicalIommu
from viommu.ops import DeviceFeatures, DomainFlags, Prot
from viommu.policies import Policy
from viommu_vtd.hardware.live.register_map import FULL_CAP, FULL_ECAP
from viommu_vtd.host.attach import attach, block
from viommu_vtd.host.device import HostDevice
from viommu_vtd.host.extensions import TYPE, Extensions, HwptVtdGuest, VtdDescriptor
from viommu_vtd.host.making import make as make_domain
from viommu_vtd.host.unit import Unit
from viommu_vtd.spec.commands import InvalidationType
from viommu_vtd.spec.offsets import OFFSETS
from viommu_vtd.spec.pasid import PasidTableEntry

if TYPE_CHECKING:
    from viommu.objects.device import Device
    from viommu_vtd.host.paging import PagingDomain

IOVA = 0x40_0000
VIRTUAL = 0x0010
PASID = 9
RW = Prot.READ | Prot.WRITE
ENTRY = 32


@define(eq=False)
class Vmm:
    """Emulates the unit that the guest sees, and passes on what the guest's driver writes into its queue."""

    program: Program
    device: Device
    viommu: int
    emulated: Machine
    memory: PhysicalMemory
    tables: dict[int, int] = field(factory=dict)
    """The HWPT that stands for a PASID of the guest's."""

    @classmethod
    def make(cls) -> Vmm:
        program = Program.on(Host.make(policy=Policy(invalidate_by_viommu=True)))
        device = program.bind(program.host.device(RID, ats=True, pasids=1 << 20))
        ram, memory = program.buffer(RAM_SIZE), PhysicalMemory()
        memory.place(RAM, ram.pages)
        ioas = program.ioas()
        program.must(uapi.IoasMap.of(flags=FIXED_RW, ioas_id=ioas, user_va=ram.address, length=RAM_SIZE, iova=RAM))
        parent = program.hwpt(device, ioas, uapi.HwptFlags.NEST_PARENT | uapi.HwptFlags.PASID)
        viommu = program.must(uapi.ViommuAlloc.of(type=TYPE, dev_id=device.id, hwpt_id=parent)).out_viommu_id
        program.must(uapi.VdeviceAlloc.of(viommu_id=viommu, dev_id=device.id, virt_id=VIRTUAL))
        emulated = Machine("vtd", memory, {"CAP": int(FULL_CAP.replace(CM=1)), "ECAP": int(FULL_ECAP)})
        return cls(program, device, viommu, emulated, memory)

    def read(self, offset: int, size: int) -> int:
        return self.emulated.read_register(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """The guest stores to a register: a new tail is looked at, once the emulated unit has taken it."""
        before = self.read(OFFSETS["IQT"], 8)
        self.emulated.write_register(offset, value, size)
        if offset == OFFSETS["IQT"]:
            self.pass_on(before, value)

    def pass_on(self, tail: int, new: int) -> None:
        base = self.read(OFFSETS["IQA"], 8)
        size = PAGE << (base & 7)
        while tail != new:
            raw = self.memory.read((base & -PAGE) + tail, ENTRY)
            assert raw is not None
            self.one(raw)
            tail = (tail + ENTRY) % size

    def one(self, raw: bytes) -> None:
        kind = raw[0] & 0xF
        if kind == InvalidationType.PASID_CACHE:
            self.follow(int.from_bytes(raw[4:8], "little") & 0xFFFFF)
        if kind not in {InvalidationType.WAIT, InvalidationType.CONTEXT_CACHE}:
            cmd = self.program.invalidate_command(
                self.viommu, VtdDescriptor.of(descriptor=raw).encode(), data_type=TYPE, length=VtdDescriptor.total
            )
            self.program.must(cmd)

    def follow(self, pasid: int) -> None:
        """The guest changed the entry of a PASID: let the host's device have what is there now."""
        entry = self.entry(pasid)
        old = self.tables.pop(pasid, None)
        if old is not None:
            self.device.detach(pasid)
            self.program.must(uapi.Destroy.of(id=old))
        if entry.P:
            self.tables[pasid] = self.nested(entry)
            self.device.attach(self.tables[pasid], pasid)

    def entry(self, pasid: int) -> PasidTableEntry:
        """Read it in the guest's memory, as hardware would."""
        root = self.read(OFFSETS["RTADDR"], 8) & -PAGE
        context = self.load(root + (VIRTUAL >> 8) * 16) + (VIRTUAL & 0x7F) * 32
        table = self.load(self.load(context) + (pasid >> 6) * 8)
        return PasidTableEntry.decode(self.memory.read(table + (pasid & 0x3F) * 64, 64) or b"")

    def load(self, address: int) -> int:
        return (self.memory.load(address) or 0) & 0xF_FFFF_FFFF_F000

    def nested(self, entry: PasidTableEntry) -> int:
        assert entry.PGTT == 1
        data = HwptVtdGuest.of(
            flags=entry.SRE | entry.EAFE << 1 | entry.WPE << 2,
            pgtbl_addr=entry.FSPTPTR,
            addr_width=57 if entry.FSPM else 48,
            domain_id=entry.DID,
        )
        buffer = self.program.scratch
        buffer.pages[: data.total] = data.encode()
        cmd = uapi.HwptAlloc.of(
            flags=uapi.HwptFlags.PASID,
            dev_id=self.device.id,
            pt_id=self.viommu,
            data_type=TYPE,
            data_len=data.total,
            data_uptr=buffer.address,
        )
        return self.program.must(cmd).out_hwpt_id


@define(eq=False)
class Kernel:
    """The guest: a driver with its unit and one device."""

    vmm: Vmm
    frames: Bump
    unit: Unit
    device: HostDevice

    @classmethod
    def boot(cls) -> Kernel:
        vmm = Vmm.make()
        frames = Bump(vmm.memory)
        unit = Unit.bring_up("guest's unit", vmm.memory, frames, vmm, frames.table, Extensions())
        physical = PhysicalDevice("guest's device", PhysicalIommu("guest", vmm.emulated.driver, unit), VIRTUAL)
        physical.features = DeviceFeatures(ats=True, pasid_bits=20)
        device = HostDevice.of(physical, unit)
        device.probe()
        return cls(vmm, frames, unit, device)

    def domain(self) -> PagingDomain:
        return make_domain(self.unit, DomainFlags(0), None)

    def page(self, text: bytes) -> int:
        page = self.frames.allocate()
        self.vmm.memory.write(page, text)
        return page

    def dma(self, iova: int = IOVA, pasid: int | None = None) -> bytes | None:
        """What the real device reads, on the host."""
        found = self.vmm.program.host.machine.dma_read(RID, iova, 5, pasid)
        return found if isinstance(found, bytes) else None


def test_a_guests_driver_governs_the_real_device() -> None:
    kernel = Kernel.boot()
    domain = kernel.domain()
    attach(kernel.device, 0, domain)
    assert kernel.dma() is None
    domain.map(IOVA, kernel.page(b"guest"), PAGE, RW, None)
    assert kernel.dma() == b"guest"
    domain.unmap(IOVA, PAGE)
    assert kernel.dma() is None
    domain.map(IOVA, kernel.page(b"other"), PAGE, RW, None)
    assert kernel.dma() == b"other"
    block(kernel.device, 0)
    assert kernel.dma() is None
    assert not kernel.vmm.tables
    kernel.vmm.program.clean()


def test_a_guests_pasids_are_the_devices() -> None:
    kernel = Kernel.boot()
    for pasid, text in ((0, b"plain"), (PASID, b"space")):
        domain = kernel.domain()
        domain.map(IOVA, kernel.page(text), PAGE, RW, None)
        attach(kernel.device, pasid, domain)
    assert [kernel.dma(), kernel.dma(pasid=PASID)] == [b"plain", b"space"]
    block(kernel.device, PASID)
    assert [kernel.dma(), kernel.dma(pasid=PASID)] == [b"plain", None]
    kernel.vmm.program.clean()


@pytest.mark.parametrize("pasid", [0, PASID])
def test_what_the_guest_unmaps_leaves_the_devices_own_tlb(pasid: int) -> None:
    kernel = Kernel.boot()
    endpoint = kernel.vmm.program.host.machine.device(RID)
    domain = kernel.domain()
    domain.map(IOVA, kernel.page(b"guest"), PAGE, RW, None)
    domain.map(IOVA + PAGE, kernel.page(b"more"), PAGE, RW, None)
    attach(kernel.device, pasid, domain)
    for page in range(2):
        endpoint.translate(IOVA + page * PAGE, pasid=pasid or None)
    assert len(endpoint.tlb) == 2
    domain.unmap(IOVA, PAGE)
    assert len(endpoint.tlb) == 1
    kernel.vmm.program.clean()
