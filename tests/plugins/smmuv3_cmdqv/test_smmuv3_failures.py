"""Memory that runs out at the first, second, ... n-th moment, and users that mean harm, leave the SMMU as it was."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from attrs import define
from hypothesis import given
from hypothesis import strategies as st

from tests.plugins.smmuv3_cmdqv.guest import BASE, VSID
from tests.plugins.smmuv3_cmdqv.program import NEST, PAGE, PASID, SID, Program
from tests.plugins.smmuv3_cmdqv.test_smmuv3_vqueue import SYNC_COMMAND, guest_with_vintf, queue_command, queue_of
from viommu import Iotlb, Machine
from viommu.failure import fail_nth
from viommu.faults import Fault
from viommu.iommufd import uapi
from viommu.kernel_errors import KernelError
from viommu_smmuv3_cmdqv.spec import cmdqv_registers as spec
from viommu_smmuv3_cmdqv.spec.stream_table import STE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.plugins.smmuv3_cmdqv.guest import Guest
    from tests.plugins.smmuv3_cmdqv.test_smmuv3_vqueue import Queue
    from viommu.endpoint import Endpoint
    from viommu.objects.device import Device

MOST_POINTS = 60
IOVA = 0x40_0000


class Ground:
    """A program with a device of each kind of user, attached to nothing yet."""

    def __init__(self) -> None:
        self.program = Program.make()
        self.endpoint: Endpoint = self.program.machine.add_device(SID, pasid_bits=16)
        self.device: Device = self.program.bind(self.endpoint)
        self.ioas = self.program.ioas()
        self.program.map(self.ioas, IOVA, self.program.buffer())
        self.parent = self.program.hwpt(self.device, self.ioas, NEST)
        self.plain = self.program.hwpt(self.device, self.ioas, PASID)
        self.other = self.program.hwpt(self.device, self.ioas, PASID)
        self.guest, self.mapping = guest_with_vintf(self.program, SID + 8, VSID + 1)

    @property
    def state(self) -> tuple[object, ...]:
        """What a call that failed may not have changed."""
        smmu = self.program.smmu
        places = [
            len(found.domain.places)  # type: ignore[attr-defined]
            for found in self.program.file.context.table
            if found.kind == "HWPT_PAGING"
        ]
        objects = [found.id for found in self.program.file.context.table]
        block = smmu.cmdqv
        assert block is not None
        return smmu.vmids.taken.copy(), smmu.asids.taken.copy(), set(block.vintfs.taken), objects, places


def alloc_paging(ground: Ground) -> None:
    ground.program.hwpt(ground.device, ground.ioas)


def alloc_parent(ground: Ground) -> None:
    ground.program.hwpt(ground.device, ground.ioas, NEST)


def attach_stage1(ground: Ground) -> None:
    ground.device.attach(ground.plain)


def attach_stage2(ground: Ground) -> None:
    ground.device.attach(ground.parent)


def attach_pasid(ground: Ground) -> None:
    ground.device.attach(ground.plain, 0x7777)


def attach_ioas(ground: Ground) -> None:
    ground.device.attach(ground.ioas)


def make_viommu(ground: Ground) -> None:
    data = ground.program.buffer()
    cmd = uapi.ViommuAlloc.of(
        type=2, dev_id=ground.device.id, hwpt_id=ground.parent, data_len=16, data_uptr=data.ctypes.data
    )
    ground.program.must(cmd)


def make_vdevice(ground: Ground) -> None:
    ground.program.must(ground.guest.vdevice_command(ground.device, 0x77))


def make_nested(ground: Ground) -> None:
    ground.guest.nested(ground.guest.ste())


def make_queue(ground: Ground) -> None:
    ground.program.must(queue_command(ground.guest, BASE, 1024))


STEPS: list[Callable[[Ground], None]] = [
    alloc_paging,
    alloc_parent,
    attach_stage1,
    attach_stage2,
    attach_pasid,
    attach_ioas,
    make_viommu,
    make_vdevice,
    make_nested,
    make_queue,
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_a_step_that_fails_leaves_nothing_behind_and_succeeds_later(step: Callable[[Ground], None]) -> None:
    ground = Ground()
    before = ground.state
    for nth in range(1, MOST_POINTS):
        with fail_nth(nth) as injection:
            try:
                step(ground)
            except (KernelError, AssertionError):
                assert injection.happened
        if not injection.happened:
            break
        assert ground.state == before
        assert isinstance(ground.endpoint.dma_read(IOVA, 1), Fault)
    else:
        pytest.fail(f"more than {MOST_POINTS} failure points")
    assert nth > 1


def test_a_replacement_that_fails_leaves_what_was_there() -> None:
    ground = Ground()
    ground.device.attach(ground.plain)
    for nth in range(1, MOST_POINTS):
        with fail_nth(nth) as injection:
            try:
                ground.device.replace(ground.parent if nth % 2 else ground.other)
            except KernelError:
                assert injection.happened
        if not injection.happened:
            break
        assert ground.endpoint.dma_read(IOVA, 1) == b"\0"
    assert ground.endpoint.dma_read(IOVA, 1) == b"\0"
    ground.program.clean()


@define(eq=False)
class Attacked:
    """A guest that means harm, made once: what it does must not change what it can do."""

    guest: Guest
    queue: Queue
    home: int
    """The HWPT that its device is attached to."""

    @classmethod
    def make(cls) -> Attacked:
        program = Program.on(Machine("smmuv3_cmdqv", iotlb=Iotlb(entries=64)))
        guest, mapping = guest_with_vintf(program)
        (home,) = (found.id for found in program.file.context.table if found.kind == "HWPT_NESTED")
        return cls(guest, queue_of(guest, mapping), home)

    def read(self) -> object:
        return self.guest.program.machine.endpoints[0].dma_read(0x7000_0000, 6)


@pytest.fixture(scope="module")
def attacked() -> Attacked:
    return Attacked.make()


@given(raw=st.binary(min_size=16, max_size=16), config=st.sampled_from([0, 4, 5, 7]))
def test_no_bytes_of_an_ste_break_anything(attacked: Attacked, raw: bytes, config: int) -> None:
    """It is taken or refused; where it is taken, DMA ends in the guest's memory or in a fault."""
    guest = attacked.guest
    low, high = struct.unpack("<QQ", raw)
    ste = struct.pack("<QQ", low & ~0xF | 1 | config << 1, high & 0x3800_00FF)
    made = guest.program.call(guest.nested_command(STE.decode(ste.ljust(64, b"\0")))).out_hwpt_id
    if guest.program.result:
        return
    guest.device.replace(made)
    guest.program.machine.endpoints[0].dma_read(BASE, 8)
    guest.device.replace(attacked.home)
    assert guest.program.destroy(made) == 0
    assert attacked.read() == b"before"


