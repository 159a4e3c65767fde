"""The nodes of /dev that programs open here."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from viommu.kernel_errors import KernelError
from viommu.vfio.device_file import DeviceFile

if TYPE_CHECKING:
    from viommu.iommufd.user_memory import UserFile
    from viommu.machine import Machine
    from viommu.vfio.devices import Devices

IOMMU_NODE, VFIO_NODE, DEVICE_NODE, GROUP_NODE = 0, 1, 1 << 16, 1 << 17
"""What OPEN names: /dev/iommu, /dev/vfio/vfio, and with their numbers /dev/vfio/devices/vfioN and /dev/vfio/N."""
NUMBER_MASK = DEVICE_NODE - 1


def opened(machine: Machine, devices: Devices, node: int) -> UserFile | int:
    """Open a node: a file, or a negative errno."""
    number = node & NUMBER_MASK
    if node in {IOMMU_NODE, VFIO_NODE}:
        return machine.open_file(vfio=node == VFIO_NODE)
    if number >= len(devices):
        return -errno.ENOENT
    if not node & GROUP_NODE:
        return DeviceFile(devices[number])
    try:
        return devices.groups[number].open()
    except KernelError as error:
        return -error.code


def name_of(node: int) -> str:
    """Say what a node is called."""
    if node == IOMMU_NODE:
        return "/dev/iommu"
    if node == VFIO_NODE:
        return "/dev/vfio/vfio"
    folder = "/dev/vfio" if node & GROUP_NODE else "/dev/vfio/devices"
    return f"{folder}/{'' if node & GROUP_NODE else 'vfio'}{node & NUMBER_MASK}"
