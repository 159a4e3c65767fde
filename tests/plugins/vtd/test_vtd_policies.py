"""VT-d under policies ahead of mainline: second stage later, device TLBs by a call, page requests of a vIOMMU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from attrs import define

from viommu import Iotlb, Machine
from viommu.api.viommu import DeviceTlbEntry
from viommu.faults import Access
from viommu.iommufd.experimental import ExperimentalType, HwptVtdGuest, VtdDescriptor
from viommu.kernel_errors import Invalid, NotAnIoctl, NotThere, Unsupported
from viommu.policies import Policy
from viommu_vtd.spec.commands import InvalidationWait

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from viommu.api.device import Device
    from viommu.api.hwpt import Hwpt
    from viommu.api.iommufd import Iommufd
    from viommu.api.viommu import Viommu
    from viommu.devices import Device as Endpoint

TYPE = ExperimentalType.VTD
RID, VIRTUAL, PASID = 0x0108, 0x0010, 5
BASE, IOVA = 0x10_0000, 0x40_0000
LEAF = 0x67
LATE = Policy(late_stage2=True)
DEVICE_TLBS = Policy(device_tlb_invalidation=True)


@define(eq=False)
class Setup:
    """A machine, a device, and a guest whose one table maps one page to itself for every level alike."""

    machine: Machine
    iommu: Iommufd
    device: Device
    parent: Hwpt
    memory: NDArray[np.uint8]

    @classmethod
    def make(cls, policy: Policy) -> Setup:
        machine = Machine("vtd", memory="64M", iotlb=Iotlb(), policy=policy, sanitize=True)
        iommu = machine.open_iommufd()
        device = iommu.bind(machine.add_device(RID, ats=True, page_requests=True, pasid_bits=20))
        memory = machine.buffer("1M")
        ioas = iommu.ioas_alloc()
        ioas.map(memory, BASE)
        setup = cls(machine, iommu, device, ioas.hwpt_alloc(device, nest_parent=True, pasid=True), memory)
        for level in range(4):  # four tables, one after the other, then the page
            at = level * 0x1000 + (IOVA >> 39 - 9 * level & 0x1FF) * 8
            setup.memory[at : at + 8] = list((BASE + (level + 1) * 0x1000 | LEAF).to_bytes(8, "little"))
        setup.memory[0x4000:0x4005] = list(b"guest")
        return setup

    @property
    def endpoint(self) -> Endpoint:
        assert self.device.endpoint.ats is not None
        return self.device.endpoint.ats

    def attach(self, viommu: Viommu, pasid: int = 0) -> None:
        table = HwptVtdGuest.of(pgtbl_addr=BASE, addr_width=48, domain_id=9)
        self.device.attach(viommu.hwpt_alloc(self.device, table, pasid=True), pasid=pasid)


# --- second stage later


def test_an_empty_viommu_takes_vdevices_and_then_its_second_stage() -> None:
    setup = Setup.make(LATE)
    viommu = setup.iommu.viommu_alloc(setup.device, TYPE)
    viommu.vdevice_alloc(setup.device, VIRTUAL)
    with pytest.raises(Invalid, match="stage 2"):
        setup.attach(viommu)
    viommu.set_stage2(setup.parent)
    setup.attach(viommu)
    assert setup.device.dma_read(IOVA, 5) == b"guest"


def test_in_the_window_a_batch_is_refused_and_then_it_is_executed() -> None:
    setup = Setup.make(Policy(late_stage2=True, invalidate_by_viommu=True))
    viommu = setup.iommu.viommu_alloc(setup.device, TYPE)
    wait = InvalidationWait(Type=5, SW=1, STDATA=1, STADDR=BASE + 0x8000).encode().ljust(32, b"\0")
    with pytest.raises(Invalid, match="stage 2: set first"):
        viommu.invalidate([VtdDescriptor.of(descriptor=wait)])
    viommu.set_stage2(setup.parent)
    assert viommu.invalidate([VtdDescriptor.of(descriptor=wait)]) == 1
    assert setup.memory[0x8000:0x8004].tolist() == [1, 0, 0, 0]


def test_without_its_switch_a_batch_is_not_supported() -> None:
    setup = Setup.make(LATE)
    viommu = setup.iommu.viommu_alloc(setup.device, TYPE)
    viommu.set_stage2(setup.parent)
    with pytest.raises(Unsupported, match="not switched on"):
        viommu.invalidate([VtdDescriptor.of()])


# --- device TLBs


def test_mainline_has_no_call_for_device_tlbs() -> None:
    setup = Setup.make(LATE)
    viommu = setup.parent.viommu_alloc(setup.device, TYPE)
    with pytest.raises(NotAnIoctl):
        viommu.invalidate_device_tlbs([DeviceTlbEntry(VIRTUAL)])


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        (DeviceTlbEntry(VIRTUAL), {PASID}),
        (DeviceTlbEntry(VIRTUAL, pasid=PASID), {None}),
        (DeviceTlbEntry(VIRTUAL, every_pasid=True), set()),
        (DeviceTlbEntry(VIRTUAL, IOVA, IOVA + 0xFFF), {PASID}),
        (DeviceTlbEntry(VIRTUAL, 0, IOVA - 1, every_pasid=True), {None, PASID}),
        (DeviceTlbEntry(VIRTUAL, 0, IOVA, every_pasid=True), set()),
    ],
)
def test_a_devices_own_tlb_is_invalidated_and_nothing_else(wanted: DeviceTlbEntry, left: set[int | None]) -> None:
    setup = Setup.make(DEVICE_TLBS)
    viommu = setup.parent.viommu_alloc(setup.device, TYPE)
    viommu.vdevice_alloc(setup.device, VIRTUAL)
    setup.attach(viommu)
    setup.attach(viommu, PASID)
    for pasid in (None, PASID):
        setup.endpoint.translate(IOVA, Access.READ, pasid)
    before = setup.machine.command_counts.copy()
    assert viommu.invalidate_device_tlbs([wanted]) == 1
    held = {pasid for pasid in (None, PASID) if setup.endpoint.tlb.find(pasid, IOVA, Access.READ)}
    assert held == left
    told = setup.machine.command_counts - before
    assert set(told) <= {"device_tlb", "pasid_device_tlb", "wait"}


def test_entries_run_up_to_the_first_whose_device_does_not_answer() -> None:
    setup = Setup.make(DEVICE_TLBS)
    viommu = setup.parent.viommu_alloc(setup.device, TYPE)
    viommu.vdevice_alloc(setup.device, VIRTUAL)
    other = setup.iommu.bind(setup.machine.add_device(RID + 8, ats=True))
    viommu.vdevice_alloc(other, VIRTUAL + 1)
    assert other.endpoint.ats is not None
    other.endpoint.ats.answers = False
    entries = [DeviceTlbEntry(VIRTUAL), DeviceTlbEntry(VIRTUAL + 1), DeviceTlbEntry(VIRTUAL)]
    assert viommu.invalidate_device_tlbs(entries) == 1
    other.endpoint.ats.answers = True
    assert viommu.invalidate_device_tlbs(entries) == 3
    with pytest.raises(NotThere):
        viommu.invalidate_device_tlbs([DeviceTlbEntry(0x77)])


# --- page requests of a vIOMMU


def test_page_requests_of_a_vdevice_come_to_its_viommus_fault_queue() -> None:
    setup = Setup.make(Policy(viommu_page_requests=True))
    viommu = setup.parent.viommu_alloc(setup.device, TYPE)
    viommu.vdevice_alloc(setup.device, VIRTUAL)
    setup.attach(viommu, PASID)
    faults = setup.iommu.fault_alloc()
    viommu.set_fault(faults)
    setup.endpoint.request_page(IOVA + 0x1000, Access.WRITE, PASID, group=3)
    (request,) = faults.read()
    assert (request.addr, request.perm, request.pasid, request.group) == (IOVA + 0x1000, 2, PASID, 3)
    assert not setup.endpoint.responses
    faults.respond(request)
    assert [(one.pasid, one.group) for one in setup.endpoint.responses] == [(PASID, 3)]