@given(commands=st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=70))
def test_no_bytes_of_commands_break_anything(attacked: Attacked, commands: list[bytes]) -> None:
    guest = attacked.guest
    assert guest.program.call(guest.invalidate_command(*commands)).entry_num <= len(commands)
    guest.invalidate(b"\x30".ljust(16, b"\0"))
    assert attacked.read() == b"before"


PLACES = st.integers(0, 0xFFFF)


@given(stores=st.lists(st.tuples(PLACES, st.binary(min_size=1, max_size=8)), max_size=20), ring=st.binary(max_size=256))
def test_no_store_to_the_mapped_page_breaks_anything(
    attacked: Attacked, stores: list[tuple[int, bytes]], ring: bytes
) -> None:
    queue = attacked.queue
    attacked.guest.put(queue.base, ring)
    for place, data in stores:
        queue.page0.write(place, data)
        queue.page0.write(place & 0x7F & -len(data), data)
        queue.page0.read(place, len(data))
    for at, value in ((spec.VCMDQ_CONFIG_AT, 0), (spec.PROD_AT, 0), (spec.CONS_AT, 0), (spec.VCMDQ_CONFIG_AT, 1)):
        queue.write(at, value)
    queue.write(spec.GERRORN_AT, queue.read(spec.GERROR_AT))
    queue.written = 0
    queue.submit(*[SYNC_COMMAND] * 4)
    assert queue.consumed[0] == 4
    assert attacked.read() == b"before"


def test_a_gigabyte_is_mapped_and_unmapped_with_few_commands() -> None:
    program = Program.make()
    device, ioas = program.machine.add_device(SID), program.ioas()
    program.bind(device).attach(ioas)
    program.map(ioas, 1 << 30, program.buffer(1 << 30))
    before = program.machine.command_counts.total()
    program.unmap(ioas, 1 << 30, 1 << 30)
    assert program.machine.command_counts.total() - before <= 6
    assert isinstance(device.dma_read((1 << 30) + PAGE, 1), Fault)
