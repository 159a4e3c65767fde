"""An open /dev/vfio/N: a group of devices, as programs own them that know no iommufd."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from attrs import define, field

from viommu.addresses import PAGE_SIZE
from viommu.iommufd.argsz import copied_in, put
from viommu.iommufd.fd import IommuFd
from viommu.iommufd.plain_file import PlainFile
from viommu.kernel_errors import BadAddress, BadFile, Busy, Invalid, KernelError, NoDevice, NotAnIoctl, WrongFile
from viommu.objects.ioas import Ioas
from viommu.vfio.device_file import DeviceFile
from viommu.vfio.uapi import GroupFlags, GroupIoctl, GroupStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.iommufd.user_memory import UserProcess
    from viommu.vfio.function import Function


@define(eq=False)
class Group:
    """A group, which one program has open at most. Ours have one device each."""

    function: Function
    opened: GroupFile | None = field(default=None)

    def open(self) -> GroupFile:
        """Open it. Raises Busy."""
        if self.opened is not None or self.function.is_open_by_itself:
            raise Busy(f"group of {self.function.name}", "owner", bound="nobody yet")
        self.opened = GroupFile(self)
        self.function.is_open_by_group = True
        return self.opened


class GroupFile(PlainFile):
    """The open file (a `viommu.iommufd.user_memory.UserFile`)."""

    kind: ClassVar[str] = "vfio group"

    def __init__(self, group: Group) -> None:
        """Take the group."""
        self.group = group
        self.file: IommuFd | None = None

    def ioctl(self, number: int, argument: int, process: UserProcess) -> int:
        """Make an ioctl: 0 or more, or a negative errno."""
        act = _ACTS.get(number)
        try:
            if act is None:
                raise NotAnIoctl("ioctl", "number", number, "one of a VFIO group")
            return act(self, process, argument)
        except KernelError as error:
            return -error.code

    def _status(self, process: UserProcess, address: int) -> int:
        asked = copied_in(GroupStatus, process, address)
        owned = self.group.function.endpoint.physical.owner is not None
        if self.file is not None:
            asked.flags = GroupFlags.VIABLE | GroupFlags.CONTAINER_SET
        else:
            asked.flags = GroupFlags(0) if owned else GroupFlags.VIABLE
        put(process, address, asked.encode())
        return 0

    def _set_container(self, process: UserProcess, address: int) -> int:
        number = int.from_bytes(_read(process, address, 4), "little", signed=True)
        file = process.file(number)
        if file is None:
            raise BadFile("VFIO_GROUP_SET_CONTAINER", "container", number, "open")
        if self.file is not None:
            raise Invalid("VFIO_GROUP_SET_CONTAINER", "container", bound="not set yet")
        if not isinstance(file, IommuFd):
            raise WrongFile("VFIO_GROUP_SET_CONTAINER", "container", number, "that of /dev/vfio/vfio or /dev/iommu")
        context = file.context
        with context.lock:
            if context.compat is None:
                context.compat = context.table.reserve(Ioas(context=context))
                context.table.publish(context.compat)
            context.keep()
        self.file = file
        return 0

    def _unset_container(self, process: UserProcess, address: int) -> int:  # noqa: ARG002
        if self.file is None:
            raise Invalid("VFIO_GROUP_UNSET_CONTAINER", "container", bound="set before it is taken away")
        self._drop_container()
        return 0

    def _get_device(self, process: UserProcess, address: int) -> int:
        function = self.group.function
        if _text(process, address) != function.name:
            raise NoDevice("VFIO_GROUP_GET_DEVICE_FD", "name", bound=f"{function.name!r}, the group's device")
        if self.file is None:
            raise Invalid("VFIO_GROUP_GET_DEVICE_FD", "container", bound="set")
        return process.install(DeviceFile.of_group(function, self.file))

    def _drop_container(self) -> None:
        file, self.file = self.file, None
        if file is not None:
            file.context.release()

    def release(self) -> None:
        """Take note that the last fd is closed."""
        self._drop_container()
        self.group.opened = None
        self.group.function.is_open_by_group = False


_ACTS: dict[int, Callable[[GroupFile, UserProcess, int], int]] = {
    GroupIoctl.GET_STATUS: GroupFile._status,  # noqa: SLF001 - the table of its own methods
    GroupIoctl.SET_CONTAINER: GroupFile._set_container,  # noqa: SLF001
    GroupIoctl.UNSET_CONTAINER: GroupFile._unset_container,  # noqa: SLF001
    GroupIoctl.GET_DEVICE_FD: GroupFile._get_device,  # noqa: SLF001
}


def _read(process: UserProcess, address: int, size: int) -> bytes:
    raw = process.read(address, size)
    if raw is None:
        raise BadAddress("ioctl", "argument", address, f"{size:#x} readable bytes")
    return raw


def _text(process: UserProcess, address: int) -> str:
    """Copy a string in, up to its zero, page by page. Raises BadAddress, Invalid (there is no end)."""
    raw = b""
    while len(raw) < PAGE_SIZE:
        part = _read(process, address + len(raw), PAGE_SIZE - (address + len(raw)) % PAGE_SIZE)
        raw += part
        if b"\0" in part:
            return raw[: raw.index(b"\0")].decode("ascii", "replace")
    raise Invalid("VFIO_GROUP_GET_DEVICE_FD", "name", bound=f"shorter than {PAGE_SIZE} bytes")
