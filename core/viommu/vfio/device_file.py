"""An open /dev/vfio/devices/vfioN: ioctls, regions and mappings, in the kernel's order of checks."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, ClassVar, Protocol, Self, TypeVar

from viommu.iommufd.fd import ALWAYS_READY, IommuFd
from viommu.iommufd.user_memory import UserProcess
from viommu.kernel_errors import (
    BadAddress,
    BadFile,
    Invalid,
    KernelError,
    NoDevice,
    NotAnIoctl,
    WrongFile,
)
from viommu.objects.device import RID, Device
from viommu.vfio.uapi import (
    BIND_WITH_TOKEN,
    FEATURE_MASK,
    IRQS,
    OFFSET_SHIFT,
    REGIONS,
    WITH_PASID,
    AttachPt,
    BindIommufd,
    DetachPt,
    DeviceInfo,
    DeviceIoctl,
    Feature,
    FeatureFlags,
    InfoFlags,
    IrqInfo,
    Region,
    RegionFlags,
    RegionInfo,
    SetIrqs,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.iommufd.uapi_struct import UapiStruct
    from viommu.vfio.function import Function

S = TypeVar("S", bound="UapiStruct")

PAGE_SIZE = 4096
MAP_SHARED = 1
MOST_AT_ONCE = 1 << 20
"""Bytes of a region that one read or write moves."""


class LendingProcess(UserProcess, Protocol):
    """A process that lends its descriptors: eventfds are signalled after the call."""

    def descriptor(self, fd: int) -> int | None:
        """Give a descriptor of our own for one of the process's; None where it is not open."""


