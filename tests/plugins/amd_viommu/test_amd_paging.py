"""Paging HWPTs on AMD: alloc, attach, map, unmap, replace, detach, by ioctls and DMA."""

from __future__ import annotations

import errno

import pytest

from tests.plugins.amd_viommu.program import AHEAD, FIXED, PAGE, RID, Program
from viommu.faults import Access
from viommu.iommufd import uapi
from viommu.iommufd.uapi import HwptFlags
from viommu_amd_viommu.hardware.features import MODELLED, MODELLED2
from viommu_amd_viommu.spec.registers import EFR, EFR2

IOVA = 0x4000_0000


@pytest.fixture
def program() -> Program:
    return Program.make()


def without(**bits: int) -> dict[str, int]:
    efr = {name: value for name, value in bits.items() if name in EFR.fields}
    efr2 = {name: value for name, value in bits.items() if name in EFR2.fields}
    return {"EFR": int(MODELLED.replace(**efr)), "EFR2": int(MODELLED2.replace(**efr2))}


def test_a_device_that_nothing_is_attached_to_reaches_nothing(program: Program) -> None:
    program.machine.add_device(RID)

    assert program.reaches(0x1000) == "IO_PAGE_FAULT"
    assert program.reaches(0x1000, requester=RID + 1) == "IO_PAGE_FAULT"


def test_what_an_ioas_maps_is_what_a_device_reads_and_writes(program: Program) -> None:
    device = program.bind(program.machine.add_device(RID))
    ioas, memory = program.ioas(), program.buffer(text=b"as the program left it")
    program.map(ioas, IOVA, memory)
    device.attach(ioas)

    assert program.text_at(IOVA, 22) == b"as the program left it"
    assert program.machine.dma_write(RID, IOVA + 5, b"device") is None
    assert memory.pages[:11] == b"as thdevice"
    program.clean()


def test_a_mapping_made_later_is_reached_and_one_taken_away_is_not(program: Program) -> None:
    device = program.bind(program.machine.add_device(RID))
    ioas = program.ioas()
    device.attach(ioas)
    program.map(ioas, IOVA, program.buffer())
    assert isinstance(program.reaches(IOVA), int)

    program.unmap(ioas, IOVA)

    assert program.reaches(IOVA) == "IO_PAGE_FAULT"
    program.clean()


def test_a_page_that_may_be_read_alone_takes_no_writes(program: Program) -> None:
    device = program.bind(program.machine.add_device(RID))
    ioas = program.ioas()
    program.map(ioas, IOVA, program.buffer(), FIXED)
    device.attach(ioas)

    assert isinstance(program.reaches(IOVA), int)
    assert program.reaches(IOVA, Access.WRITE) == "IO_PAGE_FAULT"


@pytest.mark.parametrize("flags", [0, HwptFlags.NEST_PARENT, HwptFlags.DIRTY_TRACKING, HwptFlags.PASID])
def test_every_kind_of_domain_carries_dma_and_forgets_what_is_unmapped(program: Program, flags: int) -> None:
    device = program.bind(program.machine.add_device(RID, pasid_bits=8))
    ioas = program.ioas()
    program.map(ioas, IOVA, program.buffer(text=b"here"))
    device.attach(program.hwpt(device, ioas, flags))
    assert program.text_at(IOVA, 4) == b"here"

    program.unmap(ioas, IOVA)

    assert program.reaches(IOVA) == "IO_PAGE_FAULT"
    program.clean()


@pytest.mark.parametrize("before", [0, HwptFlags.PASID])
@pytest.mark.parametrize("after", [0, HwptFlags.PASID])
def test_replace_takes_a_device_from_one_memory_to_another(program: Program, before: int, after: int) -> None:
    device = program.bind(program.machine.add_device(RID, pasid_bits=4))
    for place, (text, flags) in enumerate([(b"old", before), (b"new", after)]):
        ioas = program.ioas()
        program.map(ioas, IOVA, program.buffer(text=text))
        hwpt = program.hwpt(device, ioas, flags)
        device.replace(hwpt) if place else device.attach(hwpt)
        assert program.text_at(IOVA, 3) == text
    program.clean()


def test_a_detached_device_reaches_nothing_and_leaves_nothing(program: Program) -> None:
    endpoint = program.machine.add_device(RID, pasid_bits=8, ats=True)
    device = program.bind(endpoint)
    ids = program.unit.ids.take("a test")
    program.unit.ids.give_back(ids)
    ioas = program.ioas()
    program.map(ioas, IOVA, program.buffer())
    for flags in (0, HwptFlags.PASID):
        device.attach(program.hwpt(device, ioas, flags))
        assert isinstance(program.reaches(IOVA), int)
        device.detach()
        assert program.reaches(IOVA) == "IO_PAGE_FAULT"
    assert program.unit.ids.take("a test") == ids
    assert int(program.entry()) == 1
    program.clean()


