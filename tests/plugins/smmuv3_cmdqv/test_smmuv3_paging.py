"""IOAS and paging HWPTs on an SMMU: DMA goes where the IOAS maps."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from tests.plugins.smmuv3_cmdqv.program import DIRTY, FIXED, NEST, PAGE, PASID, RECORDED, SID, Program, identity
from viommu.faults import Access, Fault
from viommu.iommufd import uapi
from viommu.kernel_errors import Busy, Invalid, NoDevice
from viommu_smmuv3_cmdqv.host.domain import Stage1Domain, Stage2Domain

if TYPE_CHECKING:
    from collections.abc import Mapping

IOVA = 0x40_0000
SMMUS: Mapping[str, Mapping[str, int]] = {
    "whole": identity(),
    "recorded": RECORDED,
    "linear stream table": identity(IDR0_ST_LEVEL=0, IDR1_SIDSIZE=8),
    "stage 2 only": identity(IDR0_S1P=0),
    "no ranges": identity(IDR3_RIL=0),
    "16K": identity(IDR5_GRAN4K=0),
}


def refused(outcome: object) -> bool:
    return isinstance(outcome, Fault)


@pytest.mark.parametrize("registers", [v for k, v in SMMUS.items() if k != "16K"], ids=[k for k in SMMUS if k != "16K"])
def test_dma_reads_and_writes_the_programs_memory(registers: Mapping[str, int]) -> None:
    program = Program.make(registers)
    device, ioas, buffer = program.machine.add_device(SID), program.ioas(), program.buffer(3 * PAGE)
    assert refused(device.dma_read(IOVA, 1))
    bound = program.bind(device)
    program.map(ioas, IOVA, buffer)
    bound.attach(ioas)
    buffer[PAGE - 2 : PAGE + 2] = list(b"pets")
    assert device.dma_read(IOVA + PAGE - 2, 4) == b"pets"
    assert device.dma_write(IOVA + 2 * PAGE, b"written") is None
    assert buffer[2 * PAGE : 2 * PAGE + 7].tobytes() == b"written"
    later = program.buffer()
    program.map(ioas, IOVA + 3 * PAGE, later)
    assert device.dma_write(IOVA + 3 * PAGE, b"later") is None
    assert later[:5].tobytes() == b"later"
    program.unmap(ioas, IOVA, 3 * PAGE)
    assert refused(device.dma_read(IOVA, 1))
    bound.detach()
    assert refused(device.dma_read(IOVA + 3 * PAGE, 1))
    bound.unbind()
    program.machine.remove_device(device)
    program.file.release()
    program.clean()
    assert not program.smmu.asids.taken | program.smmu.vmids.taken


@pytest.mark.parametrize("oas", range(1, 7), ids=[0, 36, 40, 42, 44, 48, 52].__getitem__)
@pytest.mark.parametrize("flags", [0, NEST], ids=["stage 1", "stage 2"])
def test_tables_fit_every_size_of_addresses(oas: int, flags: int) -> None:
    program = Program.make(identity(IDR5_OAS=oas))
    device, ioas = program.machine.add_device(SID), program.ioas()
    bound = program.bind(device)
    bound.attach(program.hwpt(bound, ioas, flags))
    bits = 48 if not flags else min(48, (32, 36, 40, 42, 44, 48, 52)[oas])
    for iova in (0, (1 << bits) - PAGE):
        buffer = program.buffer()
        buffer[:4] = list(b"here")
        program.map(ioas, iova, buffer)
        assert device.dma_read(iova, 4) == b"here"
    beyond = uapi.IoasMap.of(flags=7, ioas_id=ioas, user_va=program.buffer().ctypes.data, length=PAGE, iova=1 << bits)
    assert program.fails(beyond) == errno.EINVAL
    program.clean()


def test_memory_that_the_smmu_cannot_address_is_not_mapped() -> None:
    program = Program.make(identity(IDR5_OAS=0))
    ioas = program.ioas()
    program.hwpt(program.bind(program.machine.add_device(SID)), ioas)
    cmd = uapi.IoasMap.of(flags=7, ioas_id=ioas, user_va=program.buffer().ctypes.data, length=PAGE, iova=0)
    assert program.fails(cmd) == errno.ERANGE


def test_an_smmu_whose_pages_are_larger_than_the_hosts_cannot_be_used_with_an_ioas() -> None:
    program = Program.make(SMMUS["16K"])
    bound = program.bind(program.machine.add_device(SID))
    with pytest.raises(Invalid):
        bound.attach(program.ioas())


def test_an_smmu_without_a_stage_or_with_a_tiny_queue_is_no_device_of_this_driver() -> None:
    for registers in (identity(IDR0_S1P=0, IDR0_S2P=0), identity(IDR1_CMDQS=5)):
        program = Program.make(registers)
        with pytest.raises(NoDevice):
            program.machine.add_device(SID)


def test_read_only_mappings_refuse_writes_and_the_host_keeps_the_record() -> None:
    program = Program.make()
    device, ioas = program.machine.add_device(SID), program.ioas()
    program.map(ioas, IOVA, program.buffer(), FIXED)
    program.bind(device).attach(ioas)
    assert device.dma_read(IOVA, 1) == b"\0"
    assert refused(device.dma_write(IOVA, b"x"))
    (record,) = program.smmu.log
    assert record.SID == SID


def test_replacing_an_ioas_moves_dma_at_once() -> None:
    program = Program.make()
    device, one, other = program.machine.add_device(SID), program.ioas(), program.ioas()
    bound = program.bind(device)
    for ioas, text in ((one, b"one"), (other, b"two")):
        buffer = program.buffer()
        buffer[:3] = list(text)
        program.map(ioas, IOVA, buffer)
    bound.attach(one)
    assert device.dma_read(IOVA, 3) == b"one"
    bound.replace(other)
    assert device.dma_read(IOVA, 3) == b"two"
    program.clean()


def test_large_mappings_have_large_leaves_and_are_forgotten_whole() -> None:
    program = Program.make()
    device, ioas = program.machine.add_device(SID), program.ioas()
    program.bind(device).attach(ioas)
    program.map(ioas, 0x4000_0000, program.buffer(4 << 20))
    found = device.translate(0x4030_0000)
    assert not isinstance(found, Fault)
    assert found.page_size == 2 << 20
    program.unmap(ioas, 0x4000_0000, 4 << 20)
    assert refused(device.translate(0x4030_0000))
    program.clean()


def test_pasids_are_attached_beside_the_rid_and_each_is_an_address_space() -> None:
    program = Program.make()
    device = program.machine.add_device(SID, pasid_bits=8)
    bound = program.bind(device)
    texts = {0: b"rid", 5: b"five", 200: b"many"}
    for pasid, text in texts.items():
        ioas, buffer = program.ioas(), program.buffer()
        buffer[: len(text)] = list(text)
        program.map(ioas, IOVA, buffer)
        bound.attach(program.hwpt(bound, ioas, PASID), pasid)
    for pasid, text in texts.items():
        assert device.dma_read(IOVA, len(text), pasid or None) == text
    bound.detach(5)
    assert refused(device.dma_read(IOVA, 1, 5))
    bound.detach()
    assert refused(device.dma_read(IOVA, 1))
    assert device.dma_read(IOVA, 4, 200) == b"many"
    bound.detach(200)
    assert not program.master(device).ste.Config
    program.clean()


def test_more_pasids_than_one_leaf_of_cds_need_another() -> None:
    program = Program.make()
    device = program.machine.add_device(SID, pasid_bits=20)
    bound = program.bind(device)
    for pasid in (1, 1023, 1024, 0xFFFFF):
        ioas = program.ioas()
        program.map(ioas, IOVA, program.buffer())
        bound.attach(program.hwpt(bound, ioas, PASID), pasid)
        assert device.dma_read(IOVA, 1, pasid) == b"\0"
    assert refused(device.dma_read(IOVA, 1, 1025))


def test_a_pasid_needs_a_domain_of_stage_1_and_so_does_the_rid_beside_it() -> None:
    program = Program.make()
    device = program.machine.add_device(SID, pasid_bits=4)
    bound, ioas = program.bind(device), program.ioas()
    parent, plain = program.hwpt(bound, ioas, NEST), program.hwpt(bound, ioas, PASID)
    with pytest.raises(Invalid):
        bound.attach(parent, 3)
    with pytest.raises(Invalid):
        bound.attach(plain, 16)
    bound.attach(plain, 3)
    with pytest.raises((Busy, Invalid)):
        bound.attach(parent)
    assert device.physical.data.attached.keys() == {3}


@pytest.mark.parametrize(
    ("flags", "kind"), [(0, Stage1Domain), (PASID, Stage1Domain), (DIRTY | PASID, Stage1Domain), (NEST, Stage2Domain)]
)
def test_which_stage_a_domain_is_of(flags: int, kind: type) -> None:
    program = Program.make()
    bound = program.bind(program.machine.add_device(SID))
    number = program.hwpt(bound, program.ioas(), flags)
    assert type(program.file.context.table.any(number, "hwpt_id").domain) is kind  # type: ignore[attr-defined]


@pytest.mark.parametrize("flags", [NEST | DIRTY, NEST | PASID, 0x10], ids=str)
def test_combinations_of_flags_that_linux_does_not_know_are_not_supported(flags: int) -> None:
    program = Program.make()
    bound = program.bind(program.machine.add_device(SID))
    cmd = uapi.HwptAlloc.of(flags=flags, dev_id=bound.id, pt_id=program.ioas())
    assert program.fails(cmd) == errno.EOPNOTSUPP


def test_nesting_needs_both_stages_and_dirty_tracking_needs_hardware_that_keeps_it() -> None:
    for registers, flags in ((identity(IDR0_S1P=0), NEST), (identity(IDR0_HTTU=1), DIRTY)):
        program = Program.make(registers)
        bound = program.bind(program.machine.add_device(SID))
        cmd = uapi.HwptAlloc.of(flags=flags, dev_id=bound.id, pt_id=program.ioas())
        assert program.fails(cmd) == errno.EOPNOTSUPP


def test_dirty_tracking_reports_what_devices_wrote_since_the_last_look() -> None:
    program = Program.make()
    device, ioas = program.machine.add_device(SID), program.ioas()
    bound = program.bind(device)
    hwpt = program.hwpt(bound, ioas, DIRTY)
    program.map(ioas, IOVA, program.buffer(16 * PAGE))
    bound.attach(hwpt)
    device.dma_write(IOVA, b"before")
    program.must(uapi.HwptSetDirtyTracking.of(hwpt_id=hwpt, flags=1))

    def dirty() -> int:
        bitmap = program.buffer()
        program.must(
            uapi.HwptGetDirtyBitmap.of(
                hwpt_id=hwpt, iova=IOVA, length=16 * PAGE, page_size=PAGE, data=bitmap.ctypes.data
            )
        )
        return int.from_bytes(bitmap[:2].tobytes(), "little")

    assert dirty() == 0
    device.dma_write(IOVA + 3 * PAGE, b"x")
    device.dma_read(IOVA + 4 * PAGE, 1)
    device.dma_write(IOVA + 15 * PAGE, b"x")
    assert dirty() == 1 << 3 | 1 << 15
    assert dirty() == 0
    device.dma_write(IOVA + 3 * PAGE, b"again")
    assert dirty() == 1 << 3
    program.clean()


def test_a_device_of_another_smmu_does_not_fit_a_domain() -> None:
    program = Program.make()
    other = program.machine.add_iommu()
    here, there = program.machine.add_device(SID), program.machine.add_device(SID, iommu=other)
    mine, strange, ioas = program.bind(here), program.bind(there), program.ioas()
    hwpt = program.hwpt(mine, ioas)
    with pytest.raises(Invalid):
        strange.attach(hwpt)
    program.map(ioas, IOVA, program.buffer())
    mine.attach(ioas)
    strange.attach(ioas)  # a second automatic HWPT, on the other SMMU
    for device in (here, there):
        assert device.dma_read(IOVA, 1) == b"\0"


def test_the_window_of_interrupt_messages_is_kept_free_while_a_device_is_attached() -> None:
    program = Program.make()
    bound, ioas = program.bind(program.machine.add_device(SID)), program.ioas()
    bound.attach(ioas)
    cmd = uapi.IoasMap.of(
        flags=3 | 4, ioas_id=ioas, user_va=program.buffer().ctypes.data, length=PAGE, iova=0x0800_0000
    )
    assert program.fails(cmd) == errno.EINVAL
    bound.detach()
    program.must(cmd)


def test_a_reset_leaves_attachments_and_empties_the_devices_tlb() -> None:
    program = Program.make()
    device, ioas = program.machine.add_device(SID, ats=True, pasid_bits=4), program.ioas()
    bound, buffer = program.bind(device), program.buffer()
    program.map(ioas, IOVA, buffer)
    bound.attach(program.hwpt(bound, ioas, PASID))
    bound.attach(program.hwpt(bound, ioas, PASID), 2)
    assert device.ats is not None
    device.ats.translate(IOVA, Access.READ)
    assert len(device.ats.tlb) == 1
    device.reset()
    assert len(device.ats.tlb) == 0
    assert device.dma_read(IOVA, 1) == b"\0"
    assert device.dma_read(IOVA, 1, 2) == b"\0"
    program.clean()


def test_unmapping_empties_the_devices_tlb_too() -> None:
    program = Program.make()
    device, ioas = program.machine.add_device(SID, ats=True), program.ioas()
    program.bind(device).attach(ioas)
    assert device.ats is not None
    for iova in (IOVA, IOVA + 64 * PAGE):
        program.map(ioas, iova, program.buffer(8 * PAGE))
        device.ats.translate(iova + 5 * PAGE, Access.READ)
    program.unmap(ioas, IOVA, 8 * PAGE)
    assert len(device.ats.tlb) == 1
    program.clean()


def test_hw_info_shows_the_registers_as_they_are() -> None:
    program = Program.make(RECORDED)
    bound = program.bind(program.machine.add_device(SID))
    answer, raw = program.info(bound, length=48)
    assert (program.result, answer.data_len, answer.data_type) == (0, 40, 2)
    assert answer.out_capabilities == uapi.HwCapabilities.ATS_NOT_SUPPORTED
    words = [RECORDED.get(f"IDR{n}", 0) for n in range(6)] + [0, RECORDED["AIDR"], 0, 0]
    assert raw == b"".join(word.to_bytes(4, "little") for word in (0, 0, *words))


def test_hw_info_tells_what_device_and_smmu_have_together() -> None:
    program = Program.make()
    bound = program.bind(program.machine.add_device(SID, ats=True, pasid_bits=6))
    answer, _ = program.info(bound)
    assert answer.out_capabilities == uapi.HwCapabilities.DIRTY_TRACKING
    assert answer.out_max_pasid_log2 == 6
    program.info(bound, kind=1)
    assert program.result == -errno.EOPNOTSUPP
