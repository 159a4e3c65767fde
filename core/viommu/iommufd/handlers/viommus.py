"""VIOMMU_ALLOC, VDEVICE_ALLOC, HW_QUEUE_ALLOC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.iommufd.handlers.checks import refuse_flags, refuse_zero
from viommu.kernel_errors import Invalid, Overflow, Unsupported
from viommu.objects.device import find_device
from viommu.objects.hw_queue import HwQueue
from viommu.objects.hwpt import PagingHwpt
from viommu.objects.intervals import U64_MAX
from viommu.objects.vdevice import Vdevice
from viommu.objects.viommu import Viommu
from viommu.ops import UserData

if TYPE_CHECKING:
    from viommu.iommufd import uapi
    from viommu.iommufd.dispatch import Call


def alloc(call: Call[uapi.ViommuAlloc]) -> None:
    """VIOMMU_ALLOC: a type that the driver lacks is refused before the parent is looked at."""
    cmd = call.cmd
    refuse_flags(cmd)
    refuse_zero(cmd, "type")
    device = find_device(call.context, cmd.dev_id).physical
    iommu = device.iommu
    if not iommu.driver.ask("viommu_supports", device=device, viommu_type=cmd.type):
        raise Unsupported(cmd.kernel_name, "type", cmd.type, "a type of the device's driver")
    parent = call.context.table.find(cmd.hwpt_id, PagingHwpt, "hwpt_id")
    if not parent.nest_parent:
        raise Invalid(parent.title, "flags", bound="allocated with NEST_PARENT")
    viommu = call.create(Viommu(context=call.context, type=cmd.type, iommu=iommu, parent=parent))
    data = UserData(call.process, cmd.type, cmd.data_uptr, cmd.data_len) if cmd.data_len else None
    iommu.driver.ask("viommu_init", viommu=viommu, parent=parent.domain, data=data)
    parent.hold()
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
    refuse_flags(cmd)
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
    queue.init(cmd.index)
    cmd.out_hw_queue_id = queue.id
