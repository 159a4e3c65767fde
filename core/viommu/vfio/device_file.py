"""An open /dev/vfio/devices/vfioN: ioctls, regions and mappings, in the kernel's order of checks."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, ClassVar, Protocol, Self, TypeVar

from viommu.iommufd.argsz import copied_in, put
from viommu.iommufd.fd import IommuFd
from viommu.iommufd.plain_file import PlainFile
from viommu.iommufd.user_memory import UserProcess
from viommu.kernel_errors import (
    BadAddress,
    BadFile,
    Busy,
    Invalid,
    KernelError,
    NoDevice,
    NotAnIoctl,
    WrongFile,
)
from viommu.objects.device import RID, Device
from viommu.vfio.features import use_feature
from viommu.vfio.regions import may_map, stretch, tell_of_region
from viommu.vfio.uapi import (
    BIND_WITH_TOKEN,
    IRQS,
    REGIONS,
    WITH_PASID,
    AttachPt,
    BindIommufd,
    DetachPt,
    DeviceInfo,
    DeviceIoctl,
    InfoFlags,
    IrqInfo,
    SetIrqs,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.vfio.function import Function

P = TypeVar("P", AttachPt, DetachPt)

MAP_SHARED = 1


class LendingProcess(UserProcess, Protocol):
    """A process that lends its descriptors: eventfds are signalled after the call."""

    def descriptor(self, fd: int) -> int | None:
        """Give a descriptor of our own for one of the process's; None where it is not open."""


class DeviceFile(PlainFile):
    """One open file (a `viommu.iommufd.user_memory.UserFile`); nothing but BIND_IOMMUFD works before that."""

    kind: ClassVar[str] = "vfio device"

    def __init__(self, function: Function) -> None:
        """Open a function's."""
        self.function = function
        self.device: Device | None = None
        self._acts = _ACTS

    @classmethod
    def of_group(cls, function: Function, file: IommuFd) -> Self:
        """Open it by its group: bound already, and attached to what VFIO compatibility uses. Raises KernelError."""
        opened = cls(function)
        context = file.context
        with context.lock:
            if context.compat is None:
                raise NoDevice("VFIO compatibility", "IOAS", bound="set")
            device = Device.bind(context, function.endpoint.physical)
            try:
                device.attach(context.compat.id)
            except BaseException:
                device.unbind()
                raise
        opened._acts = _ACTS_OF_GROUP
        opened._own(device)
        return opened

    def ioctl(self, number: int, argument: int, process: LendingProcess) -> int:
        """Make an ioctl: 0 or more, or a negative errno."""
        act = self._acts.get(number)
        try:
            if act is not DeviceFile._bind and self.device is None:
                raise Invalid(self.function.name, "owner", bound="bound to an iommufd first")
            if act is None:
                raise NotAnIoctl("ioctl", "number", number, "one of a VFIO device")
            return act(self, process, argument)
        except KernelError as error:
            return -error.code

    # --- what iommufd has to do with it

    def _bind(self, process: LendingProcess, address: int) -> int:
        asked = _to_be_bound(process, address)
        if asked.iommufd < 0 or asked.flags & ~BIND_WITH_TOKEN:
            raise Invalid(asked.kernel_name, "flags, iommufd", asked.flags, "no flags, and a descriptor")
        if self.function.is_open_by_group:
            raise Busy(self.function.name, "group", bound="closed: a device is opened by its group or by itself")
        if self.device is not None or asked.flags:
            raise Invalid(self.function.name, "owner", bound="not bound yet, and no token: it has no virtual functions")
        file = process.file(asked.iommufd)
        if file is None:
            raise BadFile(asked.kernel_name, "iommufd", asked.iommufd, "open")
        if not isinstance(file, IommuFd):
            raise WrongFile(asked.kernel_name, "iommufd", asked.iommufd, "that of /dev/iommu")
        with file.context.lock:
            device = Device.bind(file.context, self.function.endpoint.physical)
        asked.out_devid = device.id
        try:
            put(process, address, asked.encode()[: BindIommufd.least])
        except BadAddress:
            with file.context.lock:
                device.unbind()
            raise
        self._own(device)
        self.function.is_open_by_itself = True
        return 0

    def _own(self, device: Device) -> None:
        self.device = device
        device.context.keep()
        self.function.open()

    def _attach(self, process: LendingProcess, address: int) -> int:
        asked, pasid = _with_pasid(AttachPt, process, address)
        device = self._bound()
        with device.context.lock:
            attached = device.attached_to(pasid) is not None
            hwpt = (device.replace if attached else device.attach)(asked.pt_id, pasid)
            asked.pt_id = hwpt.id
            try:
                put(process, address, asked.encode()[: AttachPt.least])
            except BadAddress:
                device.detach(RID)
                raise
        return 0

    def _detach(self, process: LendingProcess, address: int) -> int:
        _, pasid = _with_pasid(DetachPt, process, address)
        device = self._bound()
        with device.context.lock:
            device.detach(pasid)
        return 0

    def _bound(self) -> Device:
        if self.device is None:
            raise Invalid(self.function.name, "owner", bound="bound to an iommufd first")
        return self.device

    # --- what it is

    def _info(self, process: LendingProcess, address: int) -> int:
        asked = copied_in(DeviceInfo, process, address, DeviceInfo.least)
        asked.flags, asked.num_regions, asked.num_irqs = InfoFlags.PCI | InfoFlags.RESET, REGIONS, IRQS
        asked.cap_offset = 0
        put(process, address, asked.encode()[: asked.argsz])
        return 0

    def _irq_info(self, process: LendingProcess, address: int) -> int:
        asked = copied_in(IrqInfo, process, address)
        asked.flags, asked.count = self.function.interrupts.info(asked.index)
        put(process, address, asked.encode())
        return 0

    def _set_irqs(self, process: LendingProcess, address: int) -> int:
        asked = copied_in(SetIrqs, process, address)

        def data(size: int) -> bytes:
            if asked.argsz - SetIrqs.total < size:
                raise Invalid(asked.kernel_name, "argsz", asked.argsz, f"{SetIrqs.total + size} at least")
            raw = process.read(address + SetIrqs.total, size)
            if raw is None:
                raise BadAddress(asked.kernel_name, "data", address + SetIrqs.total, f"{size:#x} readable bytes")
            return raw

        self.function.interrupts.set(asked, data, process.descriptor)
        return 0

    def _reset(self, process: LendingProcess, address: int) -> int:  # noqa: ARG002
        self.function.reset()
        return 0

    # --- regions

    def read(self, process: UserProcess, address: int, count: int, position: int = 0) -> int:
        """Answer pread: bytes of a region."""
        found = -errno.EINVAL if self.device is None else stretch(self.function, count, position)
        if isinstance(found, int):
            return found
        data = self.function.load(*found)
        if data is None:
            return -errno.EIO
        return len(data) if process.write(address, data) else -errno.EFAULT

    def write(self, process: UserProcess, address: int, count: int, position: int = 0) -> int:
        """Answer pwrite."""
        found = -errno.EINVAL if self.device is None else stretch(self.function, count, position)
        if isinstance(found, int):
            return found
        region, offset, length = found
        data = process.read(address, length)
        if data is None:
            return -errno.EFAULT
        return length if self.function.store(region, offset, data) else -errno.EIO

    def mmap(self, length: int, prot: int, flags: int, offset: int) -> int:  # noqa: ARG002
        """Answer mmap of a BAR: 0, or a negative errno. Who has mapped it makes each access a read or a write."""
        if self.device is None or not flags & MAP_SHARED or not may_map(self.function, length, offset):
            return -errno.EINVAL
        return 0

    def release(self) -> None:
        """Take note that the last fd is closed: the device is the host's again."""
        device, self.device = self.device, None
        if device is None:
            return
        context = device.context
        self.function.close()
        with context.lock:
            for pasid in tuple(device.group.attachments):
                device.detach(pasid)
            device.unbind()
            context.release()


