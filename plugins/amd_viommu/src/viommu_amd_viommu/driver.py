"""The entry point ``amd_viommu``: the hooks, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import DriverInfo, hookimpl
from viommu_amd_viommu import explain
from viommu_amd_viommu.hardware import AmdIommu
from viommu_amd_viommu.layouts import LAYOUTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.hookspecs import Decoded, HardwareModel, Registers
    from viommu.layout import Descriptor
    from viommu.memory import PhysicalMemory
    from viommu.platform import Platform

hookspec_version = 1

_INFO = DriverInfo(
    name="amd_viommu",
    title="AMD IOMMU (AMD-Vi)",
    requester_bits=16,
    pasid_bits=20,
    supports=(
        "host tables (v1), 1 to 6 levels, every page size",
        "guest tables (v2), 4 and 5 levels, through GCR3 tables of 1 to 3 levels",
        "guest tables over host tables",
        "pass-through",
        "device-table segments",
        "registers, command buffer, event and PPR logs with their overflow and their doubles",
        "device TLBs (ATS) and page requests (PRI), with automatic responses",
        "interrupts by MSI and by the XT registers",
    ),
    specification="AMD 48882",
)


@hookimpl
def viommu_driver_info() -> DriverInfo:
    """Who this driver is."""
    return _INFO


@hookimpl
def viommu_layouts() -> Mapping[str, type[Descriptor]]:
    """Every structure, register and event record."""
    return LAYOUTS


@hookimpl
def viommu_hardware(memory: PhysicalMemory, registers: Registers, platform: Platform) -> HardwareModel:
    """One IOMMU. Raises BadRegister where the registers describe no such IOMMU."""
    return AmdIommu.of(memory, registers, platform)


@hookimpl
def viommu_kinds() -> Mapping[str, tuple[int, ...]]:
    """Commands, log entries, structures, page-table entries, and every register by its name."""
    return explain.KINDS


@hookimpl
def viommu_decode(kind: str, raw: bytes) -> Decoded:
    """Explain bytes."""
    return explain.decode(kind, raw)


@hookimpl
def viommu_log_line(line: str) -> tuple[str, bytes] | None:
    """Recognise what Linux's driver logs under ``AMD-Vi:``."""
    return explain.recognised(line)
