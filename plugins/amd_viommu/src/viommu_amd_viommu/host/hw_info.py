"""GET_HW_INFO, and the facts about devices that iommufd asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.iommufd.uapi import HwInfoAmd
from viommu.kernel_errors import Unsupported
from viommu.ops import DeviceFacts, HwInfo, RegionKind, ReservedRegion

if TYPE_CHECKING:
    from viommu_amd_viommu.host.device import HostDevice
    from viommu_amd_viommu.host.unit import Unit

TYPE = 4
"""IOMMU_HW_INFO_TYPE_AMD"""

MSI = ReservedRegion(0xFEE0_0000, 0xFEEF_FFFF, RegionKind.MSI)
HYPERTRANSPORT = ReservedRegion(0xFD_0000_0000, 0xFF_FFFF_FFFF)


def hw_info(unit: Unit, data_type: int) -> HwInfo:
    """Show EFR and EFR2 as hardware has them. Raises Unsupported."""
    if data_type not in {0, TYPE}:
        raise Unsupported("AMD IOMMU", "data_type", data_type, f"0 or {TYPE}")
    registers = unit.registers
    return HwInfo(TYPE, HwInfoAmd.of(efr=int(registers.efr), efr2=int(registers.efr2)).encode())


def facts(device: HostDevice) -> DeviceFacts:
    """Say what a device and its IOMMU can do."""
    return DeviceFacts(
        enforces_coherency=True,
        dirty_tracking=device.unit.able.dirty,
        ats=device.ats,
        max_pasids=device.pasids,
        user_pasid_table=device.unit.profile.nested,
    )


def reserved_regions(unit: Unit) -> tuple[ReservedRegion, ...]:
    """Name what no mapping may use: interrupts, and HyperTransport's range unless hardware ignores that."""
    return (MSI,) if unit.registers.efr2.HTRangeIgnore else (MSI, HYPERTRANSPORT)
