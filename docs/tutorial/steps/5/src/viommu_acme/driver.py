"""The hooks that this driver implements. What each of them promises, `viommu.hookspecs` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu import DriverInfo, hookimpl

from viommu_acme.conformance import KIT
from viommu_acme.explain import viommu_decode, viommu_kinds  # noqa: F401 - hooks of this driver
from viommu_acme.guests import (  # noqa: F401 - likewise
    viommu_alloc_nested_on,
    viommu_init,
    viommu_invalidate,
    viommu_supports,
    viommu_vdevice_init,
)
from viommu_acme.hardware import Hardware
from viommu_acme.host import (  # noqa: F401 - likewise
    viommu_alloc_paging,
    viommu_attach,
    viommu_detach,
    viommu_device_facts,
    viommu_free_domain,
    viommu_interrupt,
    viommu_probe,
    viommu_probe_device,
    viommu_release_device,
)
from viommu_acme.spec import LAYOUTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu import HardwareModel, PhysicalMemory, Registers
    from viommu.layout import Descriptor
    from viommu.platform import Platform
    from viommu.testing import GuestKit

hookspec_version = 1
"""Of which version of the hooks this is written; viommu refuses a driver of another one, by name."""


@hookimpl
def viommu_driver_info() -> DriverInfo:
    """Say who the driver is."""
    return DriverInfo(
        name="acme",
        title="acme IOMMU",
        requester_bits=16,
        pasid_bits=0,
        supports=("translation", "explanations", "registers", "commands", "events", "iommufd", "guests"),
    )


@hookimpl
def viommu_layouts() -> Mapping[str, type[Descriptor]]:
    """Give the bit layouts."""
    return LAYOUTS


@hookimpl
def viommu_hardware(memory: PhysicalMemory, registers: Registers, platform: Platform) -> HardwareModel:
    """Make one IOMMU instance."""
    return Hardware(memory, registers, platform)


@hookimpl
def viommu_conformance() -> GuestKit:
    """Say how the driver is tested (`viommu conform acme`)."""
    return KIT
