"""A virtual machine as KVM has it, as far as an IOMMU cares: its VMID. Addresses are in bytes, as everywhere."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from attrs import define

if TYPE_CHECKING:
    from viommu.iommufd.user_memory import UserProcess

__all__ = [
    "VirtualMachine",
]


@define(eq=False)
class VirtualMachine:
    """What a KVM file descriptor stands for (a `viommu.iommufd.user_memory.UserFile`).

    ``vmid`` is pinned: it stays while the virtual machine lives, so that a driver may put it in hardware. ``users``
    counts the vIOMMUs that share it.
    """

    vmid: int
    users: int = 0

    def read(self, process: UserProcess, address: int, count: int, position: int = 0) -> int:  # noqa: ARG002
        """Answer read: there is no such operation."""
        return -errno.EINVAL

    write = read

    def poll(self, events: int = 0xFFFF) -> int:  # noqa: ARG002
        """Nothing is ever waited for."""
        return 0

    def release(self) -> None:
        """Take note that the last fd is closed; whoever shares the VMID keeps it."""
