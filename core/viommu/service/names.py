"""What calls are called, and which field of which structure a byte is of."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from viommu.iommufd.fd import IommuFd
from viommu.service.nodes import name_of
from viommu.service.wire import Op
from viommu.vfio import uapi
from viommu.vfio.device_file import DeviceFile
from viommu.vfio.group_file import GroupFile
from viommu.vfio.uapi import OFFSET_SHIFT, DeviceIoctl, GroupIoctl, Region

if TYPE_CHECKING:
    from viommu.iommufd.uapi_struct import UapiStruct
    from viommu.iommufd.user_memory import UserFile
    from viommu.service.files import Files
    from viommu.service.wire import Packet

LAST_ERRNO = 4095
STRUCTS: dict[int, type[UapiStruct]] = {
    DeviceIoctl.GET_INFO: uapi.DeviceInfo,
    DeviceIoctl.GET_REGION_INFO: uapi.RegionInfo,
    DeviceIoctl.GET_IRQ_INFO: uapi.IrqInfo,
    DeviceIoctl.SET_IRQS: uapi.SetIrqs,
    DeviceIoctl.FEATURE: uapi.Feature,
    DeviceIoctl.BIND_IOMMUFD: uapi.BindIommufd,
    DeviceIoctl.ATTACH_IOMMUFD_PT: uapi.AttachPt,
    DeviceIoctl.DETACH_IOMMUFD_PT: uapi.DetachPt,
    GroupIoctl.GET_STATUS: uapi.GroupStatus,
}
VERBS: dict[int, str] = {
    Op.READ: "read of",
    Op.WRITE: "write to",
    Op.MAP: "mmap of",
    Op.LOAD: "load from",
    Op.STORE: "store to",
}
DEVICE_NUMBERS = frozenset(int(number) for number in DeviceIoctl)
GROUP_NUMBERS = frozenset(int(number) for number in GroupIoctl)
REGION_NAMES = {int(Region.CONFIG): "its configuration space", int(Region.ROM): "its ROM", int(Region.VGA): "VGA"}


def told_result(value: int) -> str:
    """Write what a call gives: a number, or an errno by name."""
    if value == -errno.EOPNOTSUPP:  # as the kernel says, of two names of one number
        return "EOPNOTSUPP"
    if -LAST_ERRNO <= value < 0:
        return errno.errorcode.get(-value, str(value))
    return str(value)


def name_of_question(question: Packet, files: Files | None) -> str:
    """Say what a program asks, in a few words."""
    first = question.words[0]
    if question.op == Op.OPEN:
        return f"open of {name_of(first)}"
    served = None if files is None else files.find(first)
    file = None if served is None else served.file
    if question.op == Op.IOCTL:
        return name_of_ioctl(question.words[1], file)
    return f"{VERBS.get(question.op, 'question about')} {name_of_file(file)}"


def name_of_ioctl(number: int, file: UserFile | None) -> str:
    """Say what an ioctl of a file is called."""
    if isinstance(file, IommuFd):
        found = file.named(number)
        return f"ioctl {number:#x} of /dev/iommu" if found is None else found[0]
    if isinstance(file, DeviceFile) and number in DEVICE_NUMBERS:
        return f"VFIO_DEVICE_{DeviceIoctl(number).name}"
    if isinstance(file, GroupFile) and number in GROUP_NUMBERS:
        return f"VFIO_GROUP_{GroupIoctl(number).name}"
    return f"ioctl {number:#x} of {name_of_file(file)}"


def name_of_file(file: UserFile | None) -> str:
    """Say which file it is."""
    if isinstance(file, IommuFd):
        return "/dev/iommu"
    if isinstance(file, DeviceFile):
        return f"device {file.function.name}"
    if isinstance(file, GroupFile):
        return f"the group of {file.group.function.name}"
    return "a file" if file is None else f"a {getattr(file, 'kind', 'file')}"


def name_of_place(file: UserFile | None, position: int) -> str:
    """Say which register of a device's lies at a position of its file; nothing of other files."""
    if not isinstance(file, DeviceFile):
        return ""
    region, offset = position >> OFFSET_SHIFT, position & ((1 << OFFSET_SHIFT) - 1)
    return f", {REGION_NAMES.get(region, f'BAR {region}')} at {offset:#x}"


def field_at(number: int, file: UserFile | None, offset: int) -> tuple[str, int, int] | None:
    """Say which field of an ioctl's structure has a byte: its name, and where it begins and ends; None: none."""
    struct = _struct(number, file)
    if struct is None or not 0 <= offset < struct.total:
        return None
    start, name = max((start, name) for name, start in struct.offsets.items() if start <= offset)
    end = min((other for other in struct.offsets.values() if other > start), default=struct.total)
    return f"{struct.kernel_name}.{name}", start, end


def _struct(number: int, file: UserFile | None) -> type[UapiStruct] | None:
    if not isinstance(file, IommuFd):
        return STRUCTS.get(number)
    found = file.named(number)
    return None if found is None else found[1]
