"""The host's driver, by iommufd: what governs a device, and what is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hosts import BASE, PAGE, Host
from viommu import Access, Fault
from viommu.kernel_errors import Invalid, Unsupported

from viommu_riscv.host.extensions import TYPE, HwInfoRiscv
from viommu_riscv.spec.registers import Capabilities

if TYPE_CHECKING:
    from viommu.api import Hwpt


def test_hardware_is_shown_as_it_is(host: Host) -> None:
    info = host.device.hw_info()

    assert info.data_type == TYPE
    assert Capabilities.decode(HwInfoRiscv.decode(info.data).capabilities).Sv57


def test_a_device_is_blocked_until_something_is_attached_and_after_that(host: Host) -> None:
    assert isinstance(host.device.dma_read(BASE, 4), Fault)
    host.device.attach(host.ioas)
    assert host.device.dma_read(BASE, 4) == bytes(4)
    host.device.detach()

    assert isinstance(host.device.dma_read(BASE, 4), Fault)


@pytest.mark.parametrize("nest_parent", [False, True], ids=["first", "second"])
def test_what_is_unmapped_is_forgotten(host: Host, nest_parent: bool) -> None:
    host.device.attach(host.ioas.hwpt_alloc(host.device, nest_parent=nest_parent))
    assert host.device.dma_write(BASE + 0x5000, b"text") is None

    host.ioas.unmap(BASE, 1 << 20)

    assert isinstance(host.device.dma_read(BASE + 0x5000, 4), Fault)


def test_an_iommu_without_ranges_forgets_too() -> None:
    small = Capabilities(version=0x10, Sv39=1, Sv39x4=1, PAS=48, AMO_HWAD=1, IGS=1)
    host = Host(given={"CAPABILITIES": int(small)})
    host.device.attach(host.ioas)
    for at in (0, 0xFF000):
        assert host.device.dma_read(BASE + at, 4) == bytes(4)

    host.ioas.unmap(BASE, 1 << 20)

    assert all(isinstance(host.device.dma_read(BASE + at, 4), Fault) for at in (0, 0xFF000))


def test_processes_have_spaces_of_their_own(host: Host) -> None:
    second = host.iommu.ioas_alloc()
    second.map(host.memory[PAGE:], BASE)
    host.memory[:5], host.memory[PAGE : PAGE + 5] = list(b"plain"), list(b"other")
    host.device.attach(host.ioas.hwpt_alloc(host.device, pasid=True))
    assert host.device.dma_read(BASE, 5) == b"plain"

    host.device.attach(second.hwpt_alloc(host.device, pasid=True), pasid=3)
    assert host.device.dma_read(BASE, 5, pasid=3) == b"other"
    assert host.device.dma_read(BASE, 5) == b"plain"
    assert isinstance(host.device.dma_read(BASE, 5, pasid=4), Fault)
    host.device.detach(pasid=3)

    assert isinstance(host.device.dma_read(BASE, 5, pasid=3), Fault)
    assert host.device.dma_read(BASE, 5) == b"plain"


@pytest.mark.parametrize("process", [0, 3], ids=["device", "process"])
def test_another_table_may_take_the_place_of_one(host: Host, process: int) -> None:
    second = host.iommu.ioas_alloc()
    second.map(host.memory[PAGE:], BASE)
    host.memory[:5], host.memory[PAGE : PAGE + 5] = list(b"plain"), list(b"other")
    first, other = (ioas.hwpt_alloc(host.device, pasid=True) for ioas in (host.ioas, second))
    for each in (0, 3, 4):
        host.device.attach(first, pasid=each)
    device, pasid = host.machine.device(0x1_0108), process or None
    assert host.device.dma_read(BASE, 5, pasid=pasid) == b"plain"
    device.translate(BASE, Access.READ, pasid)
    assert len(device.tlb) == 1

    host.device.replace(other, pasid=process)

    assert len(device.tlb) == 0
    assert host.device.dma_read(BASE, 5, pasid=pasid) == b"other"
    assert host.device.dma_read(BASE, 5, pasid=4) == b"plain"


def test_a_device_forgets_what_it_was_told_of_a_table_that_goes(host: Host) -> None:
    host.device.attach(host.ioas)
    device = host.machine.device(0x1_0108)
    device.translate(BASE, Access.READ)

    host.device.detach()

    assert len(device.tlb) == 0


def test_a_second_stage_is_a_devices_and_no_processs(host: Host) -> None:
    host.device.attach(host.ioas.hwpt_alloc(host.device, nest_parent=True))

    with pytest.raises(Invalid):
        host.device.attach(host.ioas.hwpt_alloc(host.device, pasid=True), pasid=3)


def test_hardware_notes_what_devices_write(host: Host) -> None:
    hwpt = host.ioas.hwpt_alloc(host.device, dirty_tracking=True)
    host.device.attach(hwpt)
    host.device.dma_write(BASE, b"before")
    hwpt.set_dirty_tracking(enable=True)
    host.device.dma_read(BASE + 2 * PAGE, 8)
    host.device.dma_write(BASE + 3 * PAGE, b"after")

    assert _dirty(hwpt) == [3]
    assert _dirty(hwpt) == []
    host.device.dma_write(BASE + 3 * PAGE, b"again")
    assert _dirty(hwpt) == [3]


def test_types_are_told_apart(host: Host) -> None:
    parent = host.ioas.hwpt_alloc(host.device, nest_parent=True)

    with pytest.raises(Unsupported):
        parent.viommu_alloc(host.device, TYPE + 1)


def _dirty(hwpt: Hwpt) -> list[int]:
    return [page for page, written in enumerate(hwpt.dirty_bitmap(BASE, 1 << 20)) if written]
