"""A guest's STE on a stage 2 of the host's: what is taken, what is refused, and where DMA goes."""

from __future__ import annotations

import errno

import pytest

from tests.plugins.smmuv3_cmdqv.guest import BASE, VSID, Guest
from tests.plugins.smmuv3_cmdqv.program import FIXED, NEST, PAGE, PASID, RECORDED, SID, Program, identity
from viommu.faults import Access, Fault
from viommu.iommufd import uapi
from viommu.kernel_errors import Busy, Invalid, NotThere
from viommu_smmuv3_cmdqv.spec.stream_table import STE, StreamConfig

IOVA = 0x7000_0000
EIO = errno.EIO


def guest_of(program: Program, sid: int = SID, **features: bool | int) -> Guest:
    device = program.machine.add_device(sid, **features)  # type: ignore[arg-type]
    return Guest.make(program, program.bind(device))


def test_dma_goes_through_both_stages() -> None:
    program = Program.make()
    guest = guest_of(program)
    guest.map(IOVA, b"nested")
    guest.attach()
    device = program.machine.endpoints[0]
    assert device.dma_read(IOVA, 6) == b"nested"
    assert device.dma_write(IOVA + 8, b"!") is None
    assert isinstance(device.dma_read(IOVA + PAGE, 1), Fault)
    guest.device.detach()
    assert isinstance(device.dma_read(IOVA, 1), Fault)
    program.clean()


def test_a_guests_bypass_is_stage_2_alone_and_its_abort_ends_everything() -> None:
    program = Program.make()
    guest = guest_of(program)
    guest.put(guest.page(), b"memory")
    guest.device.attach(guest.nested(STE(V=1, Config=StreamConfig.BYPASS)))
    device = program.machine.endpoints[0]
    assert device.dma_read(guest.next - PAGE, 6) == b"memory"
    for ste in (STE(V=1, Config=StreamConfig.ABORT), STE()):
        guest.device.replace(guest.nested(ste))
        assert isinstance(device.dma_read(BASE, 1), Fault)
    program.clean()


def test_stage_1_needs_a_vdevice_and_bypass_does_not() -> None:
    guest = guest_of(Program.make())
    hwpt = guest.nested(guest.ste())
    with pytest.raises(NotThere):
        guest.device.attach(hwpt)
    guest.vdevice(guest.device)
    guest.device.attach(hwpt)


def test_a_guests_table_that_stage_2_does_not_map_is_no_memory() -> None:
    program = Program.make()
    guest = guest_of(program)
    guest.attach(guest.ste(S1ContextPtr=BASE - PAGE))
    found = program.machine.endpoints[0].dma_read(IOVA, 1)
    assert isinstance(found, Fault)


@pytest.mark.parametrize(
    "more",
    [
        {"Config": 6},
        {"Config": 7},
        {"Config": 1},
        {"EATS": 2},
        {"EATS": 3},
        {"STRW": 2},
        {"SHCFG": 1},
        {"S2FWB": 1},
        {"MEV": 1},
        {"PRIVCFG": 2},
        {"DRE": 1},
        {"CONT": 1},
    ],
    ids=str,
)
def test_what_a_guest_may_not_decide_is_an_io_error(more: dict[str, int]) -> None:
    guest = guest_of(Program.make())
    assert guest.program.fails(guest.nested_command(guest.ste(**more))) == EIO


@pytest.mark.parametrize(
    "more",
    [{"S1Fmt": 2}, {"S1CDMax": 20}, {"S1DSS": 2}, {"S1CSH": 0}, {"S1STALLD": 1}, {"EATS": 1}, {"Config": 4, "EATS": 1}],
    ids=str,
)
def test_what_a_guest_decides_is_taken(more: dict[str, int]) -> None:
    guest = guest_of(Program.make())
    assert guest.nested(guest.ste(**more))


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"flags": PASID}, errno.EOPNOTSUPP),
        ({"data_type": 1}, errno.EINVAL),
        ({"data_len": 8}, errno.EINVAL),
        ({"data_len": 24}, errno.EINVAL),
        ({"data_uptr": 8}, errno.EFAULT),
        ({"data_type": 0, "data_len": 0}, errno.EOPNOTSUPP),
    ],
    ids=str,
)
def test_data_of_a_nested_hwpt_is_checked_in_the_kernels_order(more: dict[str, int], error: int) -> None:
    guest = guest_of(Program.make())
    assert guest.program.fails(guest.nested_command(guest.ste(), **more)) == error


def test_there_is_no_nesting_on_a_parent_without_a_viommu() -> None:
    guest = guest_of(Program.make())
    assert guest.program.fails(guest.nested_command(guest.ste(), pt_id=guest.parent)) == errno.EOPNOTSUPP


@pytest.mark.parametrize(("kind", "error"), [(0, errno.EOPNOTSUPP), (9, errno.EOPNOTSUPP)])
def test_types_of_viommus(kind: int, error: int) -> None:
    guest = guest_of(Program.make(RECORDED))
    cmd = uapi.ViommuAlloc.of(type=kind, dev_id=guest.device.id, hwpt_id=guest.parent)
    assert guest.program.fails(cmd) == error


def test_a_viommu_needs_a_parent_of_its_own_smmu() -> None:
    program = Program.make()
    guest = guest_of(program)
    there = program.bind(program.machine.add_device(SID, iommu=program.machine.add_iommu()))
    cmd = uapi.ViommuAlloc.of(type=1, dev_id=there.id, hwpt_id=guest.parent)
    assert program.fails(cmd) == errno.EINVAL


