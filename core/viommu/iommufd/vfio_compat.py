"""The ioctls of VFIO's type-1 container, on any iommufd."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.kernel_errors import NotAnIoctl

if TYPE_CHECKING:
    from viommu.iommufd.user_memory import UserProcess
    from viommu.objects.context import Context


def ioctl(context: Context, process: UserProcess, number: int, argument: int) -> int:
    """Answer an ioctl whose number's low byte is none of iommufd's. Raises KernelError."""
    raise NotAnIoctl("ioctl", "number", number, "no ioctl of VFIO")