def test_two_devices_on_one_hwpt_share_a_domain_and_leave_one_by_one(program: Program) -> None:
    first = program.bind(program.machine.add_device(RID))
    second = program.bind(program.machine.add_device(RID + 8))
    ioas = program.ioas()
    program.map(ioas, IOVA, program.buffer())
    hwpt = program.hwpt(first, ioas)
    first.attach(hwpt)
    second.attach(hwpt)
    assert program.entry(RID).DomainID == program.entry(RID + 8).DomainID

    first.detach()

    assert program.reaches(IOVA) == "IO_PAGE_FAULT"
    assert isinstance(program.reaches(IOVA, requester=RID + 8), int)


def test_the_tlb_of_a_device_forgets_what_is_unmapped(program: Program) -> None:
    endpoint = program.machine.add_device(RID, ats=True)
    device = program.bind(endpoint)
    ioas = program.ioas()
    program.map(ioas, IOVA, program.buffer(16 * PAGE))
    device.attach(ioas)
    assert endpoint.ats is not None
    for page in range(16):
        endpoint.ats.translate(IOVA + page * PAGE)
    assert len(endpoint.ats.tlb) == 16

    program.unmap(ioas, IOVA, 16 * PAGE)

    assert not len(endpoint.ats.tlb)
    program.clean()


# --- what alloc refuses


@pytest.mark.parametrize(
    ("flags", "lacks"),
    [
        (HwptFlags.PASID | HwptFlags.NEST_PARENT, {}),
        (HwptFlags.PASID | HwptFlags.DIRTY_TRACKING, {}),
        (HwptFlags.DIRTY_TRACKING, {"HD": 0}),
        (HwptFlags.NEST_PARENT, {"GT": 0}),
        (HwptFlags.NEST_PARENT, {"GIO": 0}),
        (HwptFlags.NEST_PARENT, {"GCR3TRPMode": 0}),
        (HwptFlags.PASID, {"PPR": 0}),
        (HwptFlags.PASID, {"GIO": 0}),
    ],
)
def test_alloc_refuses_what_the_hardware_or_no_amd_iommu_has(flags: int, lacks: dict[str, int]) -> None:
    program = Program.make(registers=without(**lacks))
    device = program.bind(program.machine.add_device(RID))

    assert program.fails(uapi.HwptAlloc.of(flags=flags, dev_id=device.id, pt_id=program.ioas())) == errno.EOPNOTSUPP


def test_alloc_takes_no_driver_data(program: Program) -> None:
    device = program.bind(program.machine.add_device(RID))
    data = program.buffer()
    cmd = uapi.HwptAlloc.of(dev_id=device.id, pt_id=program.ioas(), data_type=3, data_len=32, data_uptr=data.address)

    assert program.fails(cmd) == errno.EOPNOTSUPP


def test_without_host_tables_an_ioas_is_in_guest_tables() -> None:
    program = Program.make(registers=without(HATS=3, HD=0))
    device = program.bind(program.machine.add_device(RID))
    ioas = program.ioas()
    program.map(ioas, IOVA, program.buffer(text=b"v2"))
    device.attach(ioas)

    assert (program.entry().Mode, program.entry().GV, program.entry().GIOV) == (0, 1, 1)
    assert program.text_at(IOVA, 2) == b"v2"


# --- PASIDs


def test_linux_7_2_attaches_no_paging_hwpt_to_a_pasid(program: Program) -> None:
    device = program.bind(program.machine.add_device(RID, pasid_bits=8))
    hwpt = program.hwpt(device, program.ioas(), HwptFlags.PASID)

    with pytest.raises(OSError, match="SVA") as refused:
        device.attach(hwpt, 5)
    assert refused.value.errno == errno.EOPNOTSUPP


@pytest.mark.parametrize("bits", [4, 9, 10, 16])
def test_pasids_have_memories_of_their_own(bits: int) -> None:
    program = Program.make(AHEAD)
    device = program.bind(program.machine.add_device(RID, pasid_bits=bits))
    pasids = {1: b"first", (1 << bits) - 1: b"last"}
    for pasid, text in pasids.items():
        ioas = program.ioas()
        program.map(ioas, IOVA, program.buffer(text=text))
        device.attach(program.hwpt(device, ioas, HwptFlags.PASID), pasid)

    for pasid, text in pasids.items():
        assert program.text_at(IOVA, len(text), pasid) == text
    assert program.reaches(IOVA) == "IO_PAGE_FAULT"
    assert program.reaches(IOVA, pasid=2) == "IO_PAGE_FAULT"
    program.clean()