def test_a_viommu_needs_both_stages() -> None:
    program = Program.make(identity(IDR0_S2P=0))
    device = program.bind(program.machine.add_device(SID))
    cmd = uapi.ViommuAlloc.of(type=1, dev_id=device.id, hwpt_id=program.hwpt(device, program.ioas()))
    assert program.fails(cmd) == errno.EOPNOTSUPP


def test_nested_hwpts_do_not_go_with_pasids_of_the_host() -> None:
    program = Program.make()
    guest = guest_of(program, pasid_bits=4)
    guest.device.attach(program.hwpt(guest.device, program.ioas(), PASID), 3)
    guest.vdevice(guest.device)
    with pytest.raises((Busy, Invalid)):
        guest.device.attach(guest.nested(guest.ste()))


def test_a_guest_has_pasids_of_its_own() -> None:
    program = Program.make()
    guest = guest_of(program, pasid_bits=4)
    table, other = guest.page(), guest.page()
    guest.put(table, guest.descriptor(guest.root))
    guest.put(table + 2 * 64, guest.descriptor(other, asid=2))
    guest.map(IOVA, b"without")
    guest.map(IOVA, b"with", other)
    guest.attach(guest.ste(S1ContextPtr=table, S1CDMax=2, S1DSS=2))
    device = program.machine.endpoints[0]
    assert device.dma_read(IOVA, 7) == b"without"
    assert device.dma_read(IOVA, 4, 2) == b"with"
    assert isinstance(device.dma_read(IOVA, 1, 1), Fault)


def test_what_is_unmapped_from_the_parent_is_gone_for_the_guest_at_once() -> None:
    program = Program.make()
    guest = guest_of(program, ats=True)
    extra = program.buffer()
    program.map(guest.ioas, BASE + (64 << 20), extra)
    guest.store(guest.leaf(IOVA), BASE + (64 << 20) | 0x743)
    guest.attach(guest.ste(EATS=1))
    device = program.machine.endpoints[0]
    assert device.ats is not None
    assert not isinstance(device.dma_read(IOVA, 1), Fault)
    device.ats.translate(IOVA, Access.READ)
    program.unmap(guest.ioas, BASE + (64 << 20), PAGE)
    assert isinstance(device.dma_read(IOVA, 1), Fault)
    assert len(device.ats.tlb) == 0
    program.clean()


def test_ats_is_on_where_the_guest_asks_for_it() -> None:
    program = Program.make()
    guest = guest_of(program, ats=True)
    guest.vdevice(guest.device)
    device = program.machine.endpoints[0]
    for eats in (1, 0, 1):
        hwpt = guest.nested(guest.ste(EATS=eats))
        (guest.device.replace if program.master(device).attached else guest.device.attach)(hwpt)
        found = program.master(device).ste.EATS
        assert found == eats


def test_a_host_that_does_not_have_ats_gives_none() -> None:
    program = Program.make(identity(IDR0_ATS=0))
    guest = guest_of(program, ats=True)
    guest.attach(guest.ste(EATS=1))
    assert not program.master(program.machine.endpoints[0]).ste.EATS


def test_vdevices_are_known_by_their_number_once() -> None:
    program = Program.make()
    guest = guest_of(program)
    other = program.bind(program.machine.add_device(SID + 8))
    vdevice = guest.vdevice(guest.device)
    assert program.fails(guest.vdevice_command(guest.device, 1)) == errno.EEXIST
    assert program.fails(guest.vdevice_command(other)) == errno.EEXIST
    assert guest.vdevice(other, VSID + 1)
    assert program.destroy(vdevice) == 0
    assert guest.vdevice(guest.device)


def test_two_guests_on_one_smmu_have_nothing_to_do_with_each_other() -> None:
    program = Program.make()
    guests = [guest_of(program, sid) for sid in (SID, SID + 8)]
    for guest, text in zip(guests, (b"one", b"two"), strict=True):
        guest.map(IOVA, text)
        guest.attach()
    for device, text in zip(program.machine.endpoints, (b"one", b"two"), strict=True):
        assert device.dma_read(IOVA, 3) == text
    vmids = {program.master(device).ste.S2VMID for device in program.machine.endpoints}
    assert len(vmids) == 2
    assert 0 not in vmids


def test_a_read_only_parent_page_refuses_a_guests_write_and_the_guest_is_not_told() -> None:
    program = Program.make()
    guest = guest_of(program)
    program.map(guest.ioas, BASE + (64 << 20), program.buffer(), FIXED)
    guest.store(guest.leaf(IOVA), BASE + (64 << 20) | 0x743)
    guest.attach()
    events = guest.events()
    device = program.machine.endpoints[0]
    assert device.dma_read(IOVA, 1) == b"\0"
    assert isinstance(device.dma_write(IOVA, b"x"), Fault)
    assert events.read() == []
    assert len(program.smmu.log) == 1


def test_a_parent_with_a_viommu_cannot_be_destroyed_and_nothing_is_left_afterwards() -> None:
    program = Program.make()
    guest = guest_of(program)
    hwpt = guest.attach()
    assert program.destroy(guest.parent) == errno.EBUSY
    assert program.destroy(guest.viommu) == errno.EBUSY
    guest.device.detach()
    assert program.destroy(hwpt) == 0
    program.file.release()
    assert not program.smmu.vmids.taken


def test_vmids_run_out() -> None:
    program = Program.make(identity(IDR0_VMID16=0))
    device = program.bind(program.machine.add_device(SID))
    ioas = program.ioas()
    for _ in range(255):
        program.hwpt(device, ioas, NEST)
    assert program.fails(uapi.HwptAlloc.of(flags=NEST, dev_id=device.id, pt_id=ioas)) == errno.ENOSPC
