"""Structures and numbers of VFIO's devices, in the order of the kernel's header (Linux 7.2)."""

from __future__ import annotations

from enum import IntEnum, IntFlag

from viommu.iommufd.uapi_struct import UapiStruct, s32, u32, u64

FIRST = 0x3B00 + 100


class GroupIoctl(IntEnum):
    """Numbers of the ioctls of a group's file."""

    GET_STATUS = FIRST + 3
    SET_CONTAINER = FIRST + 4
    UNSET_CONTAINER = FIRST + 5
    GET_DEVICE_FD = FIRST + 6


class GroupFlags(IntFlag):
    """Flags of GROUP_GET_STATUS."""

    VIABLE = 1 << 0
    CONTAINER_SET = 1 << 1


class DeviceIoctl(IntEnum):
    """Numbers of the ioctls of a device's file."""

    GET_INFO = FIRST + 7
    GET_REGION_INFO = FIRST + 8
    GET_IRQ_INFO = FIRST + 9
    SET_IRQS = FIRST + 10
    RESET = FIRST + 11
    FEATURE = FIRST + 17
    BIND_IOMMUFD = FIRST + 18
    ATTACH_IOMMUFD_PT = FIRST + 19
    DETACH_IOMMUFD_PT = FIRST + 20


class Region(IntEnum):
    """Regions of a PCI device; BARs are 0 to 5."""

    ROM = 6
    CONFIG = 7
    VGA = 8


REGIONS = 9
OFFSET_SHIFT = 40
"""A region's offset in the file is its number, so far up."""


class Irq(IntEnum):
    """Kinds of interrupts of a PCI device."""

    INTX = 0
    MSI = 1
    MSIX = 2
    ERR = 3
    REQ = 4


IRQS = 5


class InfoFlags(IntFlag):
    """Flags of GET_INFO."""

    RESET = 1 << 0
    PCI = 1 << 1


class RegionFlags(IntFlag):
    """Flags of GET_REGION_INFO."""

    READ = 1 << 0
    WRITE = 1 << 1
    MMAP = 1 << 2
    CAPS = 1 << 3


MSIX_MAPPABLE = (3, 1, 0)
"""A capability of GET_REGION_INFO: its id, its version, and where the next one is. MSI-X's table may be mapped."""


class IrqFlags(IntFlag):
    """Flags of GET_IRQ_INFO."""

    EVENTFD = 1 << 0
    MASKABLE = 1 << 1
    AUTOMASKED = 1 << 2
    NORESIZE = 1 << 3


class IrqSet(IntFlag):
    """Flags of SET_IRQS: one kind of data, one action."""

    DATA_NONE = 1 << 0
    DATA_BOOL = 1 << 1
    DATA_EVENTFD = 1 << 2
    ACTION_MASK = 1 << 3
    ACTION_UNMASK = 1 << 4
    ACTION_TRIGGER = 1 << 5


DATA_KINDS = IrqSet.DATA_NONE | IrqSet.DATA_BOOL | IrqSet.DATA_EVENTFD
ACTIONS = IrqSet.ACTION_MASK | IrqSet.ACTION_UNMASK | IrqSet.ACTION_TRIGGER


class FeatureFlags(IntFlag):
    """Flags of FEATURE above the feature's number."""

    GET = 1 << 16
    SET = 1 << 17
    PROBE = 1 << 18


class FeatureNumber(IntEnum):
    """What FEATURE is about."""

    LOW_POWER_ENTRY = 3
    LOW_POWER_EXIT = 5


FEATURE_MASK = 0xFFFF
WITH_PASID = 1
"""A flag of ATTACH_IOMMUFD_PT and DETACH_IOMMUFD_PT."""
BIND_WITH_TOKEN = 1


class GroupStatus(UapiStruct, name="vfio_group_status"):
    """GROUP_GET_STATUS."""

    argsz: u32
    flags: u32


class DeviceInfo(UapiStruct, name="vfio_device_info", last="num_irqs"):
    """GET_INFO."""

    argsz: u32
    flags: u32
    num_regions: u32
    num_irqs: u32
    cap_offset: u32
    pad: u32


class RegionInfo(UapiStruct, name="vfio_region_info"):
    """GET_REGION_INFO."""

    argsz: u32
    flags: u32
    index: u32
    cap_offset: u32
    size: u64
    offset: u64


class IrqInfo(UapiStruct, name="vfio_irq_info"):
    """GET_IRQ_INFO."""

    argsz: u32
    flags: u32
    index: u32
    count: u32


class SetIrqs(UapiStruct, name="vfio_irq_set"):
    """SET_IRQS; data follow."""

    argsz: u32
    flags: u32
    index: u32
    start: u32
    count: u32


class Feature(UapiStruct, name="vfio_device_feature"):
    """FEATURE; data follow."""

    argsz: u32
    flags: u32


class BindIommufd(UapiStruct, name="vfio_device_bind_iommufd", last="out_devid"):
    """BIND_IOMMUFD."""

    argsz: u32
    flags: u32
    iommufd: s32
    out_devid: u32
    token_uuid_ptr: u64


class AttachPt(UapiStruct, name="vfio_device_attach_iommufd_pt", last="pt_id"):
    """ATTACH_IOMMUFD_PT."""

    argsz: u32
    flags: u32
    pt_id: u32
    pasid: u32


class DetachPt(UapiStruct, name="vfio_device_detach_iommufd_pt", last="flags"):
    """DETACH_IOMMUFD_PT."""

    argsz: u32
    flags: u32
    pasid: u32