class DeviceFile:
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
        asked = _argument(process, address, BindIommufd)
        if asked.iommufd < 0 or asked.flags & ~BIND_WITH_TOKEN:
            raise Invalid(asked.kernel_name, "flags, iommufd", asked.flags, "no flags, and a descriptor")
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
            self._respond(process, address, asked, BindIommufd.least)
        except BadAddress:
            with file.context.lock:
                device.unbind()
            raise
        self._own(device)
        return 0

    def _own(self, device: Device) -> None:
        self.device = device
        device.context.keep()
        self.function.reset()

    def _attach(self, process: LendingProcess, address: int) -> int:
        asked = _argument(process, address, AttachPt, AttachPt.total)
        pasid = asked.pasid if _checked_flags(asked) & WITH_PASID else RID
        device = self._bound()
        with device.context.lock:
            attached = device.attached_to(pasid) is not None
            hwpt = (device.replace if attached else device.attach)(asked.pt_id, pasid)
            asked.pt_id = hwpt.id
        self._respond(process, address, asked, AttachPt.least)
        return 0

    def _detach(self, process: LendingProcess, address: int) -> int:
        asked = _argument(process, address, DetachPt, DetachPt.total)
        pasid = asked.pasid if _checked_flags(asked) & WITH_PASID else RID
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
        asked = _argument(process, address, DeviceInfo)
        asked.flags, asked.num_regions, asked.num_irqs = InfoFlags.PCI | InfoFlags.RESET, REGIONS, IRQS
        asked.cap_offset = 0
        self._respond(process, address, asked, min(asked.argsz, DeviceInfo.total))
        return 0

    def _region_info(self, process: LendingProcess, address: int) -> int:
        asked = _argument(process, address, RegionInfo)
        if asked.index >= REGIONS or asked.index == Region.VGA:
            raise Invalid(asked.kernel_name, "index", asked.index, f"below {int(Region.VGA)}")
        asked.size = self.function.region_size(asked.index)
        asked.offset = asked.index << OFFSET_SHIFT
        asked.flags = RegionFlags.READ | RegionFlags.WRITE if asked.size else RegionFlags(0)
        if self.function.may_map(asked.index):
            asked.flags |= RegionFlags.MMAP
        asked.cap_offset = 0
        self._respond(process, address, asked, RegionInfo.total)
        return 0

    def _irq_info(self, process: LendingProcess, address: int) -> int:
        asked = _argument(process, address, IrqInfo)
        asked.flags, asked.count = self.function.interrupts.info(asked.index)
        self._respond(process, address, asked, IrqInfo.total)
        return 0

    def _set_irqs(self, process: LendingProcess, address: int) -> int:
        asked = _argument(process, address, SetIrqs)

        def data(size: int) -> bytes:
            if asked.argsz - SetIrqs.total < size:
                raise Invalid(asked.kernel_name, "argsz", asked.argsz, f"{SetIrqs.total + size} at least")
            return _read(process, address + SetIrqs.total, size)

        with self.function.lock:
            self.function.interrupts.set(asked, data, process.descriptor)
        return 0

    def _reset(self, process: LendingProcess, address: int) -> int:  # noqa: ARG002
        self.function.reset()
        return 0

    def _feature(self, process: LendingProcess, address: int) -> int:
        asked = _argument(process, address, Feature)
        chosen = FeatureFlags(asked.flags & ~FEATURE_MASK & 0x7_0000)
        both = FeatureFlags.GET | FeatureFlags.SET
        if asked.flags & ~(FEATURE_MASK | int(both) | int(FeatureFlags.PROBE)) or not chosen:
            raise Invalid(asked.kernel_name, "flags", asked.flags, "GET, SET or PROBE")
        if chosen == both:
            raise Invalid(asked.kernel_name, "flags", asked.flags, "GET or SET")
        raise NotAnIoctl(asked.kernel_name, "feature", asked.flags & FEATURE_MASK, "one that it has")

    @staticmethod
    def _respond(process: LendingProcess, address: int, answer: UapiStruct, size: int) -> None:
        if not process.write(address, answer.encode()[:size]):
            raise BadAddress(answer.kernel_name, "argument", address, "writable for the reply")

    # --- regions

    def read(self, process: UserProcess, address: int, count: int, position: int = 0) -> int:
        """Answer pread: bytes of a region."""
        found = self._stretch(count, position)
        if isinstance(found, int):
            return found
        region, offset, length = found
        return length if process.write(address, self.function.load(region, offset, length)) else -errno.EFAULT

    def write(self, process: UserProcess, address: int, count: int, position: int = 0) -> int:
        """Answer pwrite."""
        found = self._stretch(count, position)
        if isinstance(found, int):
            return found
        region, offset, length = found
        data = process.read(address, length)
        if data is None:
            return -errno.EFAULT
        self.function.store(region, offset, data)
        return length

    def _stretch(self, count: int, position: int) -> tuple[int, int, int] | int:
        """Say which stretch of which region is meant, as far as there is one; or the errno, or 0 for no bytes."""
        region, offset = position >> OFFSET_SHIFT, position & ((1 << OFFSET_SHIFT) - 1)
        if self.device is None or region >= REGIONS:
            return -errno.EINVAL
        if not count:
            return 0
        size = self.function.region_size(region)
        if offset >= size:
            return 0 if region == Region.CONFIG else -errno.EINVAL
        return region, offset, min(count, size - offset, MOST_AT_ONCE)

    def poll(self, events: int = 0xFFFF) -> int:
        """Answer poll: a file without a poll operation is always ready."""
        return ALWAYS_READY & events

    def mmap(self, length: int, prot: int, flags: int, offset: int) -> int:  # noqa: ARG002
        """Answer mmap of a BAR: 0, or a negative errno. Who has mapped it makes each access a read or a write."""
        region, start = offset >> OFFSET_SHIFT, offset & ((1 << OFFSET_SHIFT) - 1)
        if self.device is None or region >= REGIONS or not flags & MAP_SHARED or not self.function.may_map(region):
            return -errno.EINVAL
        room = max(self.function.region_size(region), PAGE_SIZE)
        return 0 if start + -(-length // PAGE_SIZE) * PAGE_SIZE <= room else -errno.EINVAL

    def release(self) -> None:
        """Take note that the last fd is closed: the device is the host's again."""
        device, self.device = self.device, None
        if device is None:
            return
        context = device.context
        self.function.reset()
        self.function.interrupts.close()
        with context.lock:
            for pasid in tuple(device.group.attachments):
                device.detach(pasid)
            device.unbind()
            context.release()


_ACTS: dict[int, Callable[[DeviceFile, LendingProcess, int], int]] = {
    DeviceIoctl.GET_INFO: DeviceFile._info,  # noqa: SLF001 - the table of its own methods
    DeviceIoctl.GET_REGION_INFO: DeviceFile._region_info,  # noqa: SLF001
    DeviceIoctl.GET_IRQ_INFO: DeviceFile._irq_info,  # noqa: SLF001
    DeviceIoctl.SET_IRQS: DeviceFile._set_irqs,  # noqa: SLF001
    DeviceIoctl.RESET: DeviceFile._reset,  # noqa: SLF001
    DeviceIoctl.FEATURE: DeviceFile._feature,  # noqa: SLF001
    DeviceIoctl.BIND_IOMMUFD: DeviceFile._bind,  # noqa: SLF001
    DeviceIoctl.ATTACH_IOMMUFD_PT: DeviceFile._attach,  # noqa: SLF001
    DeviceIoctl.DETACH_IOMMUFD_PT: DeviceFile._detach,  # noqa: SLF001
}

_ACTS_OF_GROUP = {
    number: act
    for number, act in _ACTS.items()
    if number not in {DeviceIoctl.BIND_IOMMUFD, DeviceIoctl.ATTACH_IOMMUFD_PT, DeviceIoctl.DETACH_IOMMUFD_PT}
}


def _read(process: UserProcess, address: int, size: int) -> bytes:
    raw = process.read(address, size)
    if raw is None:
        raise BadAddress("ioctl", "argument", address, f"{size:#x} readable bytes")
    return raw


def _argument(process: UserProcess, address: int, struct: type[S], most: int | None = None) -> S:
    """Copy a structure in, as far as ``argsz`` says and at most ``most`` bytes (None: what it must have).

    Raises BadAddress, Invalid.
    """
    given = int.from_bytes(_read(process, address, 4), "little")
    if given < struct.least:
        raise Invalid(struct.kernel_name, "argsz", given, f"at least {struct.least:#x}")
    size = min(given, most or struct.least)
    return struct.decode(_read(process, address, size).ljust(struct.total, b"\0"))


def _checked_flags(asked: AttachPt | DetachPt) -> int:
    if asked.flags & ~WITH_PASID:
        raise Invalid(asked.kernel_name, "flags", asked.flags, f"of {WITH_PASID:#x}")
    if asked.flags & WITH_PASID and asked.argsz < asked.total:
        raise Invalid(asked.kernel_name, "argsz", asked.argsz, f"{asked.total:#x} with a PASID")
    return asked.flags
