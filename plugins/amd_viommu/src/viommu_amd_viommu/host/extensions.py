"""Calls of AMD's that mainline has no bytes for: invalidation by a guest's commands, events, hardware vIOMMUs.

`TYPE` is beyond every number of the kernel's. Of the numbers of the published series no kernel has decided: that of the
vIOMMU is the series'; those of the queues follow on mainline's last.
"""

from __future__ import annotations

from enum import IntEnum

from viommu.iommufd.uapi_struct import UapiStruct, bytes16, u64

TYPE = 0x8000_0002
"""Stands for AMD in arrays of commands (HWPT_INVALIDATE) and in event queues."""

HARDWARE_VIOMMU = 3
"""Type of a vIOMMU that hardware runs (IOMMU_VIOMMU_TYPE_AMD of the series)."""


class QueueType(IntEnum):
    """Types of its HW_QUEUEs."""

    COMMANDS = 2
    EVENTS = 3
    PAGE_REQUESTS = 4


class ViommuAmd(UapiStruct, name="viommu_amd", last="out_vfmmio_mmap_offset"):
    """Data of VIOMMU_ALLOC: where the guest's own page can be mapped, and one for the VMM.

    The first belongs at 0x2000 of the guest's IOMMU. What the guest stores into Control, at 0x18 of its first page, the
    VMM stores at 0x18 of the second.
    """

    out_vfmmio_mmap_offset: u64
    out_control_mmap_offset: u64


class AmdCommand(UapiStruct, name="viommu_amd_command"):
    """One entry of HWPT_INVALIDATE on a vIOMMU: a command as a guest wrote it, DeviceIDs and DomainIDs its own."""

    command: bytes16


class VeventAmd(UapiStruct, name="viommu_vevent_amd"):
    """One event: an entry of the event log as hardware writes it, DeviceID and DomainID the guest's."""

    event: bytes16
