"""Where a machine is ahead of mainline: late stage 2, whose the VMID is, device TLBs by a call, requests by PRI."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

import pytest
from attrs import define

from tests.plugins.smmuv3_cmdqv.guest import BASE, GUEST_SIZE, NG, VSID, Guest
from tests.plugins.smmuv3_cmdqv.program import NEST, PAGE, SID, Program
from tests.plugins.smmuv3_cmdqv.test_smmuv3_vqueue import LENGTH, NH_VA, SYNC_COMMAND, queue_of
from viommu.faults import Access, Fault
from viommu.iommufd import experimental, uapi
from viommu.objects.mmap import RegisterMapping
from viommu.platform import ResponseCode, TlbBroadcast
from viommu.policies import Policy, VmidOwner
from viommu_smmuv3_cmdqv.spec import cmdqv_registers as spec

if TYPE_CHECKING:
    from viommu.endpoint import Endpoint
    from viommu.objects.device import Device

IOVA = 0x7000_0000
LATE = Policy(late_stage2=True)
OF_VIOMMU, OF_KVM = Policy(vmid_owner=VmidOwner.VIOMMU), Policy(vmid_owner=VmidOwner.KVM)


@define
class Empty:
    """A vIOMMU that waits for its stage 2, and where its registers are."""

    program: Program
    device: Device
    viommu: int
    offset: int

    @classmethod
    def make(cls, kind: int) -> Empty:
        program, data = Program.make(policy=LATE), None
        device = program.bind(program.machine.add_device(SID, ats=True))
        data = program.buffer()
        length, address = (16, data.ctypes.data) if kind == 2 else (0, 0)
        cmd = uapi.ViommuAlloc.of(type=kind, dev_id=device.id, data_len=length, data_uptr=address)
        made = program.must(cmd).out_viommu_id
        return cls(program, device, made, int.from_bytes(data[:8].tobytes(), "little"))

    def parent(self) -> tuple[int, int, object]:
        """Memory of a guest, with a nesting parent on it."""
        ioas, memory = self.program.ioas(), self.program.buffer(GUEST_SIZE)
        self.program.map(ioas, BASE, memory)
        return ioas, self.program.hwpt(self.device, ioas, NEST), memory

    def give_stage2(self) -> Guest:
        ioas, parent, memory = self.parent()
        self.program.must(experimental.SetStage2.of(viommu_id=self.viommu, hwpt_id=parent))
        return Guest(self.program, self.device, memory, ioas, parent, self.viommu)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [1, 2])
def test_an_empty_viommu_is_as_if_made_on_its_stage_2_once_it_has_one(kind: int) -> None:
    empty = Empty.make(kind)
    vdevice = uapi.VdeviceAlloc.of(viommu_id=empty.viommu, dev_id=empty.device.id, virt_id=VSID)
    empty.program.must(vdevice)
    guest = empty.give_stage2()
    guest.map(IOVA, b"late")
    empty.device.attach(guest.nested(guest.ste()))
    assert empty.program.machine.endpoints[0].dma_read(IOVA, 4) == b"late"


def test_what_needs_stage_2_is_refused_in_the_window() -> None:
    empty = Empty.make(2)
    program = empty.program
    data = program.data(bytes(16))
    nested = uapi.HwptAlloc.of(dev_id=empty.device.id, pt_id=empty.viommu, data_type=2, data_len=16, data_uptr=data)
    queue = uapi.HwQueueAlloc.of(viommu_id=empty.viommu, type=1, nesting_parent_iova=BASE, length=1024)
    invalidate = uapi.HwptInvalidate.of(
        hwpt_id=empty.viommu, data_type=1, entry_len=16, entry_num=1, data_uptr=program.data(NH_VA.encode())
    )
    for cmd in (nested, queue, invalidate):
        assert program.fails(cmd) == errno.EINVAL, cmd


def test_an_interface_is_switched_on_with_its_stage_2_and_knows_the_streams_of_the_window() -> None:
    empty = Empty.make(2)
    program = empty.program
    mapping = program.file.mmap(LENGTH, 3, 1, empty.offset)
    assert isinstance(mapping, RegisterMapping)
    program.must(uapi.VdeviceAlloc.of(viommu_id=empty.viommu, dev_id=empty.device.id, virt_id=VSID))
    bank = spec.PLACE + spec.VINTF_BANK + spec.VINTF_BANK_STRIDE
    assert program.machine.read_register(bank + spec.VINTF_STATUS_AT) & 1 == 0
    guest = empty.give_stage2()
    assert program.machine.read_register(bank + spec.VINTF_STATUS_AT) & 1 == 1
    assert program.machine.read_register(bank + spec.SID_MATCH_AT) == VSID << 1 | 1
    queue = queue_of(guest, mapping)
    queue.submit(NH_VA, SYNC_COMMAND)
    assert queue.consumed[0] == 2


def test_a_parent_of_another_smmu_is_refused_and_the_viommu_stays_empty() -> None:
    empty = Empty.make(1)
    program = empty.program
    strange = program.bind(program.machine.add_device(SID, iommu=program.machine.add_iommu()))
    cmd = experimental.SetStage2.of(viommu_id=empty.viommu, hwpt_id=program.hwpt(strange, program.ioas(), NEST))
    assert program.fails(cmd) == errno.EINVAL
    empty.give_stage2()


def guests_on_one_parent(policy: Policy) -> tuple[Program, list[Guest]]:
    """Two vIOMMUs on one stage 2, each with a device and the same addresses mapped to something else."""
    program = Program.make(policy=policy)
    first = Guest.make(program, program.bind(program.machine.add_device(SID)))
    device = program.bind(program.machine.add_device(SID + 8))
    cmd = uapi.ViommuAlloc.of(type=1, dev_id=device.id, hwpt_id=first.parent)
    made = program.must(cmd).out_viommu_id
    first.next += 64 * PAGE
    second = Guest(program, device, first.memory, first.ioas, first.parent, made, first.next)
    first.next -= 64 * PAGE
    for guest, text in ((first, b"one"), (second, b"two")):
        guest.map(IOVA, text)
        guest.attach()
    return program, [first, second]


@pytest.mark.parametrize(("policy", "vmids"), [(Policy(), 1), (OF_VIOMMU, 2)], ids=["stage 2", "vIOMMU"])
def test_whose_the_vmid_is(policy: Policy, vmids: int) -> None:
    program, _ = guests_on_one_parent(policy)
    assert len({program.master(device).ste.S2VMID for device in program.machine.endpoints}) == vmids


def test_a_viommus_own_vmid_keeps_guests_apart_that_share_a_stage_2() -> None:
    program, (first, second) = guests_on_one_parent(OF_VIOMMU)
    one, two = program.machine.endpoints
    assert one.dma_read(IOVA, 3) == b"one"
    assert two.dma_read(IOVA, 3) == b"two"
    first.store(first.leaf(IOVA), 0)
    second.invalidate(NH_VA)
    assert one.dma_read(IOVA, 3) == b"one"
    first.invalidate(NH_VA)
    assert isinstance(one.dma_read(IOVA, 3), Fault)


def test_unmapping_the_parent_reaches_every_vmid_on_it() -> None:
    program, guests = guests_on_one_parent(OF_VIOMMU)
    at = BASE + (64 << 20)
    program.map(guests[0].ioas, at, program.buffer())
    for guest, device in zip(guests, program.machine.endpoints, strict=True):
        guest.store(guest.leaf(IOVA + PAGE), at | 0x743 | NG)
        assert device.dma_read(IOVA + PAGE, 1) == b"\0"
    program.unmap(guests[0].ioas, at, PAGE)
    for device in program.machine.endpoints:
        assert isinstance(device.dma_read(IOVA + PAGE, 1), Fault)
    program.clean()


def test_what_is_unmapped_while_nobody_is_attached_is_forgotten_under_every_vmid() -> None:
    program, guests = guests_on_one_parent(OF_VIOMMU)
    at = BASE + (64 << 20)
    program.map(guests[0].ioas, at, program.buffer())
    for guest, device in zip(guests, program.machine.endpoints, strict=True):
        guest.store(guest.leaf(IOVA + PAGE), at | 0x743 | NG)
        assert device.dma_read(IOVA + PAGE, 1) == b"\0"
    for guest in guests:
        guest.device.detach()
    program.unmap(guests[0].ioas, at, PAGE)
    for guest, device in zip(guests, program.machine.endpoints, strict=True):
        guest.device.attach(guest.nested(guest.ste()))
        assert isinstance(device.dma_read(IOVA + PAGE, 1), Fault)
    program.clean()


def test_a_vmid_of_a_viommus_own_is_free_again_afterwards() -> None:
    program, _ = guests_on_one_parent(OF_VIOMMU)
    assert len(program.smmu.vmids.taken) == 3
    for guest in program.machine.endpoints:
        owner = guest.physical.owner
        assert owner is not None
        owner.detach()
        owner.unbind()
    program.file.release()
    assert not program.smmu.vmids.taken


def with_vm(program: Program, device: Device, parent: int, vmid: int) -> experimental.ViommuAllocVm:
    fd = program.machine.process.install(program.machine.create_vm(vmid))
    return experimental.ViommuAllocVm.of(
        flags=experimental.ViommuFlags.VM, type=1, dev_id=device.id, hwpt_id=parent, kvm_fd=fd
    )


def test_a_virtual_machines_vmid_is_shared_and_its_cpus_broadcasts_reach_the_iotlb() -> None:
    program = Program.make(policy=OF_KVM)
    device = program.machine.add_device(SID)
    bound = program.bind(device)
    guest = Guest.make(program, bound)
    guest.viommu = program.must(with_vm(program, bound, guest.parent, 77)).out_viommu_id
    guest.map(IOVA, b"before")
    guest.attach()
    assert program.master(device).ste.S2VMID == 77
    assert device.dma_read(IOVA, 6) == b"before"
    guest.store(guest.leaf(IOVA), 0)
    program.machine.broadcast_tlbi(TlbBroadcast(vmid=5, asid=1))
    assert device.dma_read(IOVA, 6) == b"before"
    program.machine.broadcast_tlbi(TlbBroadcast(vmid=77, asid=1))
    assert isinstance(device.dma_read(IOVA, 6), Fault)
    again = program.must(with_vm(program, bound, guest.parent, 77)).out_viommu_id
    assert program.smmu.shared_vmids[77] == 2
    assert program.destroy(again) == 0


def test_a_virtual_machines_vmid_that_the_host_uses_itself_is_refused() -> None:
    program = Program.make(policy=OF_KVM)
    bound = program.bind(program.machine.add_device(SID))
    parent = program.hwpt(bound, program.ioas(), NEST)
    (taken,) = program.smmu.vmids.taken
    assert program.fails(with_vm(program, bound, parent, taken)) == errno.EBUSY
    assert program.fails(with_vm(program, bound, parent, 0)) == errno.EINVAL
    assert program.destroy(parent) == 0


def test_without_the_policy_broadcasts_are_not_heard() -> None:
    program = Program.make()
    device = program.machine.add_device(SID)
    guest = Guest.make(program, program.bind(device))
    guest.map(IOVA, b"before")
    guest.attach()
    assert device.dma_read(IOVA, 6) == b"before"
    guest.store(guest.leaf(IOVA), 0)
    program.machine.broadcast_tlbi(TlbBroadcast(vmid=program.master(device).ste.S2VMID))
    assert device.dma_read(IOVA, 6) == b"before"


def device_tlb_guest() -> tuple[Program, Guest, Endpoint]:
    program = Program.make(policy=Policy(device_tlb_invalidation=True))
    device = program.machine.add_device(SID, ats=True)
    guest = Guest.make(program, program.bind(device))
    for page in range(4):
        guest.map(IOVA + PAGE * page)
    guest.attach(guest.ste(EATS=1))
    assert device.ats is not None
    for page in range(4):
        device.ats.translate(IOVA + PAGE * page, Access.READ)
    return program, guest, device


def drop_command(program: Program, viommu: int, *ranges: tuple[int, int, int]) -> experimental.DeviceTlbInvalidate:
    raw = b"".join(struct.pack("<QQQII", sid, start, last, 0, 0) for sid, start, last in ranges)
    return experimental.DeviceTlbInvalidate.of(
        viommu_id=viommu, entry_num=len(ranges), entry_len=32, data_uptr=program.data(raw)
    )


def test_device_tlbs_are_invalidated_by_a_call_of_their_own() -> None:
    program, guest, device = device_tlb_guest()
    assert device.ats is not None
    program.must(drop_command(program, guest.viommu, (VSID, IOVA, IOVA + PAGE - 1), (VSID, IOVA + PAGE, IOVA + PAGE)))
    assert len(device.ats.tlb) == 2
    device.ats.answers = False
    after = program.call(drop_command(program, guest.viommu, (VSID, 0, (1 << 64) - 1), (VSID, 0, 0)))
    assert after.entry_num == 0
    assert len(device.ats.tlb) == 2


def test_page_requests_by_pri_go_to_a_viommus_fault_and_back() -> None:
    program = Program.make(policy=Policy(viommu_page_requests=True))
    device = program.machine.add_device(SID, ats=True, page_requests=True)
    guest = Guest.make(program, program.bind(device))
    made = program.must(uapi.FaultAlloc.of())
    program.must(experimental.SetFault.of(viommu_id=guest.viommu, fault_id=made.out_fault_id))
    guest.attach(guest.ste(EATS=1))
    assert device.ats is not None
    for page, last in ((0, False), (1, True)):
        device.ats.request_page(IOVA + PAGE * page, Access.WRITE, group=9, last=last)
    file, buffer = program.machine.process.files[made.out_fault_fd], program.buffer()
    count = file.read(program.machine.process, buffer.ctypes.data, 80)
    assert count == 80
    cookie = int.from_bytes(buffer[36:40].tobytes(), "little")
    assert not device.ats.responses
    answer = program.data(struct.pack("<II", cookie, uapi.ResponseCode.SUCCESS))
    assert file.write(program.machine.process, answer, 8) == 8
    (response,) = device.ats.responses
    assert (response.group, response.code) == (9, ResponseCode.SUCCESS)
