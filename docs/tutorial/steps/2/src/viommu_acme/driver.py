"""The hooks that this driver implements. What each of them promises, `viommu.hookspecs` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu import DriverInfo, hookimpl

from viommu_acme.conformance import KIT
from viommu_acme.explain import viommu_decode, viommu_kinds  # noqa: F401 - hooks of this driver
from viommu_acme.hardware import Hardware
from viommu_acme.spec import LAYOUTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu import HardwareModel, PhysicalMemory, Registers
    from viommu.layout import Descriptor
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
        supports=("translation", "explanations"),
    )


@hookimpl
def viommu_layouts() -> Mapping[str, type[Descriptor]]:
    """Give the bit layouts."""
    return LAYOUTS


@hookimpl
def viommu_hardware(memory: PhysicalMemory, registers: Registers) -> HardwareModel:
    """Make one IOMMU instance."""
    return Hardware(memory, registers)


@hookimpl
def viommu_conformance() -> GuestKit:
    """Say how the driver is tested (`viommu conform acme`)."""
    return KIT
