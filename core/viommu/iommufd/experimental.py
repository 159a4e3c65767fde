"""What a policy adds to the uAPI, where mainline has no bytes for it: ioctls, flags and type ids from 0x80000000 on.

None of it exists while its switch (`viommu.policies.Policy`) is off: an ioctl is then ENOTTY, a flag or a type
EOPNOTSUPP, a longer structure E2BIG, as any kernel answers what it does not know. ``viommu.h``, for C, is generated
from here (`viommu.iommufd.c_header`).
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

from viommu.iommufd.uapi_struct import UapiStruct, bytes16, bytes32, s32, u32, u64

__all__ = [
    "FIRST_FOREIGN_TYPE",
    "FIRST_IOCTL",
    "STRUCTS",
    "AmdCommand",
    "DeviceTlbFlags",
    "DeviceTlbInvalidate",
    "DeviceTlbRange",
    "ExperimentalIoctl",
    "ExperimentalType",
    "HwQueueFlags",
    "HwptVtdGuest",
    "SetFault",
    "SetStage2",
    "VeventAmd",
    "VeventVtd",
    "ViommuAllocVm",
    "ViommuAmd",
    "ViommuFlags",
    "ViommuVtd",
    "VtdDescriptor",
]

FIRST_IOCTL = 0x8000_3BC0
"""_IOC(_IOC_READ, ';', 0xC0, 0): no number of iommufd has a direction."""


class ExperimentalIoctl(IntEnum):
    """Numbers of ioctls."""

    SET_STAGE2 = FIRST_IOCTL
    SET_FAULT = FIRST_IOCTL + 1
    DEVICE_TLB_INVALIDATE = FIRST_IOCTL + 2


class ExperimentalType(IntEnum):
    """Types of vIOMMUs, HW_QUEUEs, VEVENTQs and driver data."""

    VTD = 0x8000_0001
    AMD = 0x8000_0002


FIRST_FOREIGN_TYPE = 0x8001_0000
"""From here on, types are for drivers that are not of this project: each takes what its users do not use otherwise."""


class ViommuFlags(IntFlag):
    """Flags of VIOMMU_ALLOC beyond mainline's."""

    VM = 1 << 31
    """``kvm_fd`` names a virtual machine, whose VMID the vIOMMU shares."""


class HwQueueFlags(IntFlag):
    """Flags of HW_QUEUE_ALLOC beyond mainline's."""

    IOVA = 1 << 31
    """Hardware translates the queue's address itself."""


class DeviceTlbFlags(IntFlag):
    """Flags of one range of DEVICE_TLB_INVALIDATE."""

    PASID = 1
    """``pasid`` is meant; without, translations that have none."""
    EVERY_PASID = 2
    """Whatever the PASID."""


class ViommuAllocVm(UapiStruct, name="viommu_viommu_alloc_vm", last="out_viommu_id"):
    """Make a vIOMMU: iommu_viommu_alloc, and a virtual machine of KVM."""

    size: u32
    flags: u32
    type: u32
    dev_id: u32
    hwpt_id: u32
    out_viommu_id: u32
    data_len: u32
    reserved: u32
    data_uptr: u64
    kvm_fd: s32
    reserved2: u32


class SetStage2(UapiStruct, name="viommu_set_stage2"):
    """Let an empty vIOMMU stand on a nesting parent."""

    size: u32
    flags: u32
    viommu_id: u32
    hwpt_id: u32


class SetFault(UapiStruct, name="viommu_set_fault"):
    """Let page requests of a vIOMMU's vDEVICEs go to a FAULT."""

    size: u32
    flags: u32
    viommu_id: u32
    fault_id: u32


class DeviceTlbInvalidate(UapiStruct, name="viommu_device_tlb_invalidate"):
    """Drop translations that devices keep themselves; ``entry_num`` says afterwards how many entries were executed."""

    size: u32
    flags: u32
    viommu_id: u32
    entry_num: u32
    data_uptr: u64
    entry_len: u32
    reserved: u32


class DeviceTlbRange(UapiStruct, name="viommu_device_tlb_range"):
    """One entry of it: a closed range of addresses."""

    virt_id: u64
    start: u64
    last: u64
    flags: u32
    pasid: u32


# --- VT-d, which has no vIOMMU in mainline: all of it is of type ExperimentalType.VTD


class ViommuVtd(UapiStruct, name="viommu_vtd"):
    """Data of VIOMMU_ALLOC: where the registers of the software queue can be mapped."""

    out_queue_mmap_offset: u64
    out_queue_mmap_length: u64


class HwptVtdGuest(UapiStruct, name="viommu_hwpt_vtd_guest"):
    """Data of HWPT_ALLOC on a vIOMMU: iommu_hwpt_vtd_s1, and the DID by which the guest names the table."""

    flags: u64
    pgtbl_addr: u64
    addr_width: u32
    domain_id: u32


class VtdDescriptor(UapiStruct, name="viommu_vtd_descriptor"):
    """One entry of HWPT_INVALIDATE on a vIOMMU: a guest's descriptor, and what became of it.

    ``error`` is 0, or the bit of FSTS that hardware would set (IQE 0x10, ICE 0x20, ITE 0x40; ICE comes with ITE, as
    who answers wrongly still owes the answer); ``info`` is what IQERCD would tell: IQEI, or the virtual source-id of
    the device that did not answer.
    """

    descriptor: bytes32
    error: u32
    info: u32


class VeventVtd(UapiStruct, name="viommu_vevent_vtd"):
    """One event: bits of FSTS and ICS that the guest's unit would set, and with PPF (1) the fault record.

    The record is as hardware writes it, with the virtual source-id.
    """

    fsts: u32
    ics: u32
    record: bytes16


# --- AMD, whose vIOMMU mainline has not finished: arrays of commands and event queues are of type ExperimentalType.AMD


class ViommuAmd(UapiStruct, name="viommu_amd", last="out_vfmmio_mmap_offset"):
    """Data of VIOMMU_ALLOC of a vIOMMU that hardware runs: where the guest's own page can be mapped, and the VMM's.

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


STRUCTS = (
    ViommuAllocVm,
    SetStage2,
    SetFault,
    DeviceTlbInvalidate,
    DeviceTlbRange,
    ViommuVtd,
    HwptVtdGuest,
    VtdDescriptor,
    VeventVtd,
    ViommuAmd,
    AmdCommand,
    VeventAmd,
)
"""All structures, in the order of ``viommu.h``."""
