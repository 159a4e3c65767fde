"""IOAS and paging HWPTs on VT-d: DMA goes where the IOAS maps."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from tests.plugins.vtd.host import Host
from tests.plugins.vtd.program import FIXED, PAGE, RID, Program
from viommu.faults import Access, Fault
from viommu.iommufd import uapi
from viommu_vtd.hardware.live.register_map import FULL_CAP, FULL_ECAP
from viommu_vtd.host.paging import FirstStageDomain, SecondStageDomain

if TYPE_CHECKING:
    from viommu_vtd.spec.registers import CAP, ECAP

IOVA = 0x40_0000
NEST, DIRTY, PASID = uapi.HwptFlags.NEST_PARENT, uapi.HwptFlags.DIRTY_TRACKING, uapi.HwptFlags.PASID
UNITS = {
    "scalable": (FULL_CAP, FULL_ECAP),
    "legacy": (FULL_CAP, FULL_ECAP.replace(SMTS=0)),
    "second stage only": (FULL_CAP, FULL_ECAP.replace(FSTS=0)),
    "caching mode": (FULL_CAP.replace(CM=1), FULL_ECAP.replace(FSTS=0)),
}


@pytest.mark.parametrize(("cap", "ecap"), UNITS.values(), ids=UNITS)
def test_dma_reads_and_writes_the_programs_memory(cap: CAP, ecap: ECAP) -> None:
    program = Program.make(cap, ecap)
    machine, ioas, buffer = program.host.machine, program.ioas(), program.buffer(3 * PAGE)
    device = program.bind(program.host.device(RID))
    program.map(ioas, IOVA, buffer)
    device.attach(ioas)
    buffer.pages[PAGE - 2 : PAGE + 2] = b"pets"
    assert machine.dma_read(RID, IOVA + PAGE - 2, 4) == b"pets"
    assert machine.dma_write(RID, IOVA + 2 * PAGE, b"written") is None
    assert buffer.pages[2 * PAGE : 2 * PAGE + 7] == b"written"
    later = program.buffer()
    program.map(ioas, IOVA + 3 * PAGE, later)
    assert machine.dma_write(RID, IOVA + 3 * PAGE, b"later") is None
    assert later.pages[:5] == b"later"
    program.unmap(ioas, IOVA, 3 * PAGE)
    assert isinstance(machine.dma_read(RID, IOVA, 1), Fault)
    device.detach()
    assert isinstance(machine.dma_read(RID, IOVA + 3 * PAGE, 1), Fault)
    device.unbind()
    program.file.release()
    program.clean()
    assert len(program.host.unit.ids.taken) == 0


def test_read_only_mappings_refuse_writes() -> None:
    program = Program.make()
    ioas, machine = program.ioas(), program.host.machine
    program.map(ioas, IOVA, program.buffer(), FIXED)
    program.bind(program.host.device(RID)).attach(ioas)
    assert machine.dma_read(RID, IOVA, 1) == b"\0"
    assert isinstance(machine.dma_write(RID, IOVA, b"x"), Fault)


def test_replacing_an_ioas_moves_dma_at_once() -> None:
    program = Program.make()
    machine, one, other = program.host.machine, program.ioas(), program.ioas()
    device = program.bind(program.host.device(RID))
    buffers = [program.buffer(), program.buffer()]
    for ioas, buffer, text in zip((one, other), buffers, (b"one", b"two"), strict=True):
        buffer.pages[:3] = text
        program.map(ioas, IOVA, buffer)
    device.attach(one)
    assert machine.dma_read(RID, IOVA, 3) == b"one"
    device.replace(other)
    assert machine.dma_read(RID, IOVA, 3) == b"two"
    program.clean()


def test_pasids_are_attached_beside_the_rid() -> None:
    program = Program.make()
    machine = program.host.machine
    device = program.bind(program.host.device(RID, pasids=1 << 20))
    for pasid, text in ((0, b"rid"), (5, b"five"), (6, b"six")):
        ioas, buffer = program.ioas(), program.buffer()
        buffer.pages[: len(text)] = text
        program.map(ioas, IOVA, buffer)
        device.attach(program.hwpt(device, ioas, PASID), pasid)
    assert machine.dma_read(RID, IOVA, 3) == b"rid"
    assert machine.dma_read(RID, IOVA, 4, pasid=5) == b"five"
    device.detach(5)
    assert isinstance(machine.dma_read(RID, IOVA, 4, pasid=5), Fault)
    assert machine.dma_read(RID, IOVA, 3, pasid=6) == b"six"
    program.clean()


@pytest.mark.parametrize(
    ("ecap", "flags", "kind"),
    [
        (FULL_ECAP, 0, FirstStageDomain),
        (FULL_ECAP, PASID, FirstStageDomain),
        (FULL_ECAP, NEST, SecondStageDomain),
        (FULL_ECAP, DIRTY, SecondStageDomain),
        (FULL_ECAP, NEST | DIRTY | PASID, SecondStageDomain),
        (FULL_ECAP.replace(FSTS=0), PASID, SecondStageDomain),
        (FULL_ECAP.replace(SMTS=0), 0, SecondStageDomain),
    ],
)
def test_a_hwpt_is_first_stage_unless_something_is_asked_that_second_stage_alone_has(
    ecap: ECAP, flags: int, kind: type
) -> None:
    program = Program.make(ecap=ecap)
    device = program.bind(program.host.device(RID))
    hwpt = program.hwpt(device, program.ioas(), flags)
    assert type(program.file.context.table.any(hwpt, "id").domain) is kind  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("cap", "ecap", "flags"),
    [
        (FULL_CAP, FULL_ECAP.replace(NEST=0), NEST),
        (FULL_CAP, FULL_ECAP.replace(SSADS=0), DIRTY),
        (FULL_CAP, FULL_ECAP.replace(SSTS=0), NEST),
        (FULL_CAP, FULL_ECAP.replace(SMTS=0), NEST),
        (FULL_CAP, FULL_ECAP.replace(SMTS=0), DIRTY),
        (FULL_CAP.replace(SAGAW=0), FULL_ECAP, NEST),
    ],
)
def test_what_the_unit_lacks_is_not_supported(cap: CAP, ecap: ECAP, flags: int) -> None:
    program = Program.make(cap, ecap)
    device = program.bind(program.host.device(RID))
    cmd = uapi.HwptAlloc.of(flags=flags, dev_id=device.id, pt_id=program.ioas())
    assert program.fails(cmd) == errno.EOPNOTSUPP


def test_a_paging_hwpt_takes_no_driver_data() -> None:
    program = Program.make()
    device = program.bind(program.host.device(RID))
    assert program.fails(program.nested_command(device, program.ioas(), 0)) == errno.EOPNOTSUPP


def test_a_nesting_parent_refuses_read_only_mappings_and_leaves_nothing_behind() -> None:
    program = Program.make()
    device, ioas = program.bind(program.host.device(RID)), program.ioas()
    program.hwpt(device, ioas, NEST)
    buffer = program.buffer()
    cmd = uapi.IoasMap.of(flags=FIXED, ioas_id=ioas, user_va=buffer.address, length=PAGE, iova=IOVA)
    assert program.fails(cmd) == errno.EINVAL
    program.map(ioas, IOVA, buffer)


@pytest.mark.parametrize(("pt", "last"), [(0, (1 << 56) - 1), (NEST, (1 << 57) - 1)])
def test_iovas_end_where_the_stage_does_and_leave_the_interrupt_range_out(pt: int, last: int) -> None:
    program = Program.make()
    device, ioas = program.bind(program.host.device(RID)), program.ioas()
    device.attach(program.hwpt(device, ioas, pt))
    out = program.buffer()
    cmd = uapi.IoasIovaRanges.of(ioas_id=ioas, num_iovas=8, allowed_iovas=out.address)
    assert program.must(cmd).num_iovas == 2
    words = [int.from_bytes(out.pages[at : at + 8], "little") for at in range(0, 32, 8)]
    assert words == [0, 0xFEDF_FFFF, 0xFEF0_0000, last]


@pytest.mark.parametrize("data_type", [0, 1])
def test_hw_info_shows_the_capability_registers(data_type: int) -> None:
    program = Program.make()
    device = program.bind(program.host.device(RID, ats=True, pasids=1 << 20))
    out = program.buffer()
    cmd = uapi.HwInfo.of(
        flags=1 if data_type else 0, dev_id=device.id, data_len=24, data_uptr=out.address, data_type=data_type
    )
    after = program.must(cmd)
    assert (after.data_type, after.data_len, after.out_max_pasid_log2) == (1, 24, 20)
    assert after.out_capabilities == uapi.HwCapabilities.DIRTY_TRACKING
    info = uapi.HwInfoVtd.decode(out.pages[:24])
    assert (info.flags, info.cap_reg, info.ecap_reg) == (1, int(FULL_CAP), int(FULL_ECAP))


def test_another_vendors_registers_are_not_supported() -> None:
    program = Program.make()
    device = program.bind(program.host.device(RID))
    assert program.fails(uapi.HwInfo.of(flags=1, dev_id=device.id, data_type=2)) == errno.EOPNOTSUPP


def test_programs_on_one_unit_do_not_reach_each_others_memory() -> None:
    host = Host.make()
    programs = [Program.on(host) for _ in range(2)]
    for index, program in enumerate(programs):
        ioas, buffer = program.ioas(), program.buffer()
        buffer.pages[:1] = bytes([index + 1])
        program.map(ioas, IOVA, buffer)
        program.bind(host.device(RID + index)).attach(ioas)
    assert [host.machine.dma_read(RID + index, IOVA, 1) for index in range(2)] == [b"\1", b"\2"]
    assert isinstance(host.machine.translate(RID + 2, IOVA, Access.READ), Fault)
