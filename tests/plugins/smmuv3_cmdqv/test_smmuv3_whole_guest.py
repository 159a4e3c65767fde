"""A whole guest: a kernel's driver on an emulated SMMU with stage 1, whose VMM passes on what it is told.

The guest is the host driver itself, on a hardware model of its own, in memory that the host has mapped. Its VMM reads
the guest's STEs when the guest invalidates them, and nests what it finds; other commands go to the vIOMMU as they are.
With a CMDQV, the VMM gives the guest a vCMDQ where the guest wants one, and its stores to it cost the VMM nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from attrs import define, field

from tests.plugins.smmuv3_cmdqv.guest import VSID
from tests.plugins.smmuv3_cmdqv.program import NEST, PAGE, RECORDED, SID, Program, identity
from viommu import Machine
from viommu.faults import Access, Fault
from viommu.iommufd import uapi
from viommu.memory import PhysicalMemory
from viommu.objects.mmap import RegisterMapping
from viommu.objects.physical import PhysicalDevice, PhysicalIommu
from viommu.ops import DeviceFeatures, DomainFlags, Prot
from viommu.table_frames import TableFrames
from viommu_smmuv3_cmdqv.host.attach import attach, block
from viommu_smmuv3_cmdqv.host.making import make
from viommu_smmuv3_cmdqv.host.master import Master
from viommu_smmuv3_cmdqv.host.smmu import Smmu
from viommu_smmuv3_cmdqv.identity import PRESETS
from viommu_smmuv3_cmdqv.spec import cmdqv_registers as cmdqv
from viommu_smmuv3_cmdqv.spec.commands import CommandOpcode
from viommu_smmuv3_cmdqv.spec.events import EventId, TranslationRecord
from viommu_smmuv3_cmdqv.spec.register_map import REGISTERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from viommu.backing import View
    from viommu.drivers import BoundDriver
    from viommu.endpoint import Endpoint
    from viommu.objects.device import Device
    from viommu_smmuv3_cmdqv.host.domain import PagingDomain

IOVA = 0x40_0000
RAM = 1 << 30
RW = Prot.READ | Prot.WRITE
STAGE1_ONLY = {"IDR0": RECORDED["IDR0"] & ~1, "IDR1": 0x0273_0110, "IDR3": RECORDED["IDR3"], "IDR5": RECORDED["IDR5"]}
"""What a VMM shows: the recorded SMMU without stage 2, and 16 SubstreamIDs."""
TRAPPED, ACCELERATED = STAGE1_ONLY, STAGE1_ONLY | {"CMDQV_PARAM": PRESETS["qemu"]["CMDQV_PARAM"]}
PAGE0_BYTES, QUEUES = 0x1_0000, 2


class GuestMemory(PhysicalMemory):
    """Memory of a guest: more of it is mapped on the host as soon as it is there."""

    def __init__(self, program: Program, ioas: int) -> None:
        super().__init__()
        self.program, self.ioas, self.top = program, ioas, RAM
        self.held: list[NDArray[np.uint8]] = []

    def add_ram(self, size: int) -> View:
        buffer = self.program.buffer(size)
        self.held.append(buffer)
        self.program.map(self.ioas, self.top, buffer)
        self.top += size
        return self.place(self.top - size, buffer)


@define(eq=False)
class Vmm:
    """Emulates the SMMU that the guest sees, and passes on what the guest's driver writes into its queue."""

    program: Program
    endpoint: Endpoint
    device: Device
    viommu: int
    emulated: Machine
    memory: GuestMemory
    page0: RegisterMapping | None = None
    """Registers of the guest's vCMDQs, which the VMM has mapped into the guest."""
    queues: dict[int, int] = field(factory=dict)
    """HW_QUEUEs by index."""
    nested: int = 0
    passed: list[str] = field(factory=list)

    @classmethod
    def make(cls, shown: Mapping[str, int]) -> Vmm:
        program = Program.make(identity())
        endpoint = program.machine.add_device(SID, pasid_bits=4)
        device, ioas = program.bind(endpoint), program.ioas()
        data = program.buffer()
        fields = {"dev_id": device.id, "hwpt_id": program.hwpt(device, ioas, NEST), "data_uptr": data.ctypes.data}
        accelerated = "CMDQV_PARAM" in shown
        viommu = uapi.ViommuAlloc.of(type=1 + accelerated, data_len=16 * accelerated, **fields)
        made = program.must(viommu).out_viommu_id
        program.must(uapi.VdeviceAlloc.of(viommu_id=made, dev_id=device.id, virt_id=VSID))
        memory = GuestMemory(program, ioas)
        vmm = cls(program, endpoint, device, made, Machine("smmuv3_cmdqv", memory, shown), memory)
        if accelerated:
            mapping = program.file.mmap(PAGE0_BYTES, 3, 1, int.from_bytes(data[:8].tobytes(), "little"))
            assert isinstance(mapping, RegisterMapping)
            vmm.page0 = mapping
        return vmm

    def read(self, offset: int, size: int) -> int:
        mapped = self.in_page0(offset)
        if mapped is not None and self.page0 is not None:
            return int.from_bytes(self.page0.read(mapped, size), "little")
        return self.emulated.read_register(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """The guest stores to a register: new commands are looked at, once the emulated SMMU has taken them."""
        mapped = self.in_page0(offset)
        if mapped is not None and self.page0 is not None:
            self.page0.write(mapped, value.to_bytes(size, "little"))
            return
        prod = REGISTERS["CMDQ_PROD"][0]
        before = self.read(prod, 4)
        self.emulated.write_register(offset, value, size)
        if offset == prod:
            self.pass_on(before, value)
        elif offset >= cmdqv.PLACE:
            self.give_queues()

    def in_page0(self, offset: int) -> int | None:
        """Say where in the mapped page a register is: those of a queue that the guest was given."""
        at = offset - cmdqv.PLACE - cmdqv.VINTF_PAGE0
        return at if 0 <= at < PAGE0_BYTES and at // cmdqv.VCMDQ_STRIDE in self.queues else None

    def give_queues(self) -> None:
        """Give the guest what it has set up, and take back what it has not any more (the youngest first)."""
        enabled = self.config(cmdqv.CONFIG_AT) & self.config(cmdqv.VINTF_BANK) & 1
        for index in (*range(QUEUES), *reversed(range(QUEUES))):
            base = self.emulated.read_register(cmdqv.PLACE + cmdqv.DIRECT_PAGE1 + index * cmdqv.VCMDQ_STRIDE, 8)
            wanted = bool(enabled and base and self.config(cmdqv.CMDQ_ALLOC + 4 * index) & 1)
            if wanted and index not in self.queues:
                cmd = uapi.HwQueueAlloc.of(
                    viommu_id=self.viommu,
                    type=1,
                    index=index,
                    nesting_parent_iova=base & -32,
                    length=16 << (base & 31),
                )
                self.queues[index] = self.program.must(cmd).out_hw_queue_id
            elif not wanted and index in self.queues:
                assert self.program.destroy(self.queues.pop(index)) == 0

    def config(self, at: int) -> int:
        return self.emulated.read_register(cmdqv.PLACE + at, 4)

    def pass_on(self, prod: int, new: int) -> None:
        base = self.read(REGISTERS["CMDQ_BASE"][0], 8)
        entries = 1 << (base & 31)
        while prod != new:
            raw = self.memory.read((base & (1 << 52) - 32) + 16 * (prod & entries - 1), 16)
            assert raw is not None
            self.one(raw)
            prod = prod + 1 & 2 * entries - 1

    def one(self, raw: bytes) -> None:
        opcode, sid = CommandOpcode(raw[0]), int.from_bytes(raw[4:8], "little")
        self.passed.append(opcode.name)
        if opcode is CommandOpcode.CFGI_STE and sid == VSID:
            self.follow()
        elif opcode not in (CommandOpcode.CFGI_STE, CommandOpcode.CFGI_STE_RANGE, CommandOpcode.SYNC):
            cmd = uapi.HwptInvalidate.of(
                hwpt_id=self.viommu, data_type=1, entry_len=16, entry_num=1, data_uptr=self.program.data(raw)
            )
            self.program.must(cmd)

    def follow(self) -> None:
        """Nest what the guest's STE says now."""
        ste = self.guest_ste()
        cmd = uapi.HwptAlloc.of(
            dev_id=self.device.id,
            pt_id=self.viommu,
            data_type=2,
            data_len=16,
            data_uptr=self.program.data(ste),
        )
        hwpt = self.program.must(cmd).out_hwpt_id
        (self.device.replace if self.nested else self.device.attach)(hwpt)
        if self.nested:
            assert self.program.destroy(self.nested) == 0
        self.nested = hwpt

    def guest_ste(self) -> bytes:
        table = self.read(REGISTERS["STRTAB_BASE"][0], 8) & (1 << 52) - 64
        leaf = (self.memory.load(table + (VSID >> 8) * 8) or 0) & (1 << 52) - 64
        raw = self.memory.read(leaf + (VSID & 0xFF) * 64, 16)
        assert raw is not None
        return raw


@define(eq=False)
class Booted:
    """The guest's kernel, running: its driver, its device, and memory that it maps for DMA."""

    vmm: Vmm
    smmu: Smmu
    master: Master

    @classmethod
    def boot(cls, shown: Mapping[str, int]) -> Booted:
        vmm = Vmm.make(shown)
        smmu = Smmu.bring_up("guest's", vmm.memory, TableFrames(vmm.memory), vmm)
        driver: BoundDriver = vmm.emulated.driver
        physical = PhysicalDevice(
            "guest's device", PhysicalIommu("guest's", driver), VSID, features=DeviceFeatures(pasid_bits=4)
        )
        master = Master.of(physical, smmu)
        master.probe()
        return cls(vmm, smmu, master)

    def domain(self, flags: DomainFlags = DomainFlags(0)) -> PagingDomain:  # noqa: B008
        return make(self.smmu, flags, None)

    def page(self, text: bytes) -> int:
        pa = int(self.smmu.frames.allocate())
        self.vmm.memory.write(pa, text)
        return pa


@pytest.fixture(params=[TRAPPED, ACCELERATED], ids=["trapped", "vCMDQ"])
def booted(request: pytest.FixtureRequest) -> Booted:
    return Booted.boot(request.param)


def test_a_guests_kernel_maps_unmaps_and_detaches(booted: Booted) -> None:
    device, domain = booted.vmm.endpoint, booted.domain()
    domain.map(IOVA, booted.page(b"guest's"), PAGE, RW, None)
    attach(booted.master, 0, domain)
    assert device.dma_read(IOVA, 7) == b"guest's"
    page = booted.page(b"")
    domain.map(IOVA + PAGE, page, PAGE, RW, None)
    assert device.dma_write(IOVA + PAGE, b"written") is None
    assert booted.vmm.memory.read(page, 7) == b"written"
    domain.unmap(IOVA, 2 * PAGE)
    assert isinstance(device.dma_read(IOVA, 1), Fault)
    block(booted.master, 0)
    assert isinstance(device.dma_read(IOVA, 1), Fault)
    domain.free()
    booted.vmm.program.clean()
    assert {"CFGI_STE", "CFGI_CD", "SYNC"} <= set(booted.vmm.passed)
    by_itself = booted.vmm.program.machine.activity.guest_commands
    assert ("TLBI_NH_VA" in booted.vmm.passed) != ("TLBI_NH_VA" in by_itself)
    assert ("TLBI_NH_VA" in by_itself) == bool(booted.vmm.queues)


def test_a_guests_kernel_unmaps_by_its_vcmdq_without_the_vmm() -> None:
    booted = Booted.boot(ACCELERATED)
    domain = booted.domain()
    attach(booted.master, 0, domain)
    machine = booted.vmm.program.machine
    for turn in range(8):
        domain.map(IOVA, booted.page(b"%d" % turn), PAGE, RW, None)
        assert booted.vmm.endpoint.dma_read(IOVA, 1) == b"%d" % turn
        before = machine.activity.host_calls
        domain.unmap(IOVA, PAGE)
        assert machine.activity.host_calls == before
        assert isinstance(booted.vmm.endpoint.translate(IOVA), Fault)
    assert machine.activity.guest_commands["TLBI_NH_VA"] == 8
    booted.vmm.program.clean()


def test_a_guests_kernel_does_without_a_vcmdq_that_nobody_gives() -> None:
    vmm = Vmm.make(ACCELERATED)
    vmm.page0 = None
    smmu = Smmu.bring_up("guest's", vmm.memory, TableFrames(vmm.memory), Refusing(vmm))
    assert smmu.cmdqv is not None
    assert smmu.cmdqv.own is None


@define(eq=False)
class Refusing:
    """Registers of a VMM that has no vCMDQ left: the guest's are never enabled."""

    vmm: Vmm

    def read(self, offset: int, size: int) -> int:
        in_page0 = 0 <= offset - cmdqv.PLACE - cmdqv.VINTF_PAGE0 < PAGE0_BYTES
        return 0 if in_page0 else self.vmm.emulated.read_register(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        self.vmm.emulated.write_register(offset, value, size)


def test_a_guests_kernel_changes_domains_in_place(booted: Booted) -> None:
    device = booted.vmm.endpoint
    for text in (b"one", b"two", b"three"):
        domain = booted.domain()
        domain.map(IOVA, booted.page(text), PAGE, RW, None)
        attach(booted.master, 0, domain)
        assert device.dma_read(IOVA, len(text)) == text
    booted.vmm.program.clean()


def test_a_guests_kernel_attaches_pasids(booted: Booted) -> None:
    device = booted.vmm.endpoint
    texts = {0: b"rid", 3: b"three", 15: b"last"}
    for pasid, text in texts.items():
        domain = booted.domain(DomainFlags.PASID)
        domain.map(IOVA, booted.page(text), PAGE, RW, None)
        attach(booted.master, pasid, domain)
    for pasid, text in texts.items():
        assert device.dma_read(IOVA, len(text), pasid or None) == text
    block(booted.master, 3)
    assert isinstance(device.dma_read(IOVA, 1, 3), Fault)
    assert device.dma_read(IOVA, 4, 15) == b"last"
    booted.vmm.program.clean()


def test_a_guests_kernel_hears_of_its_faults_through_the_vmm(booted: Booted) -> None:
    program, device = booted.vmm.program, booted.vmm.endpoint
    made = program.must(uapi.VeventqAlloc.of(viommu_id=booted.vmm.viommu, type=1, veventq_depth=8))
    attach(booted.master, 0, booted.domain())
    device.translate(IOVA, Access.WRITE)
    buffer, process = program.buffer(), program.machine.process
    assert process.files[made.out_veventq_fd].read(process, buffer.ctypes.data, PAGE) == 40
    record = TranslationRecord.decode(buffer[8:40].tobytes())
    assert (EventId(record.ID), record.SID, record.InputAddr) == (EventId.F_TRANSLATION, VSID, IOVA)
