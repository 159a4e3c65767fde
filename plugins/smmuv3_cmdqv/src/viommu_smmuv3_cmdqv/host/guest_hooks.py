"""The driver face: hooks of `viommu.hookspecs` for guests' SMMUs, in its order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import hookimpl
from viommu_smmuv3_cmdqv.host import invalidation, vintf, vsmmu
from viommu_smmuv3_cmdqv.host.hooks import master_of

if TYPE_CHECKING:
    from viommu.objects.hw_queue import HwQueue
    from viommu.objects.physical import PhysicalDevice
    from viommu.objects.vdevice import Vdevice
    from viommu.objects.viommu import Viommu
    from viommu.ops import DomainFlags, UserArray, UserData
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
def viommu_init(viommu: Viommu, parent: PagingDomain, data: UserData | None) -> None:
    """Make a guest's SMMU."""
    smmu: Smmu = viommu.iommu.data
    guest = vsmmu.make_viommu(viommu, smmu, parent)
    if viommu.type == vintf.VIOMMU_TYPE and smmu.cmdqv is not None:
        guest = vintf.open_vintf(guest, smmu.cmdqv, data)
    viommu.data = guest


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
def viommu_invalidate(viommu: Viommu, requests: UserArray) -> bool:
    """Execute a guest's commands."""
    invalidation.invalidate(viommu.data, requests)
    return True
