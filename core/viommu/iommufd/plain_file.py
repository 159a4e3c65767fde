"""What an open file without reading, writing and waiting answers: most files of iommufd and VFIO are such."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from viommu.iommufd.user_memory import UserProcess

POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM = 0x1, 0x4, 0x40, 0x100
ALWAYS_READY = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM


class PlainFile:
    """The part of a `viommu.iommufd.user_memory.UserFile` that is the same in all of them."""

    __slots__ = ()

    def read(self, process: UserProcess, address: int, count: int, position: int = 0) -> int:  # noqa: ARG002
        """Answer read: this file has no such operation."""
        return -errno.EINVAL

    def write(self, process: UserProcess, address: int, count: int, position: int = 0) -> int:  # noqa: ARG002
        """Answer write: this file has no such operation."""
        return -errno.EINVAL

    def poll(self, events: int = 0xFFFF) -> int:
        """Answer poll: a file without a poll operation is always ready."""
        return ALWAYS_READY & events
