"""Programs on this hardware: /dev/iommu, a device, and what its DMA reaches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from viommu import Fault, FaultKind, Iotlb, Machine
from viommu.api import Device, Ioas, Iommufd
from viommu.kernel_errors import Unsupported


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine which holds every use of a cache against the tables."""
    with Machine("acme", memory="64M", iotlb=Iotlb(), sanitize=True) as made:
        yield made
        assert made.sanitizer is not None
        assert made.sanitizer.reports == []


@pytest.fixture
def iommufd(machine: Machine) -> Iterator[Iommufd]:
    with machine.open_iommufd() as made:
        yield made


@pytest.fixture
def device(machine: Machine, iommufd: Iommufd) -> Device:
    return iommufd.bind(machine.add_device(0x10))


@pytest.fixture
def ioas(iommufd: Iommufd) -> Ioas:
    return iommufd.ioas_alloc()


def test_dma_reaches_what_is_mapped(machine: Machine, device: Device, ioas: Ioas) -> None:
    buffer = machine.buffer("4M")
    ioas.map(buffer, iova=0x4000_0000)
    device.attach(ioas)

    assert device.dma_write(0x4020_1000, b"hello") is None
    assert buffer[0x20_1000:0x20_1005].tobytes() == b"hello"


def test_dma_reaches_nothing_before_attach_and_after_detach(machine: Machine, device: Device, ioas: Ioas) -> None:
    ioas.map(machine.buffer("4K"), iova=0)
    assert isinstance(device.dma_read(0, 8), Fault)

    device.attach(ioas)
    assert device.dma_read(0, 8) == bytes(8)

    device.detach()
    assert isinstance(device.dma_read(0, 8), Fault)


def test_what_is_unmapped_is_gone_at_once(machine: Machine, device: Device, ioas: Ioas) -> None:
    device.attach(ioas)
    for _ in range(300):  # more than there are places in the command queue
        ioas.map(machine.buffer("8K"), iova=0x10_0000)
        assert device.dma_read(0x10_1000, 4) == bytes(4)
        ioas.unmap(0x10_0000, 0x2000)
        assert isinstance(device.dma_read(0x10_1000, 4), Fault)


def test_what_is_mapped_read_only_is_not_written(machine: Machine, device: Device, ioas: Ioas) -> None:
    ioas.map(machine.buffer("4K"), iova=0, write=False)
    device.attach(ioas)

    fault = device.dma_write(0, b"no")
    assert isinstance(fault, Fault)
    assert fault.kind is FaultKind.PERMISSION


def test_replacing_changes_whose_memory_it_is(machine: Machine, iommufd: Iommufd, device: Device, ioas: Ioas) -> None:
    other = iommufd.ioas_alloc()
    for target, byte in ((ioas, 1), (other, 2)):
        memory = machine.buffer("4K")
        memory[:] = byte
        target.map(memory, iova=0)
    device.attach(ioas)
    assert device.dma_read(0, 1) == b"\x01"

    device.replace(other)

    assert device.dma_read(0, 1) == b"\x02"


def test_what_this_hardware_cannot_is_refused(device: Device, ioas: Ioas) -> None:
    with pytest.raises(Unsupported):
        ioas.hwpt_alloc(device, dirty_tracking=True)


def test_events_never_fill_the_queue(machine: Machine, device: Device) -> None:
    for _ in range(1000):
        device.dma_read(0, 1)

    assert machine.read_register(0x40, 8) == 0
