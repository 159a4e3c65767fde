"""The hooks that this driver implements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import DriverInfo, hookimpl
from viommu_vtd import explain
from viommu_vtd.hardware.live import LiveUnit
from viommu_vtd.spec import LAYOUTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.hookspecs import Decoded, HardwareModel, Registers
    from viommu.layout import Descriptor
    from viommu.memory import PhysicalMemory
    from viommu.platform import Platform

hookspec_version = 1


@hookimpl
def viommu_driver_info() -> DriverInfo:
    """Intel VT-d."""
    return DriverInfo(
        name="vtd",
        title="Intel VT-d",
        requester_bits=16,
        pasid_bits=20,
        supports=(
            "legacy mode",
            "scalable mode",
            "first stage (4 and 5 levels)",
            "second stage (3 to 5 levels)",
            "nested translation",
            "pass-through",
            "PASIDs",
            "registers",
            "queued and register-based invalidation",
            "fault recording",
            "ATS",
            "page requests",
            "protected memory",
        ),
        specification="Intel Virtualization Technology for Directed I/O, revision 4.1",
    )


@hookimpl
def viommu_layouts() -> Mapping[str, type[Descriptor]]:
    """Root, context and PASID structures, and the registers around them."""
    return LAYOUTS


@hookimpl
def viommu_hardware(memory: PhysicalMemory, registers: Registers, platform: Platform) -> HardwareModel:
    """Make one remapping unit. Without CAP and ECAP it can do all that is modelled."""
    return LiveUnit.of(memory, registers, platform)


@hookimpl
def viommu_kinds() -> Mapping[str, tuple[int, ...]]:
    """Descriptors of both queues, fault records, structures, page-table entries, registers."""
    return explain.KINDS


@hookimpl
def viommu_decode(kind: str, raw: bytes) -> Decoded:
    """Explain bytes of one kind."""
    return explain.decode(kind, raw)


@hookimpl
def viommu_log_line(line: str) -> tuple[str, bytes] | None:
    """Recognise lines of Linux's intel-iommu driver, which begin with DMAR."""
    return explain.recognise(line)
