"""A vIOMMU of VT-d, beyond mainline: by batches, by a queue of the guest's own, and what it is told of faults."""

from __future__ import annotations

import errno

import pytest

from tests.plugins.vtd.guest import BASE, Guest
from tests.plugins.vtd.program import PAGE, RID, Program, entry
from tests.plugins.vtd.vmm import DID, IOVA, VIRTUAL, Vmm
from viommu.faults import Access
from viommu.iommufd import uapi
from viommu.iommufd.experimental import VeventVtd
from viommu.platform import BadAnswer
from viommu.policies import Policy
from viommu_vtd.host.extensions import TYPE
from viommu_vtd.spec.commands import InvalidationWait, PasidIotlbInvalidate
from viommu_vtd.spec.faults import FRCD, FSTS
from viommu_vtd.spec.offsets import OFFSETS
from viommu_vtd.spec.queue_registers import ICS

FIRST_STAGE = PasidIotlbInvalidate(Type=6, G=2, DID=DID)
BAD = (0xF).to_bytes(32, "little")


# --- the switch


def test_mainline_has_no_viommu_on_vtd() -> None:
    program = Program.make()
    device = program.bind(program.host.device(RID))
    guest = Guest.make(program, device)
    for kind in (1, 2, TYPE):
        cmd = uapi.ViommuAlloc.of(type=kind, dev_id=device.id, hwpt_id=guest.parent)
        assert program.fails(cmd) == errno.EOPNOTSUPP


def test_software_queues_have_a_switch_of_their_own() -> None:
    vmm = Vmm.make(Policy(invalidate_by_viommu=True))
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
    vmm.program.host.machine.device(RID).answers = False
    ask = (3 | VIRTUAL << 32).to_bytes(32, "little")
    after = vmm.program.call(vmm.batch(FIRST_STAGE, ask))
    assert (-vmm.program.result, after.entry_num) == (errno.EIO, 1)
    assert vmm.results(2) == [(0, 0), (0x40, VIRTUAL)]


def test_a_device_that_answers_wrongly_is_told_by_its_virtual_id_too() -> None:
    vmm = Vmm.make(ats=True)
    vmm.program.host.machine.device(RID).answers = BadAnswer.WRONG_TAG
    ask = (3 | VIRTUAL << 32).to_bytes(32, "little")
    after = vmm.program.call(vmm.batch(FIRST_STAGE, ask))
    assert (-vmm.program.result, after.entry_num) == (errno.EIO, 1)
    assert vmm.results(2) == [(0, 0), (0x60, VIRTUAL)]


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
    other = vmm.program.bind(vmm.program.host.device(RID + 8))
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
    vmm.program.host.machine.translate(RID, IOVA + 0x123, Access.WRITE)
    (told,) = vmm.read(events)
    record = FRCD.decode(told.record)
    assert (told.fsts, told.ics) == (int(FSTS(PPF=1)), 0)
    assert (record.SID, record.FR, record.FI, record.T, record.F) == (VIRTUAL, 0x71, IOVA, 0, 1)


def test_a_table_where_the_guest_has_no_memory_is_an_access_error_to_it() -> None:
    vmm = Vmm.make()
    events, _ = vmm.events()
    entry_at = vmm.guest.root + (IOVA >> 39) * 8
    vmm.guest.store(entry_at, BASE - PAGE | 0x27)
    vmm.program.host.machine.translate(RID, IOVA)
    assert [FRCD.decode(one.record).FR for one in vmm.read(events)] == [0x70]


def test_what_is_the_hosts_own_fault_is_kept_from_the_guest() -> None:
    vmm = Vmm.make()
    events, _ = vmm.events()
    vmm.guest.store(vmm.guest.leaf(IOVA), BASE - PAGE | 0x67)
    vmm.program.host.machine.translate(RID, IOVA)
    assert not vmm.read(events)
    assert [record.FR for record in vmm.program.host.unit.faults] == [0x79]


def test_hardware_records_again_after_its_records_were_read() -> None:
    vmm = Vmm.make()
    events, _ = vmm.events()
    for index in range(20):
        vmm.program.host.machine.translate(RID, IOVA + index * PAGE)
    assert len(vmm.program.host.unit.faults) == 20
    assert [FRCD.decode(one.record).FI for one in vmm.read(events)] == [IOVA + index * PAGE for index in range(20)]


def test_faults_beyond_the_queues_depth_are_lost_and_the_next_read_says_so() -> None:
    vmm = Vmm.make()
    events, _ = vmm.events(depth=2)
    for index in range(5):
        vmm.program.host.machine.translate(RID, IOVA + index * PAGE)
    size, out = uapi.VeventHeader.total + VeventVtd.total, vmm.program.buffer()
    got = events.read(vmm.program.process, out.address, PAGE)
    assert got == 2 * size + uapi.VeventHeader.total
    headers = [uapi.VeventHeader.decode(out.pages[at : at + uapi.VeventHeader.total]) for at in (0, size, 2 * size)]
    assert [(one.flags, one.sequence) for one in headers] == [(0, 0), (0, 1), (uapi.VeventFlags.LOST_EVENTS, 4)]
    assert len(vmm.program.host.unit.faults) == 5
    vmm.program.host.machine.translate(RID, IOVA)
    assert len(vmm.read(events)) == 1


# --- destruction


def test_objects_go_in_the_order_of_who_holds_whom_and_leave_nothing() -> None:
    vmm = Vmm.make()
    program = vmm.program
    for busy in (vmm.viommu, vmm.guest.parent, vmm.hwpt):
        assert program.fails(uapi.Destroy.of(id=busy)) == errno.EBUSY
    vmm.device.detach()
    vmm.device.unbind()
    program.file.release()
    assert len(program.host.unit.ids.taken) == 0
    program.clean()
