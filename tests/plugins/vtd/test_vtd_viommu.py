"""A vIOMMU of VT-d, beyond mainline: by batches, by a queue of the guest's own, and what it is told of faults."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

import pytest
from attrs import define

from plugins.vtd.tests.hosted import Hosted
from tests.plugins.vtd.guest import BASE, Guest
from tests.plugins.vtd.program import PAGE, RID, Program, entry
from viommu.faults import Access
from viommu.iommufd import uapi
from viommu_vtd.host.extensions import TYPE, Extensions, HwptVtdGuest, VeventVtd, ViommuVtd
from viommu_vtd.spec.commands import InvalidationWait, PasidIotlbInvalidate
from viommu_vtd.spec.faults import FRCD, FSTS
from viommu_vtd.spec.offsets import OFFSETS
from viommu_vtd.spec.queue_registers import ICS

if TYPE_CHECKING:
    from viommu.iommufd.user_memory import UserFile
    from viommu.layout import Descriptor
    from viommu.objects.device import Device
    from viommu.objects.mmap import RegisterMapping

IOVA = 0x40_0000
VIRTUAL = 0x0010
DID = 9
ALL = Extensions(viommus=True, software_queues=True)
FIRST_STAGE = PasidIotlbInvalidate(Type=6, G=2, DID=DID)
BAD = (0xF).to_bytes(32, "little")


@define(eq=False)
class Vmm:
    """A VMM with one vIOMMU, one device known as `VIRTUAL`, and the guest's table attached to it."""

    program: Program
    device: Device
    guest: Guest
    viommu: int
    hwpt: int
    registers: ViommuVtd

    @classmethod
    def make(cls, extensions: Extensions = ALL, *, ats: bool = False) -> Vmm:
        program = Program.on(Hosted.make(sanitize=True, extensions=extensions))
        device = program.bind(program.hosted.device(RID, ats=ats, pasids=1 << 20))
        guest = Guest.make(program, device)
        out = program.buffer()
        cmd = uapi.ViommuAlloc.of(
            type=TYPE, dev_id=device.id, hwpt_id=guest.parent, data_len=ViommuVtd.total, data_uptr=out.address
        )
        viommu = program.must(cmd).out_viommu_id
        program.must(uapi.VdeviceAlloc.of(viommu_id=viommu, dev_id=device.id, virt_id=VIRTUAL))
        hwpt = cls._nested(program, device, viommu, guest.root)
        device.attach(hwpt)
        return cls(program, device, guest, viommu, hwpt, ViommuVtd.decode(out.pages[: ViommuVtd.total]))

    @staticmethod
    def _nested(program: Program, device: Device, viommu: int, table: int) -> int:
        data = program.buffer()
        data.pages[: HwptVtdGuest.total] = HwptVtdGuest.of(pgtbl_addr=table, addr_width=48, domain_id=DID).encode()
        cmd = uapi.HwptAlloc.of(
            dev_id=device.id, pt_id=viommu, data_type=TYPE, data_len=HwptVtdGuest.total, data_uptr=data.address
        )
        return program.must(cmd).out_hwpt_id

    @property
    def reached(self) -> bytes | None:
        found = self.program.hosted.machine.dma_read(RID, IOVA, 3)
        return found if isinstance(found, bytes) else None

    def batch(self, *commands: Descriptor | bytes, length: int = 40) -> uapi.HwptInvalidate:
        raw = [one if isinstance(one, bytes) else one.encode() for one in commands]
        return self.program.invalidate_command(self.viommu, *raw, data_type=TYPE, length=length)

    def results(self, count: int) -> list[tuple[int, int]]:
        """What stands behind the descriptors of the last batch: (error, info)."""
        pages = self.program.buffers[-1].pages
        return [struct.unpack_from("<II", pages, index * 40 + 32) for index in range(count)]

    def events(self) -> tuple[UserFile, int]:
        made = self.program.must(uapi.VeventqAlloc.of(viommu_id=self.viommu, type=TYPE, veventq_depth=64))
        return self.program.process.files[made.out_veventq_fd], made.out_veventq_id

    def read(self, file: UserFile) -> list[VeventVtd]:
        out = self.program.buffer()
        got = file.read(self.program.process, out.address, PAGE)
        size = 8 + VeventVtd.total
        return [VeventVtd.decode(out.pages[at + 8 : at + size]) for at in range(0, max(got, 0), size)]

    def map_registers(self) -> RegisterMapping:
        mapping = self.program.file.mmap(PAGE, 3, 1, self.registers.out_queue_mmap_offset)
        assert not isinstance(mapping, int), mapping
        return mapping

    def queue(self, base: int, length: int = PAGE, index: int = 0, kind: int = TYPE) -> uapi.HwQueueAlloc:
        return uapi.HwQueueAlloc.of(
            viommu_id=self.viommu, type=kind, index=index, nesting_parent_iova=base, length=length
        )


# --- the switch


