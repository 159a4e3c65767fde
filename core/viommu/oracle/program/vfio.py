"""Devices of the program, in VFIO's hands: the ioctls of their files, made on files of ours."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from attrs import define, field

from viommu.modelspecs import PciIdentity, PciShape
from viommu.oracle.blobs import word
from viommu.vfio.device_file import DeviceFile
from viommu.vfio.function import Function
from viommu.vfio.uapi import DeviceIoctl

if TYPE_CHECKING:
    from viommu.endpoint import Endpoint
    from viommu.iommufd.fd import IommuFd
    from viommu.objects.device import Device
    from viommu.oracle.program.memory import ProgramProcess

STRUCT_AT, STRUCT_BYTES = 0x11_0000_0000, 1 << 16
"""Where structures are laid for the call: no program has anything there."""
PREFIX, IOMMUFD_AT = "VFIO_DEVICE_", 8


class Unknown:
    """A device of which a recording tells its DMA alone (a `viommu.modelspecs.DeviceModel`)."""

    shape = PciShape(PciIdentity(0xFFFF, 0xFFFF, 0xFF0000))

    def read(self, bar: int, offset: int, size: int) -> int:  # noqa: ARG002
        """Read no register."""
        return 0

    def write(self, bar: int, offset: int, size: int, value: int) -> None:
        """Write none."""

    def reset(self) -> None:
        """Be as before."""


@define(eq=False)
class VfioDevice:
    """A device's file, as ``process`` has it open beside that of /dev/iommu."""

    process: ProgramProcess
    iommufd: IommuFd
    endpoint: Endpoint
    _file: DeviceFile = field(init=False)

    def __attrs_post_init__(self) -> None:
        function = Function(self.endpoint.physical.name)
        function.plug(Unknown(), self.endpoint)
        self._file = DeviceFile(function)
        self.process.ensure(STRUCT_AT, STRUCT_BYTES)

    @property
    def device(self) -> Device | None:
        """The DEVICE that it is bound as."""
        return self._file.device

    def call(self, name: str, raw: bytes) -> tuple[int, bytes]:
        """Answer an ioctl of its file: 0 or a negative errno, and the structure afterwards."""
        number = DeviceIoctl.__members__.get(name.removeprefix(PREFIX))
        if number is None:
            return -errno.ENOTTY, raw
        if number is DeviceIoctl.BIND_IOMMUFD and len(raw) >= IOMMUFD_AT + 4:
            self.process.named[word(raw, IOMMUFD_AT, 4)] = self.iommufd
        self.process.write(STRUCT_AT, raw)
        result = self._file.ioctl(number, STRUCT_AT, self.process)
        return result, self.process.read(STRUCT_AT, len(raw)) or b""
