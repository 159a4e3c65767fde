"""vIOMMUs and what stands on them: made, found, taken down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.kernel_errors import Invalid, Unsupported
from viommu_amd_viommu.host import nested
from viommu_amd_viommu.host.guest_iommu import GuestIommu
from viommu_amd_viommu.host.paging import HostTables

if TYPE_CHECKING:
    from viommu.objects.viommu import Viommu
    from viommu.ops import DomainFlags, PagingDomain, UserData
    from viommu_amd_viommu.host.nested import NestedDomain
    from viommu_amd_viommu.host.unit import Unit


def make(unit: Unit, viommu: Viommu, parent: PagingDomain, data: UserData | None) -> None:  # noqa: ARG001
    """Make a vIOMMU. Raises Invalid. Linux 7.2 takes any type, and looks at no data."""
    if not isinstance(parent, HostTables) or not parent.nest_parent:
        raise Invalid("AMD vIOMMU", "parent", bound="host tables, allocated with NEST_PARENT")
    viommu.data = GuestIommu(unit, viommu, parent)


def alloc_nested(guest: GuestIommu, flags: DomainFlags, data: UserData) -> NestedDomain:  # noqa: ARG001
    """Make a nested domain. Raises Unsupported, Invalid, BadAddress, NoSpace."""
    if not guest.unit.profile.nested:
        raise Unsupported("AMD vIOMMU", "nested domain", bound="none: Linux 7.2 has not connected them")
    return nested.make(guest, data)