def test_mainline_has_no_viommu_on_vtd() -> None:
    program = Program.make()
    device = program.bind(program.hosted.device(RID))
    guest = Guest.make(program, device)
    for kind in (1, 2, TYPE):
        cmd = uapi.ViommuAlloc.of(type=kind, dev_id=device.id, hwpt_id=guest.parent)
        assert program.fails(cmd) == errno.EOPNOTSUPP


def test_software_queues_have_a_switch_of_their_own() -> None:
    vmm = Vmm.make(Extensions(viommus=True))
    assert vmm.program.fails(vmm.queue(vmm.guest.page())) == errno.EOPNOTSUPP


# --- batches


def test_a_batch_invalidates_in_order_and_stores_the_guests_status() -> None:
    vmm = Vmm.make()
    status = vmm.guest.page()
    vmm.guest.map(IOVA, b"one")
    assert vmm.reached == b"one"
    vmm.guest.map(IOVA, b"new")
    assert vmm.reached == b"one"
    wait = InvalidationWait(Type=5, SW=1, STDATA=0x600D, STADDR=status)
    assert vmm.program.must(vmm.batch(FIRST_STAGE, wait)).entry_num == 2
    assert vmm.reached == b"new"
    assert vmm.guest.load(status) == 0x600D
    assert vmm.results(2) == [(0, 0), (0, 0)]


def test_a_descriptor_that_hardware_refuses_is_told_in_its_entry() -> None:
    vmm = Vmm.make()
    after = vmm.program.call(vmm.batch(FIRST_STAGE, BAD, FIRST_STAGE))
    assert (-vmm.program.result, after.entry_num) == (errno.EIO, 1)
    assert vmm.results(3) == [(0, 0), (0x10, 3), (0, 0)]


def test_a_device_that_does_not_answer_is_told_by_its_virtual_id() -> None:
    vmm = Vmm.make(ats=True)
    vmm.program.hosted.machine.device(RID).answers = False
    ask = (3 | VIRTUAL << 32).to_bytes(32, "little")
    after = vmm.program.call(vmm.batch(FIRST_STAGE, ask))
    assert (-vmm.program.result, after.entry_num) == (errno.EIO, 1)
    assert vmm.results(2) == [(0, 0), (0x40, VIRTUAL)]


def test_descriptors_may_come_without_room_for_results_or_short() -> None:
    vmm = Vmm.make()
    assert vmm.program.must(vmm.batch(FIRST_STAGE.encode(), length=16)).entry_num == 1
    vmm.program.call(vmm.batch(BAD[:16], length=16))
    assert -vmm.program.result == errno.EIO


def test_batches_of_mainlines_type_are_not_for_a_viommu() -> None:
    vmm = Vmm.make()
    assert vmm.program.fails(vmm.program.invalidate_command(vmm.viommu, entry())) == errno.EINVAL


def test_an_empty_batch_is_fine() -> None:
    vmm = Vmm.make()
    vmm.program.must(uapi.HwptInvalidate.of(hwpt_id=vmm.viommu, data_type=TYPE, entry_num=0))


def test_mainlines_invalidation_works_on_a_hwpt_of_a_viommu_too() -> None:
    vmm = Vmm.make()
    vmm.guest.map(IOVA, b"one")
    assert vmm.reached == b"one"
    vmm.guest.map(IOVA, b"new")
    vmm.program.must(vmm.program.invalidate_command(vmm.hwpt, entry()))
    assert vmm.reached == b"new"


def test_a_table_whose_did_was_not_told_answers_to_every_did() -> None:
    vmm = Vmm.make()
    vmm.guest.map(IOVA, b"one")
    vmm.device.replace(vmm.program.nested(vmm.device, vmm.viommu, vmm.guest.root))
    assert vmm.reached == b"one"
    vmm.guest.map(IOVA, b"new")
    vmm.program.must(vmm.batch(FIRST_STAGE.replace(DID=77)))
    assert vmm.reached == b"new"


@pytest.mark.parametrize(("kind", "flags"), [(2, 0), (TYPE, uapi.HwptFlags.DIRTY_TRACKING)])
def test_nested_hwpts_of_other_kinds_are_not_supported(kind: int, flags: int) -> None:
    vmm = Vmm.make()
    cmd = vmm.program.nested_command(vmm.device, vmm.viommu, vmm.guest.root, flags, data_type=kind)
    assert vmm.program.fails(cmd) == errno.EOPNOTSUPP


def test_a_virtual_id_is_a_source_id() -> None:
    vmm = Vmm.make()
    other = vmm.program.bind(vmm.program.hosted.device(RID + 8))
    cmd = uapi.VdeviceAlloc.of(viommu_id=vmm.viommu, dev_id=other.id, virt_id=0x1_0000)
    assert vmm.program.fails(cmd) == errno.EINVAL


# --- the software queue


