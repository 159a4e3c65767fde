"""The hooks that this driver implements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import DriverInfo, hookimpl
from viommu_vtd import explain
from viommu_vtd.hardware.live import LiveUnit
from viommu_vtd.host.guest_hooks import (
    viommu_alloc_nested_on,
    viommu_destroy,
    viommu_hw_queue_destroy,
    viommu_hw_queue_init,
    viommu_init,
    viommu_invalidate,
    viommu_invalidate_device_tlb,
    viommu_set_stage2,
    viommu_supports,
    viommu_supports_hw_queue,
    viommu_vdevice_init,
)
from viommu_vtd.host.hooks import (
    viommu_alloc_nested,
    viommu_alloc_paging,
    viommu_attach,
    viommu_detach,
    viommu_device_facts,
    viommu_free_domain,
    viommu_hw_info,
    viommu_invalidate_nested,
    viommu_page_response,
    viommu_read_dirty,
    viommu_reserved_regions,
    viommu_reset,
    viommu_set_dirty_tracking,
)
from viommu_vtd.host.probing import viommu_interrupt, viommu_probe, viommu_probe_device, viommu_release_device
from viommu_vtd.spec import LAYOUTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.hookspecs import Decoded, HardwareModel, Registers
    from viommu.layout import Descriptor
    from viommu.memory import PhysicalMemory
    from viommu.platform import Platform
    from viommu.testing import GuestKit

__all__ = [
    "hookspec_version",
    "viommu_alloc_nested",
    "viommu_alloc_nested_on",
    "viommu_alloc_paging",
    "viommu_attach",
    "viommu_conformance",
    "viommu_decode",
    "viommu_destroy",
    "viommu_detach",
    "viommu_device_facts",
    "viommu_driver_info",
    "viommu_free_domain",
    "viommu_hardware",
    "viommu_hw_info",
    "viommu_hw_queue_destroy",
    "viommu_hw_queue_init",
    "viommu_init",
    "viommu_interrupt",
    "viommu_invalidate",
    "viommu_invalidate_device_tlb",
    "viommu_invalidate_nested",
    "viommu_kinds",
    "viommu_layouts",
    "viommu_log_line",
    "viommu_page_response",
    "viommu_probe",
    "viommu_probe_device",
    "viommu_read_dirty",
    "viommu_release_device",
    "viommu_reserved_regions",
    "viommu_reset",
    "viommu_set_dirty_tracking",
    "viommu_set_stage2",
    "viommu_supports",
    "viommu_supports_hw_queue",
    "viommu_vdevice_init",
]
"""What pluggy finds here: the hardware's hooks below, the host driver's from `viommu_vtd.host`."""

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
            "iommufd",
            "nesting",
            "dirty tracking",
            "vIOMMU and software vQUEUE (beyond mainline; hardware has no vQUEUE)",
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


@hookimpl
def viommu_conformance() -> GuestKit:
    """Say how guests use it."""
    from viommu_vtd.conformance import KIT  # noqa: PLC0415 - who only uses the driver does without

    return KIT
