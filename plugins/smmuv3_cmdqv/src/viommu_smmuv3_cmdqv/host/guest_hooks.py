"""The driver face: hooks of `viommu.hookspecs` for guests' SMMUs, in its order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import hookimpl
from viommu_smmuv3_cmdqv.host import invalidation, vsmmu
from viommu_smmuv3_cmdqv.host.hooks import master_of

if TYPE_CHECKING:
    from viommu.objects.physical import PhysicalDevice
    from viommu.objects.vdevice import Vdevice
    from viommu.objects.viommu import Viommu
    from viommu.ops import DomainFlags, UserArray, UserData
    from viommu_smmuv3_cmdqv.host.domain import PagingDomain
    from viommu_smmuv3_cmdqv.host.vsmmu import NestedDomain


# --- alloc


@hookimpl
def viommu_supports(device: PhysicalDevice, viommu_type: int) -> bool:
    """A guest can have an SMMU where stage 1 can stand on stage 2."""
    return master_of(device).smmu.able.nested and viommu_type == vsmmu.VIOMMU_TYPE


@hookimpl
def viommu_init(viommu: Viommu, parent: PagingDomain) -> None:
    """Make a guest's SMMU."""
    viommu.data = vsmmu.make_viommu(viommu, viommu.iommu.data, parent)


@hookimpl
def viommu_destroy(viommu: Viommu) -> None:
    """Nothing is left of it in hardware."""


@hookimpl
def viommu_alloc_nested_on(viommu: Viommu, flags: DomainFlags, data: UserData) -> NestedDomain:
    """Take a guest's STE."""
    return vsmmu.make_nested(viommu.data, flags, data)


@hookimpl
def viommu_vdevice_init(vdevice: Vdevice) -> None:
    """Let a device be known by a StreamID of the guest's: commands are rewritten when they come."""


@hookimpl
def viommu_vdevice_destroy(vdevice: Vdevice) -> None:
    """Forget it."""


# --- invalidate


@hookimpl
def viommu_invalidate(viommu: Viommu, requests: UserArray) -> bool:
    """Execute a guest's commands."""
    invalidation.invalidate(viommu.data, requests)
    return True
