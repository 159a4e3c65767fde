"""Regions of a device's file: its BARs and its configuration space, by position."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from viommu.addresses import PAGE_SIZE
from viommu.iommufd.argsz import copied_in, put
from viommu.kernel_errors import Invalid
from viommu.vfio.uapi import MSIX_MAPPABLE, OFFSET_SHIFT, REGIONS, Region, RegionFlags, RegionInfo

if TYPE_CHECKING:
    from viommu.iommufd.user_memory import UserProcess
    from viommu.vfio.function import Function

MOST_AT_ONCE = 1 << 20
"""Bytes of a region that one read or write moves."""


def tell_of_region(function: Function, process: UserProcess, address: int) -> int:
    """Answer GET_REGION_INFO. Raises Invalid, BadAddress."""
    asked = copied_in(RegionInfo, process, address)
    if asked.index >= REGIONS or asked.index == Region.VGA:
        raise Invalid(asked.kernel_name, "index", asked.index, f"below {int(Region.VGA)}")
    asked.size = function.region_size(asked.index)
    asked.offset = asked.index << OFFSET_SHIFT
    asked.flags = RegionFlags.READ | RegionFlags.WRITE if asked.size else RegionFlags(0)
    asked.cap_offset = 0
    if function.may_map(asked.index):
        asked.flags |= RegionFlags.MMAP
        if function.has_vectors_in(asked.index):
            _add_capability(asked, process, address)
    put(process, address, asked.encode())
    return 0


def _add_capability(asked: RegionInfo, process: UserProcess, address: int) -> None:
    """Say that MSI-X's table may be mapped with the rest; or, where there is no room for that, how much it takes."""
    capability = struct.pack("<HHI", *MSIX_MAPPABLE)
    asked.flags |= RegionFlags.CAPS
    whole = RegionInfo.total + len(capability)
    if asked.argsz < whole:
        asked.argsz = whole
        return
    put(process, address + RegionInfo.total, capability)
    asked.cap_offset = RegionInfo.total


def stretch(function: Function, count: int, position: int) -> tuple[int, int, int] | int:
    """Say which stretch (offset, length) of which region is meant; or a negative errno, or 0 for no bytes."""
    region, offset = _place(position)
    if region >= REGIONS:
        return -errno.EINVAL
    size = function.region_size(region)
    if region == Region.CONFIG:
        if count and offset + count > size:
            return -errno.EFAULT
    elif offset >= size:
        return -errno.EINVAL
    return (region, offset, min(count, size - offset, MOST_AT_ONCE)) if count else 0


def may_map(function: Function, length: int, position: int) -> bool:
    """Say whether a program may map so much of a region."""
    region, start = _place(position)
    if region >= REGIONS or not function.may_map(region):
        return False
    return start + _pages(length) <= _pages(function.region_size(region))


def _place(position: int) -> tuple[int, int]:
    return position >> OFFSET_SHIFT, position & ((1 << OFFSET_SHIFT) - 1)


def _pages(length: int) -> int:
    return -(-length // PAGE_SIZE) * PAGE_SIZE
