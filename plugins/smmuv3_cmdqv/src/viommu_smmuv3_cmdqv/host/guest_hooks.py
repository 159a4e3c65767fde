"""The driver face: hooks of `viommu.hookspecs` for guests' SMMUs, in its order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import hookimpl
from viommu.kernel_errors import Invalid
from viommu_smmuv3_cmdqv.host import invalidation, vintf, vsmmu
from viommu_smmuv3_cmdqv.host.hooks import master_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.objects.hw_queue import HwQueue
    from viommu.objects.physical import PhysicalDevice
    from viommu.objects.vdevice import Vdevice
    from viommu.objects.viommu import Viommu
    from viommu.ops import DeviceTlbRequest, DomainFlags, UserArray, UserData
    from viommu_smmuv3_cmdqv.host.domain import PagingDomain
    from viommu_smmuv3_cmdqv.host.smmu import Smmu
    from viommu_smmuv3_cmdqv.host.vsmmu import NestedDomain


# --- alloc


@hookimpl
def viommu_supports(device: PhysicalDevice, viommu_type: int) -> bool:
    """A guest can have an SMMU where stage 1 can stand on stage 2, with queues of its own where there is a CMDQV."""
    smmu = master_of(device).smmu
    types = {vsmmu.VIOMMU_TYPE} if smmu.cmdqv is None else {vsmmu.VIOMMU_TYPE, vintf.VIOMMU_TYPE}
    return smmu.able.nested and viommu_type in types


@hookimpl
def viommu_init(viommu: Viommu, parent: PagingDomain | None, data: UserData | None) -> None:
    """Make a guest's SMMU; an empty one takes its stage 2, its VMID and the use of its queues later."""
    smmu: Smmu = viommu.iommu.data
    if parent is not None and parent.smmu is not smmu:
        raise Invalid(viommu.title, "nesting parent", bound=f"of {smmu.name}, which the device is behind")
    if viommu.type == vintf.VIOMMU_TYPE and smmu.cmdqv is not None:
        guest: vsmmu.VirtualSmmu = vintf.make_with_vintf(viommu, smmu, smmu.cmdqv, data)
    else:
        guest = vsmmu.VirtualSmmu(viommu, smmu)
    if parent is not None:
        try:
            guest.stand_on(parent)
        except BaseException:
            guest.destroy()
            raise
    viommu.data = guest


@hookimpl
def viommu_set_stage2(viommu: Viommu, parent: PagingDomain) -> None:
    """Let an empty one stand on a parent."""
    viommu.data.stand_on(parent)


@hookimpl
def viommu_destroy(viommu: Viommu) -> None:
    """Give back what it has of hardware."""
    viommu.data.destroy()


@hookimpl
def viommu_alloc_nested_on(viommu: Viommu, flags: DomainFlags, data: UserData) -> NestedDomain:
    """Take a guest's STE."""
    return vsmmu.make_nested(viommu.data, flags, data)


@hookimpl
def viommu_vdevice_init(vdevice: Vdevice) -> None:
    """Let a device be known by a StreamID of the guest's."""
    vdevice.viommu.data.name_stream(vdevice)


@hookimpl
def viommu_vdevice_destroy(vdevice: Vdevice) -> None:
    """Forget it."""
    vdevice.viommu.data.forget_stream(vdevice)


# --- vqueue


@hookimpl
def viommu_supports_hw_queue(viommu: Viommu, queue_type: int) -> bool:
    """Queues are for guests that have an interface."""
    return isinstance(viommu.data, vintf.GuestVintf) and queue_type == vintf.QUEUE_TYPE


@hookimpl
def viommu_hw_queue_init(queue: HwQueue, index: int, base_pa: int) -> None:
    """Give a guest a queue."""
    queue.viommu.data.add_queue(queue, index, base_pa)


@hookimpl
def viommu_hw_queue_destroy(queue: HwQueue) -> None:
    """Take it back."""
    queue.viommu.data.remove_queue(queue)


# --- invalidate


@hookimpl
def viommu_invalidate_device_tlb(viommu: Viommu, requests: Sequence[DeviceTlbRequest]) -> int:
    """Send ATC_INVs, each with a SYNC, so that it is known which device does not answer."""
    return invalidation.invalidate_devices(viommu.iommu.data, requests)


@hookimpl
def viommu_invalidate(viommu: Viommu, requests: UserArray) -> bool:
    """Execute a guest's commands."""
    invalidation.invalidate(viommu.data, requests)
    return True
