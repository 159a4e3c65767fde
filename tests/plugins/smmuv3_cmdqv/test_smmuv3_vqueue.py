"""Queues of a guest's own (Tegra241 CMDQV): a page that it maps, doorbells without a call, errors as events."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from attrs import define, field

from tests.plugins.smmuv3_cmdqv.guest import BASE, NG, VSID, Guest
from tests.plugins.smmuv3_cmdqv.program import FIXED, NEST, PAGE, RECORDED, SID, Program, identity
from viommu.faults import Access
from viommu.iommufd import uapi
from viommu.objects.mmap import RegisterMapping
from viommu_smmuv3_cmdqv.identity import GUEST_CMDQV
from viommu_smmuv3_cmdqv.spec import cmdqv_registers as spec
from viommu_smmuv3_cmdqv.spec.cmdqv_registers import VcmdqError
from viommu_smmuv3_cmdqv.spec.commands import (
    ATC_INV,
    CFGI_CD_ALL,
    SYNC,
    TLBI_NH_VA,
    CommandOpcode,
)

if TYPE_CHECKING:
    from viommu.endpoint import Endpoint
    from viommu.layout import Descriptor

IOVA = 0x7000_0000
LENGTH = 0x1_0000
SHARED, READ_WRITE = 1, 3
NH_VA = TLBI_NH_VA(Opcode=CommandOpcode.TLBI_NH_VA, ASID=1, Address=IOVA, Leaf=1)
SYNC_COMMAND = SYNC(Opcode=CommandOpcode.SYNC)


@define(eq=False)
class Queue:
    """A VCMDQ as its guest uses it: the ring in its memory, the registers in the page that it maps."""

    guest: Guest
    page0: RegisterMapping
    base: int
    lg2: int
    index: int = 0
    number: int = 0
    written: int = field(default=0, init=False)

    @property
    def place(self) -> int:
        return self.index * spec.VCMDQ_STRIDE

    def read(self, at: int) -> int:
        return int.from_bytes(self.page0.read(self.place + at, 4), "little")

    def write(self, at: int, value: int) -> None:
        self.page0.write(self.place + at, value.to_bytes(4, "little"))

    def enable(self) -> None:
        self.write(spec.VCMDQ_CONFIG_AT, 1)
        assert self.read(spec.VCMDQ_STATUS_AT) == 1

    def submit(self, *commands: Descriptor | bytes) -> None:
        for command in commands:
            raw = command if isinstance(command, bytes) else command.encode()
            self.guest.put(self.base + 16 * (self.written & (1 << self.lg2) - 1), raw)
            self.written = self.written + 1 & (2 << self.lg2) - 1
        self.write(spec.PROD_AT, self.written)

    @property
    def consumed(self) -> tuple[int, VcmdqError]:
        cons = self.read(spec.CONS_AT)
        return cons & 0xFFFFF, VcmdqError(cons >> 24 & 0x7F)


def guest_with_vintf(program: Program, sid: int = SID, vsid: int = VSID) -> tuple[Guest, RegisterMapping]:
    """A guest whose vIOMMU has an interface, of which it maps page 0; its device is attached."""
    data = program.buffer()
    device = program.bind(program.machine.add_device(sid, ats=True))
    guest = Guest.make(program, device, type=2, data_len=16, data_uptr=data.ctypes.data)
    offset, length = (int.from_bytes(data[at : at + 8].tobytes(), "little") for at in (0, 8))
    assert length == LENGTH
    mapping = program.file.mmap(length, READ_WRITE, SHARED, offset)
    assert isinstance(mapping, RegisterMapping)
    guest.map(IOVA, b"before")
    guest.vdevice(device, vsid)
    device.attach(guest.nested(guest.ste(EATS=1)))
    return guest, mapping


def queue_command(guest: Guest, base: int, length: int, index: int = 0, **more: int) -> uapi.HwQueueAlloc:
    fields = {"viommu_id": guest.viommu, "type": 1, "index": index, "nesting_parent_iova": base, "length": length}
    return uapi.HwQueueAlloc.of(**{**fields, **more})


def queue_of(guest: Guest, mapping: RegisterMapping, lg2: int = 6, index: int = 0) -> Queue:
    base = guest.page()
    made = guest.program.must(queue_command(guest, base, 16 << lg2, index))
    queue = Queue(guest, mapping, base, lg2, index, made.out_hw_queue_id)
    queue.enable()
    return queue


@pytest.fixture
def queue() -> Queue:
    return queue_of(*guest_with_vintf(Program.make()))


def endpoint(queue: Queue) -> Endpoint:
    return queue.guest.program.machine.endpoints[0]


def remap(queue: Queue) -> None:
    """Let a page be cached, then lead to another without telling."""
    guest = queue.guest
    assert endpoint(queue).dma_read(IOVA, 6) == b"before"
    page = guest.page()
    guest.put(page, b"after ")
    guest.store(guest.leaf(IOVA), page | 0x743 | NG)
    assert endpoint(queue).dma_read(IOVA, 6) == b"before"


def test_a_guest_invalidates_without_a_call(queue: Queue) -> None:
    remap(queue)
    queue.submit(NH_VA, SYNC_COMMAND)
    assert endpoint(queue).dma_read(IOVA, 6) == b"after "
    assert queue.consumed == (2, VcmdqError.CERROR_NONE)


def test_the_vmid_of_a_command_is_not_the_guests_to_say(queue: Queue) -> None:
    program = queue.guest.program
    other = queue_of(*guest_with_vintf(program, SID + 8, VSID + 1))
    remap(queue)
    vmid = program.master(endpoint(queue)).ste.S2VMID
    other.submit(NH_VA.replace(VMID=vmid), SYNC_COMMAND)
    assert endpoint(queue).dma_read(IOVA, 6) == b"before"


def test_a_guests_queue_reaches_its_devices_and_no_other(queue: Queue) -> None:
    program = queue.guest.program
    ats = endpoint(queue).ats
    other = queue_of(*guest_with_vintf(program, SID + 8, VSID + 1))
    assert ats is not None
    ats.translate(IOVA, Access.READ)
    other.submit(ATC_INV(Opcode=CommandOpcode.ATC_INV, SID=VSID, Size=52))
    assert other.consumed == (0, VcmdqError.CERROR_ILL_ACCESS)
    assert len(ats.tlb) == 1
    queue.submit(ATC_INV(Opcode=CommandOpcode.ATC_INV, SID=VSID, Size=52), SYNC_COMMAND)
    assert len(ats.tlb) == 0


def test_indices_wrap_as_in_any_queue() -> None:
    queue = queue_of(*guest_with_vintf(Program.make()), lg2=1)
    for turn in range(1, 9):
        remap(queue)
        queue.submit(NH_VA)
        assert endpoint(queue).dma_read(IOVA, 6) == b"after "
        assert queue.consumed[0] == turn & 3
        queue.guest.put(queue.guest.load(queue.guest.leaf(IOVA)) & 0xFFFF_FFFF_F000, b"before")
        queue.submit()


def test_what_the_guest_may_not_do_itself_it_asks_for_as_before(queue: Queue) -> None:
    """Both paths are used together: CFGI by a call, TLBI without one."""
    guest, root = queue.guest, queue.guest.page()
    remap(queue)
    guest.map(IOVA, b"other", root)
    guest.put(guest.cd, guest.descriptor(root, asid=2))
    queue.submit(NH_VA, SYNC_COMMAND)
    assert endpoint(queue).dma_read(IOVA, 6) == b"after "
    guest.invalidate(CFGI_CD_ALL(Opcode=CommandOpcode.CFGI_CD_ALL, SID=VSID))
    assert endpoint(queue).dma_read(IOVA, 5) == b"other"
    queue.submit(CFGI_CD_ALL(Opcode=CommandOpcode.CFGI_CD_ALL, SID=VSID))
    assert queue.consumed == (2, VcmdqError.CERROR_ILL_ACCESS)


def test_an_error_is_an_event_that_the_guest_acknowledges_itself(queue: Queue) -> None:
    events = queue.guest.events(kind=2)
    queue.submit(bytes(16), NH_VA)
    ((flags, sequence, raw),) = events.read(16)
    assert (flags, sequence, int.from_bytes(raw, "little")) == (0, 0, 1 << queue.index)
    assert queue.consumed == (0, VcmdqError.CERROR_ILL_OPCODE)
    queue.guest.put(queue.base, SYNC_COMMAND)
    queue.write(spec.GERRORN_AT, queue.read(spec.GERROR_AT))
    assert queue.consumed[0] == 2
    assert events.read(16) == []


def test_events_of_the_smmu_have_a_queue_of_their_own(queue: Queue) -> None:
    events, errors = queue.guest.events(), queue.guest.events(kind=2)
    endpoint(queue).translate(IOVA + PAGE)
    queue.submit(bytes(16))
    assert (len(events.read()), len(errors.read(16))) == (1, 1)


def test_a_queue_is_left_disabled_for_the_guest_to_enable() -> None:
    guest, mapping = guest_with_vintf(Program.make())
    base = guest.page()
    guest.program.must(queue_command(guest, base, 1024))
    queue = Queue(guest, mapping, base, 6)
    assert queue.read(spec.VCMDQ_STATUS_AT) == 0
    queue.submit(NH_VA)
    assert queue.consumed[0] == 0
    queue.enable()
    assert queue.consumed[0] == 1


def test_registers_of_a_queue_that_was_not_allocated_read_as_zero() -> None:
    _, mapping = guest_with_vintf(Program.make())
    mapping.write(spec.VCMDQ_CONFIG_AT, b"\1\0\0\0")
    assert mapping.read(0, LENGTH) == bytes(LENGTH)


@pytest.mark.parametrize(
    ("at", "length", "index", "more", "error"),
    [
        (0, 1024, 0, {"flags": 1}, errno.EOPNOTSUPP),
        (0, 1024, 0, {"type": 0}, errno.EOPNOTSUPP),
        (0, 1024, 0, {"type": 2}, errno.EOPNOTSUPP),
        (0, 0, 9, {}, errno.EINVAL),
        (0, 1024, 0, {"nesting_parent_iova": (1 << 64) - 512}, errno.EOVERFLOW),
        (0, 1024, 0, {"viommu_id": 999}, errno.ENOENT),
        (1 << 30, 1024, 9, {}, errno.ENOENT),  # nothing is mapped there, which comes before the index
        (0, 1024, 2, {}, errno.EINVAL),
        (0, 1024, 1, {}, errno.EIO),
        (0, 48, 0, {}, errno.EINVAL),
        (0, 16, 0, {}, errno.EINVAL),
        (0, 3 * PAGE, 0, {}, errno.EINVAL),
        (16, 32, 0, {}, errno.EINVAL),
        (512, 1024, 0, {}, errno.EINVAL),
    ],
)
def test_a_queue_is_checked_in_the_kernels_order(
    at: int, length: int, index: int, more: dict[str, int], error: int
) -> None:
    guest, _ = guest_with_vintf(Program.make())
    base = guest.page(4)
    assert guest.program.fails(queue_command(guest, base + at, length, index, **more)) == error
    guest.program.must(queue_command(guest, base, 1024))


def test_a_queue_is_no_larger_than_the_smmus_own_can_be() -> None:
    guest, _ = guest_with_vintf(Program.make(identity(IDR1_CMDQS=7)))
    base = guest.next + PAGE & -PAGE
    guest.page(4)
    assert guest.program.fails(queue_command(guest, base, PAGE)) == errno.EINVAL
    guest.program.must(queue_command(guest, base, PAGE // 2))


def test_memory_of_a_queue_is_contiguous_readable_and_stays_mapped() -> None:
    program = Program.make()
    guest, _ = guest_with_vintf(program)
    at = BASE + (64 << 20)
    for page in range(2):
        program.map(guest.ioas, at + page * PAGE, program.buffer(2 << 20)[:PAGE])
    program.map(guest.ioas, at + 2 * PAGE, program.buffer(), uapi.MapFlags.FIXED_IOVA | uapi.MapFlags.WRITEABLE)
    program.map(guest.ioas, at + 3 * PAGE, program.buffer(), FIXED)
    assert program.fails(queue_command(guest, at, 2 * PAGE)) == errno.EFAULT
    assert program.fails(queue_command(guest, at + 2 * PAGE, PAGE)) == errno.EPERM
    made = program.must(queue_command(guest, at + 3 * PAGE, PAGE))
    unmap = uapi.IoasUnmap.of(ioas_id=guest.ioas, iova=at + 3 * PAGE, length=PAGE)
    assert program.fails(unmap) == errno.EBUSY
    assert program.destroy(made.out_hw_queue_id) == 0
    program.must(unmap)


def test_queues_come_in_order_and_go_in_the_opposite_one() -> None:
    guest, mapping = guest_with_vintf(Program.make())
    first = queue_of(guest, mapping)
    second = queue_of(guest, mapping, index=1)
    program = guest.program
    assert program.fails(queue_command(guest, guest.page(), 1024)) == errno.EEXIST
    assert program.destroy(first.number) == errno.EBUSY
    second.submit(NH_VA)
    assert second.consumed[0] == 1
    assert program.destroy(second.number) == 0
    assert second.read(spec.CONS_AT) == 0
    assert program.destroy(first.number) == 0
    again = queue_of(guest, mapping)
    assert again.consumed == (0, VcmdqError.CERROR_NONE)


def test_a_destroyed_queue_reads_no_memory_and_leaves_no_error(queue: Queue) -> None:
    queue.submit(bytes(16))
    assert queue.guest.program.destroy(queue.number) == 0
    queue.write(spec.PROD_AT, 5)
    again = queue_of(queue.guest, queue.page0)
    assert again.consumed == (0, VcmdqError.CERROR_NONE)
    assert again.read(spec.GERROR_AT) == again.read(spec.GERRORN_AT)


def test_a_timeout_of_a_device_does_not_surface_with_the_next_owner(queue: Queue) -> None:
    ats = endpoint(queue).ats
    assert ats is not None
    ats.answers = False
    queue.submit(ATC_INV(Opcode=CommandOpcode.ATC_INV, SID=VSID, Size=52))
    assert queue.guest.program.destroy(queue.number) == 0
    again = queue_of(queue.guest, queue.page0)
    again.submit(SYNC_COMMAND)
    assert again.consumed == (1, VcmdqError.CERROR_NONE)


def test_a_vintf_goes_with_its_viommu_and_not_while_it_is_mapped() -> None:
    program = Program.make()
    guest, mapping = guest_with_vintf(program)
    guest.device.detach()
    for number in [number for number, _ in sorted(_objects(program).items(), reverse=True)]:
        if _objects(program)[number] in {"HWPT_NESTED", "VDEVICE"}:
            assert program.destroy(number) == 0
    assert program.destroy(guest.viommu) == errno.EBUSY
    mapping.close()
    assert program.destroy(guest.viommu) == 0
    assert not program.smmu.guests
    block = program.smmu.cmdqv
    assert block is not None
    assert not block.vintfs.taken


def _objects(program: Program) -> dict[int, str]:
    found = program.file.context.table._objects
    return {number: object_.kind for number, object_ in found.items() if object_ is not None}


def test_interfaces_run_out() -> None:
    program = Program.make(identity() | {"CMDQV_PARAM": 0x4231})  # 8 queues in 4 interfaces, one of them the host's
    device = program.bind(program.machine.add_device(SID))
    parent = program.hwpt(device, program.ioas(), NEST)
    cmd = uapi.ViommuAlloc.of(
        type=2, dev_id=device.id, hwpt_id=parent, data_len=16, data_uptr=program.buffer().ctypes.data
    )
    first = program.must(cmd)
    for _ in range(2):
        program.must(cmd)
    assert program.fails(cmd) == errno.ENOSPC
    assert program.destroy(first.out_viommu_id) == 0
    program.must(cmd)


def test_a_guest_has_no_interface_of_a_block_that_is_itself_a_guests() -> None:
    program = Program.make(identity() | {"CMDQV_PARAM": GUEST_CMDQV})
    device = program.bind(program.machine.add_device(SID))
    parent = program.hwpt(device, program.ioas(), NEST)
    cmd = uapi.ViommuAlloc.of(
        type=2, dev_id=device.id, hwpt_id=parent, data_len=16, data_uptr=program.buffer().ctypes.data
    )
    assert program.fails(cmd) == errno.ENOSPC


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"data_len": 0}, errno.EINVAL),
        ({"data_len": 8}, errno.EINVAL),
        ({"data_len": 24}, errno.EINVAL),
        ({"data_uptr": 16}, errno.EFAULT),
    ],
)
def test_data_of_a_viommu_is_checked_and_nothing_is_left(more: dict[str, int], error: int) -> None:
    program = Program.make()
    device = program.bind(program.machine.add_device(SID))
    parent = program.hwpt(device, program.ioas(), NEST)
    fields = {"type": 2, "dev_id": device.id, "hwpt_id": parent, "data_len": 16}
    cmd = uapi.ViommuAlloc.of(**{**fields, "data_uptr": program.buffer().ctypes.data, **more})
    assert program.fails(cmd) == error
    assert not program.smmu.guests
    assert program.destroy(parent) == 0


def test_without_a_cmdqv_there_is_neither_type_nor_queue() -> None:
    program = Program.make(RECORDED)
    device = program.bind(program.machine.add_device(SID))
    guest = Guest.make(program, device)
    cmd = uapi.ViommuAlloc.of(
        type=2, dev_id=device.id, hwpt_id=guest.parent, data_len=16, data_uptr=program.buffer().ctypes.data
    )
    assert program.fails(cmd) == errno.EOPNOTSUPP
    assert program.fails(queue_command(guest, guest.page(), 1024)) == errno.EOPNOTSUPP
    program.info(device, kind=3)
    assert program.result == -errno.EOPNOTSUPP


def test_hw_info_tells_what_one_guest_can_have() -> None:
    program = Program.make()
    device = program.bind(program.machine.add_device(SID))
    answer, raw = program.info(device, length=8, kind=3)
    assert (answer.data_len, answer.data_type, raw) == (8, 3, bytes((0, 0, 0, 0, 1, 1, 4, 0)))


def test_streams_of_a_guest_are_limited_and_have_20_bits() -> None:
    program = Program.make()
    guest, _ = guest_with_vintf(program)
    devices = [program.bind(program.machine.add_device(SID + 8 * n)) for n in range(1, 18)]
    assert program.fails(guest.vdevice_command(devices[0], 1 << 20)) == errno.EINVAL
    made = [guest.vdevice(device, 0x100 + n) for n, device in enumerate(devices[:15])]
    assert program.fails(guest.vdevice_command(devices[15], 0x200)) == errno.ENOSPC
    assert program.destroy(made[3]) == 0
    guest.vdevice(devices[15], 0xF_FFFF)


def test_a_vdevice_that_is_gone_matches_no_command(queue: Queue) -> None:
    program = queue.guest.program
    command = ATC_INV(Opcode=CommandOpcode.ATC_INV, SID=VSID, Size=52)
    queue.submit(command)
    vdevice = queue.guest.device.vdevice
    assert vdevice is not None
    assert program.destroy(vdevice.id) == 0
    queue.submit(command)
    assert queue.consumed == (1, VcmdqError.CERROR_ILL_ACCESS)


def test_closing_the_file_takes_everything_back() -> None:
    program = Program.make()
    guest, mapping = guest_with_vintf(program)
    queue_of(guest, mapping)
    mapping.close()
    guest.device.detach()
    guest.device.unbind()
    program.file.release()
    block = program.smmu.cmdqv
    assert block is not None
    assert not program.smmu.guests
    assert not block.vintfs.taken | program.smmu.vmids.taken
