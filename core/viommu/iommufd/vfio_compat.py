"""The ioctls of VFIO's type-1 container, on any iommufd: for programs that know no iommufd.

They work on the IOAS that IOMMU_VFIO_IOAS chose (``context.compat``).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from viommu.addresses import PAGE_SIZE
from viommu.iommufd.argsz import copied_in, put
from viommu.iommufd.uapi_struct import UapiStruct, u32, u64
from viommu.kernel_errors import Invalid, KernelError, NoDevice, NotAnIoctl
from viommu.objects.intervals import U64_MAX
from viommu.objects.ioas import checked_last
from viommu.ops import Prot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TypeVar

    from viommu.iommufd.user_memory import UserProcess
    from viommu.objects.context import Context
    from viommu.objects.ioas import Ioas

    S = TypeVar("S", bound=UapiStruct)

API_VERSION = 0
TYPE1, TYPE1_V2, DMA_COHERENT, UNMAP_ALL = 1, 3, 4, 9
MAP_READ, MAP_WRITE = 1, 2
UNMAP_FLAG_ALL = 2
INFO_PAGE_SIZES, INFO_CAPABILITIES = 1, 2
CAP_IOVA_RANGE, CAP_DMA_AVAILABLE = 1, 3
CAP_VERSION = 1
RANGE_BYTES = 16
LEAST_INFO = 16
"""A program of old times asks for the head up to the page sizes."""


class Info(UapiStruct, name="vfio_iommu_type1_info"):
    """The head of GET_INFO; capabilities follow it."""

    argsz: u32
    flags: u32
    iova_pgsizes: u64
    cap_offset: u32
    pad: u32


class Map(UapiStruct, name="vfio_iommu_type1_dma_map"):
    """Map user memory."""

    argsz: u32
    flags: u32
    vaddr: u64
    iova: u64
    size: u64


class Unmap(UapiStruct, name="vfio_iommu_type1_dma_unmap"):
    """Unmap IOVAs."""

    argsz: u32
    flags: u32
    iova: u64
    size: u64


def ioctl(context: Context, process: UserProcess, number: int, argument: int) -> int:
    """Answer an ioctl whose number's low byte is none of iommufd's. Raises KernelError."""
    handler = _HANDLERS.get(number)
    if handler is None:
        raise NotAnIoctl("ioctl", "number", number, "one of VFIO's type-1 container")
    return handler(context, process, argument)


def _version(_: Context, __: UserProcess, ___: int) -> int:
    return API_VERSION


def _check_extension(context: Context, _: UserProcess, extension: int) -> int:
    if extension == DMA_COHERENT:
        return int(all(hwpt.enforces_coherency for hwpt in _ioas(context).hwpts))
    return int(extension in (TYPE1, TYPE1_V2, UNMAP_ALL))


def _set_iommu(context: Context, _: UserProcess, kind: int) -> int:
    if kind not in (TYPE1, TYPE1_V2):
        raise Invalid("VFIO_SET_IOMMU", "type", kind, f"{TYPE1} or {TYPE1_V2}")
    ioas = _ioas(context)
    if kind == TYPE1:  # it unmaps any part of a mapping, which needs small entries
        ioas.set_huge_pages(False)
    return 0


def _get_info(context: Context, process: UserProcess, address: int) -> int:
    info = copied_in(Info, process, address, LEAST_INFO)
    ioas = _ioas(context)
    room = info.argsz
    info.flags = INFO_PAGE_SIZES | INFO_CAPABILITIES
    info.iova_pgsizes = _page_sizes(ioas)
    info.cap_offset = info.pad = 0
    needed = _put_capabilities(ioas, process, address, room)
    if room >= needed:
        info.cap_offset = Info.total
    info.argsz = needed
    put(process, address, info.encode()[: min(room, Info.total)])
    return 0


def _put_capabilities(ioas: Ioas, process: UserProcess, address: int, room: int) -> int:
    """Write the capabilities that fit, each naming the next; where the last one ends."""
    offset, last = Info.total, 0
    for number, body, rows in _capabilities(ioas):
        head = struct.pack("<HHI", number, CAP_VERSION, 0) + body
        _put_capability(process, address + offset, room - offset, head, rows)
        if last and room >= offset:
            put(process, address + last + 4, struct.pack("<I", offset))
        last, offset = offset, offset + (-(-len(head + rows) // 8) * 8)
    return offset


def _put_capability(process: UserProcess, address: int, room: int, head: bytes, rows: bytes) -> None:
    """Write a capability; where it does not fit, those of its rows that do."""
    if room >= len(head + rows):
        put(process, address, head + rows)
    elif fitting := max(room - len(head), 0) // RANGE_BYTES * RANGE_BYTES:
        put(process, address + len(head), rows[:fitting])


def _capabilities(ioas: Ioas) -> Iterator[tuple[int, bytes, bytes]]:
    """Give number, body and rows of each."""
    yield CAP_DMA_AVAILABLE, struct.pack("<I", 0xFFFFFFFF), b""
    ranges = ioas.space.usable()
    rows = b"".join(struct.pack("<QQ", found.start, found.last) for found in ranges)
    yield CAP_IOVA_RANGE, struct.pack("<II", len(ranges), 0), rows


def _page_sizes(ioas: Ioas) -> int:
    """What every domain can map; what is smaller than a page counts as one, for the program maps pages."""
    sizes = U64_MAX
    for domain in ioas.domains:
        sizes &= domain.page_sizes
    if sizes & (PAGE_SIZE - 1):
        sizes = sizes & -PAGE_SIZE | PAGE_SIZE
    return sizes


def _map_dma(context: Context, process: UserProcess, address: int) -> int:
    cmd = copied_in(Map, process, address)
    _refuse_flags(cmd.kernel_name, cmd.flags, MAP_READ | MAP_WRITE)
    prot = Prot(0)
    if cmd.flags & MAP_READ:
        prot |= Prot.READ
    if cmd.flags & MAP_WRITE:
        prot |= Prot.WRITE
    _ioas(context).map_user(process, cmd.vaddr, cmd.size, prot, cmd.iova)
    return 0


def _unmap_dma(context: Context, process: UserProcess, address: int) -> int:
    cmd = copied_in(Unmap, process, address)
    _refuse_flags(cmd.kernel_name, cmd.flags, UNMAP_FLAG_ALL)
    ioas = _ioas(context)
    cmd.size, error = _unmapped(ioas, cmd)
    put(process, address, cmd.encode())  # also where it failed on its way
    if error is not None:
        raise error
    return 0


def _unmapped(ioas: Ioas, cmd: Unmap) -> tuple[int, KernelError | None]:
    """Unmap what is asked for: bytes, and what stopped it. Raises KernelError, and then size is not told."""
    if cmd.flags & UNMAP_FLAG_ALL:
        if cmd.iova or cmd.size:
            raise Invalid(cmd.kernel_name, "iova", cmd.iova, "0, and size too, to unmap all")
        return ioas.unmap_range(0, U64_MAX)
    try:
        last = checked_last(cmd.iova, cmd.size)
    except KernelError as error:
        return 0, error
    if not ioas.huge_pages:
        if last < U64_MAX:
            ioas.split(last + 1)
        ioas.split(cmd.iova)
    return ioas.unmap_range(cmd.iova, last)


def _ioas(context: Context) -> Ioas:
    if context.compat is None:
        raise NoDevice("VFIO container", "IOAS", bound="chosen by IOMMU_VFIO_IOAS, or attached to first")
    return context.compat


def _refuse_flags(name: str, flags: int, known: int) -> None:
    if flags & ~known:
        raise Invalid(name, "flags", flags, f"within {known:#x}")


_HANDLERS: Mapping[int, Callable[[Context, UserProcess, int], int]] = {
    0x3B64: _version,
    0x3B65: _check_extension,
    0x3B66: _set_iommu,
    0x3B70: _get_info,
    0x3B71: _map_dma,
    0x3B72: _unmap_dma,
}
NAMES: Mapping[int, tuple[str, type[UapiStruct] | None]] = {
    0x3B64: ("VFIO_GET_API_VERSION", None),
    0x3B65: ("VFIO_CHECK_EXTENSION", None),
    0x3B66: ("VFIO_SET_IOMMU", None),
    0x3B70: ("VFIO_IOMMU_GET_INFO", Info),
    0x3B71: ("VFIO_IOMMU_MAP_DMA", Map),
    0x3B72: ("VFIO_IOMMU_UNMAP_DMA", Unmap),
}
"""What each is called, and which structure it takes."""
