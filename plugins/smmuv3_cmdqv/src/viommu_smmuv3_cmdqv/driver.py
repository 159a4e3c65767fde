"""The hooks of Arm's SMMUv3 (entry point ``smmuv3_cmdqv``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import DriverInfo, hookimpl
from viommu_smmuv3_cmdqv import explain
from viommu_smmuv3_cmdqv.costs import Costs
from viommu_smmuv3_cmdqv.hardware import Smmuv3
from viommu_smmuv3_cmdqv.host.guest_hooks import (
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
    viommu_vdevice_destroy,
    viommu_vdevice_init,
)
from viommu_smmuv3_cmdqv.host.hooks import (
    viommu_alloc_paging,
    viommu_attach,
    viommu_detach,
    viommu_device_facts,
    viommu_free_domain,
    viommu_hw_info,
    viommu_interrupt,
    viommu_page_response,
    viommu_probe,
    viommu_probe_device,
    viommu_read_dirty,
    viommu_release_device,
    viommu_reserved_regions,
    viommu_reset,
    viommu_set_dirty_tracking,
)
from viommu_smmuv3_cmdqv.spec import LAYOUTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from viommu.activity import Activity
    from viommu.hookspecs import Decoded, Registers
    from viommu.layout import Descriptor
    from viommu.memory import PhysicalMemory
    from viommu.platform import Platform
    from viommu.testing import GuestKit

__all__ = [
    "viommu_alloc_nested_on",
    "viommu_alloc_paging",
    "viommu_attach",
    "viommu_conformance",
    "viommu_costs",
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
    "viommu_vdevice_destroy",
    "viommu_vdevice_init",
]

hookspec_version = 1

INFO = DriverInfo(
    name="smmuv3_cmdqv",
    title="Arm SMMUv3 with Tegra241 CMDQV",
    requester_bits=32,
    pasid_bits=20,
    supports=(
        "linear and two-level stream tables",
        "linear and two-level CD tables with substreams",
        "stage 1, stage 2, nested, bypass, abort",
        "VMSAv8-64 tables with 4K, 16K and 64K granules, 52-bit addresses",
        "hardware update of access flag and dirty state",
        "command queue with every command",
        "event queue with stalls and merging, page requests, global errors, interrupts by message and wire",
        "device TLBs: translation requests, translated accesses, invalidation",
        "Tegra241 CMDQV: command queues for the host and for guests",
        "iommufd: paging and nested HWPTs, PASIDs, dirty tracking, vIOMMUs, HW_QUEUEs, events, stalls",
    ),
    specification="Arm IHI 0070",
)


@hookimpl
def viommu_driver_info() -> DriverInfo:
    """Say who the driver is."""
    return INFO


@hookimpl
def viommu_layouts() -> Mapping[str, type[Descriptor]]:
    """Give the bit layouts by the specification's names."""
    return LAYOUTS


@hookimpl
def viommu_hardware(memory: PhysicalMemory, registers: Registers, platform: Platform) -> Smmuv3:
    """Make one SMMU. Raises BadRegister."""
    return Smmuv3.made(memory, registers, platform)


@hookimpl
def viommu_costs(activity: Activity) -> Sequence[str]:
    """Say what a guest's invalidations would have cost on a Grace."""
    return list(Costs().account(activity).lines())


@hookimpl
def viommu_kinds() -> Mapping[str, tuple[int, ...]]:
    """Name what can be explained."""
    return explain.KINDS


@hookimpl
def viommu_decode(kind: str, raw: bytes) -> Decoded:
    """Explain bytes."""
    return explain.decode(kind, raw)


@hookimpl
def viommu_log_line(line: str) -> tuple[str, bytes] | None:
    """Recognise a line of Linux's arm-smmu-v3."""
    return explain.recognise(line)


@hookimpl
def viommu_conformance() -> GuestKit:
    """Say how guests use it."""
    from viommu_smmuv3_cmdqv.conformance import KIT  # noqa: PLC0415 - who only uses the driver does without

    return KIT