def test_a_pasid_is_replaced_and_detached_beside_requests_without() -> None:
    program = Program.make(AHEAD)
    device = program.bind(program.machine.add_device(RID, pasid_bits=8))
    hwpts = []
    for text in (b"rid", b"one", b"two"):
        ioas = program.ioas()
        program.map(ioas, IOVA, program.buffer(text=text))
        hwpts.append(program.hwpt(device, ioas, HwptFlags.PASID))
    device.attach(hwpts[0])
    device.attach(hwpts[1], 7)
    assert program.text_at(IOVA, 3, 7) == b"one"

    device.replace(hwpts[2], 7)
    assert program.text_at(IOVA, 3, 7) == b"two"
    device.detach(7)

    assert program.reaches(IOVA, pasid=7) == "IO_PAGE_FAULT"
    assert program.text_at(IOVA, 3) == b"rid"
    program.clean()


def test_unmap_reaches_the_tlb_of_a_device_by_pasid() -> None:
    program = Program.make(AHEAD)
    endpoint = program.machine.add_device(RID, pasid_bits=8, ats=True)
    device = program.bind(endpoint)
    ioas = program.ioas()
    program.map(ioas, IOVA, program.buffer())
    device.attach(program.hwpt(device, ioas, HwptFlags.PASID), 3)
    assert endpoint.ats is not None
    endpoint.ats.translate(IOVA, pasid=3)
    assert len(endpoint.ats.tlb) == 1

    program.unmap(ioas, IOVA)

    assert not len(endpoint.ats.tlb)
    program.clean()


# --- dirty tracking and hw_info


def test_dirty_tracking_tells_the_pages_that_a_device_wrote(program: Program) -> None:
    device = program.bind(program.machine.add_device(RID))
    ioas = program.ioas()
    program.map(ioas, IOVA, program.buffer(64 * PAGE))
    hwpt = program.hwpt(device, ioas, HwptFlags.DIRTY_TRACKING)
    device.attach(hwpt)
    program.machine.dma_write(RID, IOVA, b"before tracking")
    program.must(uapi.HwptSetDirtyTracking.of(flags=1, hwpt_id=hwpt))
    program.machine.dma_write(RID, IOVA + 5 * PAGE, b"x")
    program.machine.dma_read(RID, IOVA + 6 * PAGE, 1)

    def dirty() -> set[int]:
        bitmap = program.buffer()
        program.must(
            uapi.HwptGetDirtyBitmap.of(hwpt_id=hwpt, iova=IOVA, length=64 * PAGE, page_size=PAGE, data=bitmap.address)
        )
        return {page for page in range(64) if bitmap.pages[page // 8] >> page % 8 & 1}

    assert dirty() == {5}
    assert dirty() == set()
    program.machine.dma_write(RID, IOVA + 5 * PAGE, b"y")
    assert dirty() == {5}
    program.must(uapi.HwptSetDirtyTracking.of(flags=0, hwpt_id=hwpt))
    program.machine.dma_write(RID, IOVA + 9 * PAGE, b"y")
    program.must(uapi.HwptSetDirtyTracking.of(flags=1, hwpt_id=hwpt))
    assert dirty() == set()
    program.clean()


def test_hw_info_shows_both_feature_registers(program: Program) -> None:
    device = program.bind(program.machine.add_device(RID))
    room = program.buffer()
    info = program.must(uapi.HwInfo.of(dev_id=device.id, data_len=16, data_uptr=room.address))

    assert (info.data_type, info.data_len) == (4, 16)
    assert room.pages[:16] == int(MODELLED).to_bytes(8, "little") + int(MODELLED2).to_bytes(8, "little")


def test_mappings_stay_out_of_the_interrupt_range_and_of_hypertransports(program: Program) -> None:
    device = program.bind(program.machine.add_device(RID))
    ioas = program.ioas()
    device.attach(ioas)
    memory = program.buffer()
    for iova in (0xFEE0_0000, 0xFEEF_F000, 0xFD_0000_0000, 0xFF_FFFF_F000):
        cmd = uapi.IoasMap.of(flags=FIXED, ioas_id=ioas, user_va=memory.address, length=PAGE, iova=iova)
        assert program.fails(cmd) == errno.EINVAL