def _region_info(file: DeviceFile, process: LendingProcess, address: int) -> int:
    return tell_of_region(file.function, process, address)


def _feature(file: DeviceFile, process: LendingProcess, address: int) -> int:
    return use_feature(file.function, process, address)


_ACTS: dict[int, Callable[[DeviceFile, LendingProcess, int], int]] = {
    DeviceIoctl.GET_INFO: DeviceFile._info,  # noqa: SLF001 - the table of its own methods
    DeviceIoctl.GET_REGION_INFO: _region_info,
    DeviceIoctl.GET_IRQ_INFO: DeviceFile._irq_info,  # noqa: SLF001
    DeviceIoctl.SET_IRQS: DeviceFile._set_irqs,  # noqa: SLF001
    DeviceIoctl.RESET: DeviceFile._reset,  # noqa: SLF001
    DeviceIoctl.FEATURE: _feature,
    DeviceIoctl.BIND_IOMMUFD: DeviceFile._bind,  # noqa: SLF001
    DeviceIoctl.ATTACH_IOMMUFD_PT: DeviceFile._attach,  # noqa: SLF001
    DeviceIoctl.DETACH_IOMMUFD_PT: DeviceFile._detach,  # noqa: SLF001
}

_ACTS_OF_GROUP = {
    number: act
    for number, act in _ACTS.items()
    if number not in {DeviceIoctl.BIND_IOMMUFD, DeviceIoctl.ATTACH_IOMMUFD_PT, DeviceIoctl.DETACH_IOMMUFD_PT}
}


def _to_be_bound(process: UserProcess, address: int) -> BindIommufd:
    """Copy BIND_IOMMUFD's argument in, of which argsz is looked at before the rest. Raises BadAddress, Invalid."""
    raw = process.read(address, 4)
    given = BindIommufd.least if raw is None else int.from_bytes(raw, "little")
    if given < BindIommufd.least:
        raise Invalid(BindIommufd.kernel_name, "argsz", given, f"at least {BindIommufd.least:#x}")
    return copied_in(BindIommufd, process, address, BindIommufd.least)


def _with_pasid(kind: type[P], process: UserProcess, address: int) -> tuple[P, int]:
    """Copy an argument in, and say whom it is about: its PASID, or the RID. Raises BadAddress, Invalid."""
    asked = copied_in(kind, process, address, kind.least)
    if asked.flags & ~WITH_PASID:
        raise Invalid(asked.kernel_name, "flags", asked.flags, f"of {WITH_PASID:#x}")
    if not asked.flags & WITH_PASID:
        return asked, RID
    if asked.argsz < kind.total:
        raise Invalid(asked.kernel_name, "argsz", asked.argsz, f"{kind.total:#x} with a PASID")
    asked = copied_in(kind, process, address)
    return asked, asked.pasid
