"""VIOMMU_ALLOC, VDEVICE_ALLOC, HW_QUEUE_ALLOC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.iommufd.experimental import HwQueueFlags, ViommuAllocVm, ViommuFlags
from viommu.iommufd.handlers.checks import refuse_flags, refuse_zero
from viommu.iommufd.uapi_types import ViommuType
from viommu.kernel_errors import BadFile, Invalid, Overflow, Unsupported, WrongFile
from viommu.objects.device import find_device
from viommu.objects.hw_queue import HwQueue
from viommu.objects.hwpt import PagingHwpt
from viommu.objects.intervals import U64_MAX
from viommu.objects.vdevice import Vdevice
from viommu.objects.viommu import Viommu, check_parent
from viommu.objects.vm import VirtualMachine
from viommu.ops import UserData
from viommu.uapi_profiles import Feature

if TYPE_CHECKING:
    from viommu.iommufd import uapi
    from viommu.iommufd.dispatch import Call
    from viommu.objects.physical import PhysicalIommu


def alloc(call: Call[uapi.ViommuAlloc]) -> None:
    """VIOMMU_ALLOC: a type that the driver lacks is refused before the parent is looked at."""
    cmd = call.cmd
    refuse_flags(cmd, ViommuFlags.VM if isinstance(cmd, ViommuAllocVm) else 0)
    refuse_zero(cmd, "type")
    device = find_device(call.context, cmd.dev_id).physical
    iommu = device.iommu
    later = cmd.type == ViommuType.TEGRA241_CMDQV and call.context.profile.lacks(Feature.VIOMMU_TEGRA241)
    if later or not iommu.driver.ask("viommu_supports", device=device, viommu_type=cmd.type):
        raise Unsupported(cmd.kernel_name, "type", cmd.type, "a type of the device's driver")
    parent = _parent(call, iommu)
    viommu = call.create(Viommu(context=call.context, type=cmd.type, iommu=iommu, stage2=parent, vm=_vm(call)))
    data = UserData(call.process, cmd.type, cmd.data_uptr, cmd.data_len) if cmd.data_len else None
    domain = None if parent is None else parent.domain
    iommu.driver.ask("viommu_init", viommu=viommu, parent=domain, data=data)
    viommu.take_hold()
    viommu.built = True
    cmd.out_viommu_id = viommu.id


def vdevice_alloc(call: Call[uapi.VdeviceAlloc]) -> None:
    """VDEVICE_ALLOC: a device's id on a vIOMMU."""
    cmd = call.cmd
    viommu = call.context.table.find(cmd.viommu_id, Viommu, "viommu_id")
    device = find_device(call.context, cmd.dev_id)
    vdevice = call.create(Vdevice(context=call.context, viommu=viommu, device=device, virt_id=cmd.virt_id))
    vdevice.connect()
    cmd.out_vdevice_id = vdevice.id


def hw_queue_alloc(call: Call[uapi.HwQueueAlloc]) -> None:
    """HW_QUEUE_ALLOC: memory is pinned and found contiguous before the driver looks at the index."""
    cmd = call.cmd
    refuse_flags(cmd, HwQueueFlags.IOVA if call.context.policy.iova_queues else 0)
    refuse_zero(cmd, "type")
    if not cmd.length:
        raise Invalid(cmd.kernel_name, "length", 0, "not 0")
    if cmd.nesting_parent_iova + cmd.length - 1 > U64_MAX:
        raise Overflow(cmd.kernel_name, "nesting_parent_iova", cmd.nesting_parent_iova, "a range below 2^64")
    viommu = call.context.table.find(cmd.viommu_id, Viommu, "viommu_id")
    if not viommu.iommu.driver.ask("viommu_supports_hw_queue", viommu=viommu, queue_type=cmd.type):
        raise Unsupported(cmd.kernel_name, "type", cmd.type, "a type of the vIOMMU's driver")
    queue = call.create(
        HwQueue(context=call.context, viommu=viommu, type=cmd.type, iova=cmd.nesting_parent_iova, length=cmd.length)
    )
    _init_queue(queue, cmd)
    cmd.out_hw_queue_id = queue.id


def _parent(call: Call[uapi.ViommuAlloc], iommu: PhysicalIommu) -> PagingHwpt | None:
    """Find what the vIOMMU is to stand on; under the policy ``late_stage2`` id 0 says that it will be told later."""
    number = call.cmd.hwpt_id
    if not number and iommu.policy.late_stage2:
        if not iommu.driver.implements("viommu_set_stage2"):
            raise Unsupported(iommu.name, "hwpt_id", 0, "a nesting parent: the driver cannot take it later")
        return None
    parent = call.context.table.find(number, PagingHwpt, "hwpt_id")
    check_parent(parent)
    return parent


def _vm(call: Call[uapi.ViommuAlloc]) -> VirtualMachine | None:
    """Find the virtual machine whose VMID the vIOMMU is to share, under the policy that KVM owns VMIDs."""
    cmd = call.cmd
    if not isinstance(cmd, ViommuAllocVm) or not cmd.flags & ViommuFlags.VM:
        return None
    file = call.process.file(cmd.kvm_fd)
    if file is None:
        raise BadFile(cmd.kernel_name, "kvm_fd", cmd.kvm_fd, "open")
    if not isinstance(file, VirtualMachine):
        raise WrongFile(cmd.kernel_name, "kvm_fd", cmd.kvm_fd, "a virtual machine of KVM")
    return file


def _init_queue(queue: HwQueue, cmd: uapi.HwQueueAlloc) -> None:
    if not cmd.flags & HwQueueFlags.IOVA:
        queue.init(cmd.index)
        return
    if not queue.viommu.iommu.driver.implements("viommu_hw_queue_init_iova"):
        raise Unsupported(cmd.kernel_name, "flags", cmd.flags, "without IOVA: the hardware takes physical addresses")
    queue.init_iova(cmd.index)
