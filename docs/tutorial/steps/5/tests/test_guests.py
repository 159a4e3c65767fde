"""Guests: page tables on page tables, invalidations, events."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from viommu import Fault, Iotlb, Machine, Policy
from viommu.api import Device, Iommufd, NestedHwpt, Viommu
from viommu.kernel_errors import Invalid

from viommu_acme.guest_data import TYPE, AcmeInvalidate, HwptAcme

PRESENT, WRITABLE = 1, 2
SIZE = 0x20_0000


class Guest:
    """A guest with 2 MiB of memory from IPA 0 on, whose page table lies at its start."""

    def __init__(self, machine: Machine, iommufd: Iommufd, device: Device, virt_id: int) -> None:
        self.device, self.ram = device, machine.buffer(SIZE)
        ioas = iommufd.ioas_alloc()
        ioas.map(self.ram, iova=0)
        self.viommu: Viommu = ioas.hwpt_alloc(device, nest_parent=True).viommu_alloc(device, TYPE)
        self.viommu.vdevice_alloc(device, virt_id)
        self.store(0x0000, 0x1000 | PRESENT | WRITABLE)
        self.store(0x1000, 0x2000 | PRESENT | WRITABLE)

    def store(self, address: int, value: int) -> None:
        self.ram[address : address + 8].view("<u8")[0] = value

    def map(self, iova: int, ipa: int) -> None:
        """Map a page of the first 2 MiB."""
        self.store(0x2000 + (iova >> 12) * 8, ipa | PRESENT | WRITABLE)

    def attach(self, space: int = 7) -> NestedHwpt:
        nested = self.viommu.hwpt_alloc(self.device, HwptAcme.of(table=0, space=space), data_type=TYPE)
        self.device.attach(nested)
        return nested

    def forget(self, address: int, space: int = 7, lg2: int = 0) -> None:
        self.viommu.invalidate([AcmeInvalidate.of(address=address, space=space, lg2=lg2)], data_type=TYPE)


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine("acme", memory="64M", iotlb=Iotlb(), policy=Policy(invalidate_by_viommu=True)) as made:
        yield made


@pytest.fixture
def guests(machine: Machine) -> Iterator[list[Guest]]:
    with machine.open_iommufd() as iommufd:
        yield [
            Guest(machine, iommufd, iommufd.bind(machine.add_device(requester)), virt_id)
            for requester, virt_id in ((0x10, 1), (0x18, 1))
        ]


def test_dma_goes_through_both_tables(guests: list[Guest]) -> None:
    guest = guests[0]
    guest.map(0x5000, 0x9000)
    guest.attach()

    assert guest.device.dma_write(0x5010, b"both") is None
    assert guest.ram[0x9010:0x9014].tobytes() == b"both"


def test_a_guest_reaches_its_own_memory_alone(guests: list[Guest]) -> None:
    guest = guests[0]
    guest.map(0x5000, SIZE)
    guest.attach()

    assert isinstance(guest.device.dma_read(0x5000, 1), Fault)


def test_what_a_guest_forgets_it_forgets_for_itself(guests: list[Guest]) -> None:
    for guest in guests:
        guest.map(0x5000, 0x9000)
        guest.attach()
        guest.ram[0xA000] = 1
        assert guest.device.dma_read(0x5000, 1) == b"\0"
        guest.map(0x5000, 0xA000)

    guests[0].forget(0x5000)

    assert [guest.device.dma_read(0x5000, 1) for guest in guests] == [b"\x01", b"\0"]


def test_a_wrong_request_stops_a_batch(guests: list[Guest]) -> None:
    wrong = [AcmeInvalidate.of(lg2=1), AcmeInvalidate.of(lg2=53), AcmeInvalidate.of()]

    with pytest.raises(Invalid) as told:
        guests[0].viommu.invalidate(wrong, data_type=TYPE)

    assert told.value.done == 1


def test_a_guest_is_told_of_its_devices_faults(guests: list[Guest]) -> None:
    queues = [guest.viommu.veventq_alloc(TYPE, 4) for guest in guests]
    guests[1].attach()

    guests[1].device.dma_write(0x6008, b"nowhere")

    (event,) = queues[1].read()
    assert event.data == bytes([3, 1, 1, 0, 0, 0, 0, 0]) + (0x6008).to_bytes(8, "little")
    assert queues[0].read() == []


@pytest.mark.parametrize("wrong", [{"table": 0x800}, {"table": 1 << 52}, {"space": 1 << 12}, {"reserved": 1}])
def test_what_no_hardware_has_is_refused(guests: list[Guest], wrong: dict[str, int]) -> None:
    with pytest.raises(Invalid):
        guests[0].viommu.hwpt_alloc(guests[0].device, HwptAcme.of(**wrong), data_type=TYPE)
