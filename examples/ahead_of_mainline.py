"""What a machine does under each policy that is ahead of mainline, beside what it does without.

`founding_thread.py` shows ``late_stage2`` on every driver, `vtd_nested.py` ``invalidate_by_viommu`` and
``software_queues``; the rest is here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from viommu import Iotlb, Machine, Policy
from viommu.api import DeviceTlbEntry
from viommu.iommufd.experimental import ExperimentalType
from viommu.iommufd.uapi import HwptVtdS1
from viommu.kernel_errors import KernelError
from viommu.policies import MAINLINE, VmidOwner

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from viommu.api import Device, Hwpt, Iommufd, Viommu

MOCK = 0xDEADBEEF
GUEST_DEVICE, IOVA, PAGE = 0x42, 0x4000, 0x1000


@define
class Guest:
    """A guest on a machine: its memory from IPA 0 on, a device with a TLB and page requests, a nesting parent."""

    machine: Machine
    iommu: Iommufd
    device: Device
    memory: NDArray[np.uint8]
    parent: Hwpt

    @classmethod
    def on(cls, driver: str, policy: Policy) -> Guest:
        """Make a machine and the guest's part of it."""
        machine = Machine(driver, memory="64M", iotlb=Iotlb(), policy=policy)
        iommu = machine.open_iommufd()
        device = iommu.bind(machine.add_device(0x10, ats=True, page_requests=True, pasid_bits=20))
        memory, ioas = machine.buffer("2M"), iommu.ioas_alloc()
        ioas.map(memory, 0x0 if driver == "vtd" else 1 << 24)
        return cls(machine, iommu, device, memory, ioas.hwpt_alloc(device, nest_parent=True))

    def nest(self) -> Viommu:
        """Stand the device on a first-stage table of the guest's, by a vIOMMU (VT-d)."""
        self.memory[: 4 * PAGE].view("<u8")[[0x0, 0x200, 0x400, 0x604]] = 0x1027, 0x2027, 0x3027, 0x10_0067
        viommu = self.parent.viommu_alloc(self.device, ExperimentalType.VTD)
        viommu.vdevice_alloc(self.device, GUEST_DEVICE)
        self.device.attach(viommu.hwpt_alloc(self.device, HwptVtdS1.of(pgtbl_addr=0, addr_width=48)))
        return viommu


def device_tlbs(policy: Policy) -> None:
    """Drop what the device's own TLB holds, and nothing else."""
    guest = Guest.on("vtd", policy)
    viommu, endpoint = guest.nest(), guest.device.endpoint
    endpoint.translate_by_ats(IOVA)
    done = viommu.invalidate_device_tlbs([DeviceTlbEntry(GUEST_DEVICE)])
    print(f"    {done} entry executed; the device's TLB holds {len(endpoint.with_ats.tlb)} translations")


def page_requests(policy: Policy) -> None:
    """Take page requests of all devices of a vIOMMU, whatever they are attached to."""
    guest = Guest.on("vtd", policy)
    viommu, faults = guest.nest(), guest.iommu.fault_alloc()
    viommu.set_fault(faults)
    guest.device.request_page(0x9000, group=3)
    for request in faults.read():
        print(f"    device {request.dev_id} asks for {request.addr:#x}, group {request.group}")
        faults.respond(request, success=False)
    answers = [response.code.name for response in guest.device.endpoint.with_ats.responses]
    print(f"    the device was answered: {', '.join(answers)}")


def queues_by_iova(policy: Policy) -> None:
    """Give a guest a queue that hardware finds by IOVA: nothing is pinned, nothing need be mapped yet."""
    guest = Guest.on("selftest", policy)
    viommu = guest.parent.viommu_alloc(guest.device, MOCK)
    print(f"    {viommu.hw_queue_alloc(MOCK, 0, 1 << 30, 1 << 20, by_iova=True)}")


def vmid_of_kvm(policy: Policy) -> None:
    """Let a vIOMMU share the VMID of a virtual machine."""
    guest = Guest.on("selftest", policy)
    vm = guest.machine.create_vm(vmid=9)
    fd = guest.machine.process.install(vm)
    viommu = guest.parent.viommu_alloc(guest.device, MOCK, kvm_fd=fd)
    print(f"    {viommu} shares VMID {vm.vmid}; vIOMMUs that do: {vm.users}")


ONE_BY_ONE: tuple[tuple[str, Policy, Callable[[Policy], None]], ...] = (
    ("device_tlb_invalidation", Policy(device_tlb_invalidation=True), device_tlbs),
    ("viommu_page_requests", Policy(viommu_page_requests=True, fault_by_virtual_id=True), page_requests),
    ("iova_queues", Policy(iova_queues=True), queues_by_iova),
    ("vmid_owner", Policy(vmid_owner=VmidOwner.KVM), vmid_of_kvm),
)

for name, wanted, show in ONE_BY_ONE:
    print(show.__doc__)
    for title, policy in (("mainline", MAINLINE), (name, wanted)):
        print(f"  {title}")
        try:
            show(policy)
        except KernelError as error:
            print(f"    {error}")
