"""Calls of AMD's that mainline has no bytes for: invalidation by a guest's commands, events of a guest's devices.

`TYPE` is beyond every number of the kernel's. The numbers of the published series for a vIOMMU that hardware runs, of
which no kernel has decided, are below 0x80000000: those of the vIOMMU are told by its sheet, the others follow on
mainline's last.
"""

from __future__ import annotations

from viommu.iommufd.uapi_struct import UapiStruct, bytes16

TYPE = 0x8000_0002
"""Stands for AMD in arrays of commands (HWPT_INVALIDATE) and in event queues."""


class AmdCommand(UapiStruct, name="viommu_amd_command"):
    """One entry of HWPT_INVALIDATE on a vIOMMU: a command as a guest wrote it, DeviceIDs and DomainIDs its own."""

    command: bytes16


class VeventAmd(UapiStruct, name="viommu_vevent_amd"):
    """One event: an entry of the event log as hardware writes it, DeviceID and DomainID the guest's."""

    event: bytes16