def test_a_mapped_page_of_registers_drives_the_guests_queue() -> None:
    vmm = Vmm.make()
    base, status = vmm.guest.page(), vmm.guest.page()
    queue = vmm.program.must(vmm.queue(base)).out_hw_queue_id
    mapping = vmm.map_registers()
    registers = mapping.region.registers
    vmm.guest.map(IOVA, b"one")
    assert vmm.reached == b"one"
    vmm.guest.map(IOVA, b"new")
    wait = InvalidationWait(Type=5, SW=1, STDATA=0x600D, STADDR=status)
    for index, command in enumerate((FIRST_STAGE, wait)):
        at = base - BASE + 32 * index
        vmm.guest.memory.pages[at : at + 16] = command.encode()
    registers.write(OFFSETS["IQT"], (64).to_bytes(8, "little"))
    assert vmm.reached == b"new"
    assert vmm.guest.load(status) == 0x600D
    assert registers.read(OFFSETS["IQH"], 8) == (64).to_bytes(8, "little")
    assert registers.read(OFFSETS["IQA"], 8) == (base | 1 << 11).to_bytes(8, "little")
    vmm.program.must(uapi.Destroy.of(id=queue))
    registers.write(OFFSETS["IQT"], (96).to_bytes(8, "little"))
    assert registers.read(OFFSETS["IQH"], 8) == bytes(8)


def test_the_queue_tells_of_errors_and_completion() -> None:
    vmm = Vmm.make()
    events, _ = vmm.events()
    base = vmm.guest.page()
    vmm.program.must(vmm.queue(base))
    registers = vmm.map_registers().region.registers
    at = base - BASE
    vmm.guest.memory.pages[at : at + 16] = InvalidationWait(Type=5, IF=1).encode()
    vmm.guest.memory.pages[at + 32 : at + 64] = BAD
    registers.write(OFFSETS["IQT"], (64).to_bytes(8, "little"))
    told = [(one.fsts, one.ics) for one in vmm.read(events)]
    assert told == [(0, int(ICS(IWC=1))), (int(FSTS(IQE=1)), 0)]


@pytest.mark.parametrize(
    ("kind", "index", "length", "code"),
    [
        (1, 0, PAGE, errno.EOPNOTSUPP),
        (TYPE, 1, PAGE, errno.EINVAL),
        (TYPE, 0, PAGE // 2, errno.EINVAL),
        (TYPE, 0, 3 * PAGE, errno.EINVAL),
    ],
)
def test_a_queue_that_no_unit_has_is_refused(kind: int, index: int, length: int, code: int) -> None:
    vmm = Vmm.make()
    assert vmm.program.fails(vmm.queue(vmm.guest.page(), length, index, kind)) == code


def test_a_second_queue_finds_the_place_taken() -> None:
    vmm = Vmm.make()
    base = vmm.guest.page()
    vmm.program.must(vmm.queue(base))
    assert vmm.program.fails(vmm.queue(base)) == errno.EEXIST


# --- faults


def test_a_fault_of_the_guests_table_is_told_with_the_virtual_id() -> None:
    vmm = Vmm.make()
    events, _ = vmm.events()
    vmm.program.hosted.machine.translate(RID, IOVA + 0x123, Access.WRITE)
    (told,) = vmm.read(events)
    record = FRCD.decode(told.record)
    assert (told.fsts, told.ics) == (int(FSTS(PPF=1)), 0)
    assert (record.SID, record.FR, record.FI, record.T, record.F) == (VIRTUAL, 0x71, IOVA, 0, 1)


def test_a_table_where_the_guest_has_no_memory_is_an_access_error_to_it() -> None:
    vmm = Vmm.make()
    events, _ = vmm.events()
    entry_at = vmm.guest.root + (IOVA >> 39) * 8
    vmm.guest.store(entry_at, BASE - PAGE | 0x27)
    vmm.program.hosted.machine.translate(RID, IOVA)
    assert [FRCD.decode(one.record).FR for one in vmm.read(events)] == [0x70]


def test_what_is_the_hosts_own_fault_is_kept_from_the_guest() -> None:
    vmm = Vmm.make()
    events, _ = vmm.events()
    vmm.guest.store(vmm.guest.leaf(IOVA), BASE - PAGE | 0x67)
    vmm.program.hosted.machine.translate(RID, IOVA)
    assert not vmm.read(events)
    assert [record.FR for record in vmm.program.hosted.unit.faults] == [0x79]


def test_hardware_records_again_after_its_records_were_read() -> None:
    vmm = Vmm.make()
    events, _ = vmm.events()
    for index in range(20):
        vmm.program.hosted.machine.translate(RID, IOVA + index * PAGE)
    assert len(vmm.program.hosted.unit.faults) == 20
    assert [FRCD.decode(one.record).FI for one in vmm.read(events)] == [IOVA + index * PAGE for index in range(20)]


# --- destruction


def test_objects_go_in_the_order_of_who_holds_whom_and_leave_nothing() -> None:
    vmm = Vmm.make()
    program = vmm.program
    for busy in (vmm.viommu, vmm.guest.parent, vmm.hwpt):
        assert program.fails(uapi.Destroy.of(id=busy)) == errno.EBUSY
    vmm.device.detach()
    vmm.device.unbind()
    program.file.release()
    assert program.hosted.unit.ids.taken == 0
    program.clean()
