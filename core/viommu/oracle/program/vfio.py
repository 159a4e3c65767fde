"""Devices of the program, in VFIO's hands: the ioctls of their files."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from attrs import define

from viommu.kernel_errors import Invalid, KernelError
from viommu.objects.device import Device
from viommu.oracle.blobs import word

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.endpoint import Endpoint
    from viommu.iommufd.fd import IommuFd


@define(eq=False)
class VfioDevice:
    """A device in VFIO's hands."""

    file: IommuFd
    endpoint: Endpoint
    device: Device | None = None

    def call(self, name: str, raw: bytes) -> tuple[int, bytes]:
        """Answer an ioctl of its file: 0 or a negative errno, and the structure afterwards."""
        act = _IOCTLS.get(name)
        if act is None:
            return -errno.ENOTTY, raw
        try:
            with self.file.context.lock:
                return 0, act(self, raw)
        except KernelError as error:
            return -error.code, raw

    def bind(self, raw: bytes) -> bytes:
        """VFIO_DEVICE_BIND_IOMMUFD."""
        if self.device is not None:
            raise Invalid("VFIO device", "owner", bound="none yet")
        self.device = Device.bind(self.file.context, self.endpoint.physical)
        return _patched(raw, 12, self.device.id)

    def attach(self, raw: bytes) -> bytes:
        """VFIO_DEVICE_ATTACH_IOMMUFD_PT: what is attached already is replaced."""
        if self.device is None:
            raise Invalid("VFIO device", "owner", bound="bound before it is attached")
        change = self.device.replace if 0 in self.device.group.attachments else self.device.attach
        return _patched(raw, 8, change(word(raw, 8, 4)).id)

    def detach(self, raw: bytes) -> bytes:
        """VFIO_DEVICE_DETACH_IOMMUFD_PT."""
        if self.device is not None:
            self.device.detach()
        return raw


_IOCTLS: dict[str, Callable[[VfioDevice, bytes], bytes]] = {
    "VFIO_DEVICE_BIND_IOMMUFD": VfioDevice.bind,
    "VFIO_DEVICE_ATTACH_IOMMUFD_PT": VfioDevice.attach,
    "VFIO_DEVICE_DETACH_IOMMUFD_PT": VfioDevice.detach,
}


def _patched(raw: bytes, at: int, value: int) -> bytes:
    return raw[:at] + struct.pack("<I", value) + raw[at + 4 :]
