"""iommufd for Python: the ioctls of an open /dev/iommu as methods of the objects that they make.

Each method makes the ioctl that it is named for, by its structure; what the kernel would refuse is raised as an
`viommu.kernel_errors.KernelError`, an OSError that names object, field, value and bound. Addresses, lengths and sizes
are in bytes.
"""

from viommu.api.device import Device, HwInfo
from viommu.api.events import Event, EventQueue, FaultQueue, PageRequest
from viommu.api.hwpt import Hwpt
from viommu.api.ioas import Ioas
from viommu.api.iommufd import Iommufd
from viommu.api.nested import NestedHwpt
from viommu.api.viommu import DeviceTlbEntry, HwQueue, Vdevice, Viommu

__all__ = [
    "Device",
    "DeviceTlbEntry",
    "Event",
    "EventQueue",
    "FaultQueue",
    "HwInfo",
    "HwQueue",
    "Hwpt",
    "Ioas",
    "Iommufd",
    "NestedHwpt",
    "PageRequest",
    "Vdevice",
    "Viommu",
]
