"""The ioctls of an IOAS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from viommu.iommufd.handlers.checks import refuse_flags, refuse_max, refuse_reserved
from viommu.iommufd.uapi import IovaRange, MapFlags
from viommu.kernel_errors import BadAddress, BadFile, Invalid, MessageTooLong, Overflow
from viommu.objects.intervals import U64_MAX, Disjoint, Range
from viommu.objects.ioas import Ioas
from viommu.objects.pages import DmaBuf, DmaBufPages, move_all
from viommu.ops import Prot, may_write
from viommu.uapi_profiles import Feature

if TYPE_CHECKING:
    from viommu.iommufd import uapi
    from viommu.iommufd.dispatch import Call

# Plain numbers: an enum's operators cost more than the rest of a check.
FIXED_IOVA = int(MapFlags.FIXED_IOVA)
DIRECTIONS = int(MapFlags.READABLE | MapFlags.WRITEABLE)
MAP_FLAGS = FIXED_IOVA | DIRECTIONS
PAGE_SIZE = 4096
RANGE_SIZE = IovaRange.total


def alloc(call: Call[uapi.IoasAlloc]) -> None:
    """IOAS_ALLOC: an empty address space."""
    refuse_flags(call.cmd)
    call.cmd.out_ioas_id = call.create(Ioas(context=call.context)).id


def iova_ranges(call: Call[uapi.IoasIovaRanges]) -> None:
    """IOAS_IOVA_RANGES: what is not reserved. The reply is written even where the buffer is too short."""
    cmd = call.cmd
    refuse_reserved(cmd)
    ioas = _ioas(call, cmd.ioas_id)
    ranges, room = ioas.space.usable(), cmd.num_iovas
    raw = b"".join(_range_bytes(found) for found in ranges[:room])
    if raw and not call.process.write(cmd.allowed_iovas, raw):
        raise BadAddress(cmd.kernel_name, "allowed_iovas", cmd.allowed_iovas, f"{len(raw):#x} writable bytes")
    cmd.num_iovas, cmd.out_iova_alignment = len(ranges), ioas.space.alignment
    call.respond()
    if len(ranges) > room:
        raise MessageTooLong(cmd.kernel_name, "num_iovas", room, f"at least {len(ranges):#x}")


def allow_iovas(call: Call[uapi.IoasAllowIovas]) -> None:
    """IOAS_ALLOW_IOVAS: replace the list that automatic placement obeys."""
    cmd = call.cmd
    refuse_reserved(cmd)
    ioas = _ioas(call, cmd.ioas_id)
    wanted: Disjoint[Range] = Disjoint()
    for index in range(cmd.num_iovas):
        wanted.add(_allowed_range(call, cmd.allowed_iovas + index * RANGE_SIZE, wanted))
    ioas.space.allow(tuple(wanted))


def map_user(call: Call[uapi.IoasMap]) -> None:
    """IOAS_MAP: memory of the calling process."""
    cmd = call.cmd
    refuse_flags(cmd, MAP_FLAGS)
    refuse_reserved(cmd)
    refuse_max(cmd, "iova", "length")
    prot = _prot(cmd)
    ioas = _ioas(call, cmd.ioas_id)
    cmd.iova = ioas.map_user(call.process, cmd.user_va, cmd.length, prot, _fixed(cmd.flags, cmd.iova))


def map_file(call: Call[uapi.IoasMapFile]) -> None:
    """IOAS_MAP_FILE: a stretch of a memfd or of a dma-buf."""
    cmd = call.cmd
    refuse_flags(cmd, MAP_FLAGS)
    refuse_max(cmd, "iova", "length")
    prot = _prot(cmd)
    ioas = _ioas(call, cmd.ioas_id)
    if not cmd.length:
        raise Invalid(cmd.kernel_name, "length", 0, "not 0")
    if cmd.start + cmd.length - 1 > U64_MAX:
        raise Overflow(cmd.kernel_name, "start", cmd.start, "a range that ends below 2^64")
    file = call.process.file(cmd.fd)
    if file is None:
        raise BadFile(cmd.kernel_name, "fd", cmd.fd, "open")
    iova = _fixed(cmd.flags, cmd.iova)
    if isinstance(file, DmaBuf):
        if call.context.profile.lacks(Feature.MAP_DMA_BUF):
            raise Invalid(cmd.kernel_name, "fd", cmd.fd, "a memfd or a file of a memory file system")
        cmd.iova = _map_dma_buf(call, ioas, file, prot, iova)
    else:
        cmd.iova = ioas.map_file(call.process, file, cmd.start, cmd.length, prot, iova)


def copy(call: Call[uapi.IoasCopy]) -> None:
    """IOAS_COPY: map what another IOAS maps, sharing its pinned pages."""
    cmd = call.cmd
    refuse_flags(cmd, MAP_FLAGS)
    refuse_max(cmd, "length", "src_iova", "dst_iova")
    prot = _prot(cmd)
    pieces = _ioas(call, cmd.src_ioas_id, "src_ioas_id").covered(cmd.src_iova, cmd.length)
    target = _ioas(call, cmd.dst_ioas_id, "dst_ioas_id")
    cmd.dst_iova = target.map_pieces(pieces, cmd.length, prot, _fixed(cmd.flags, cmd.dst_iova))


def unmap(call: Call[uapi.IoasUnmap]) -> None:
    """IOAS_UNMAP: whole areas, or everything."""
    cmd = call.cmd
    ioas = _ioas(call, cmd.ioas_id)
    if cmd.iova == 0 and cmd.length == U64_MAX:
        cmd.length = ioas.unmap_all()
        return
    refuse_max(cmd, "iova", "length")
    cmd.length = ioas.unmap(cmd.iova, cmd.length)


def change_process(call: Call[uapi.IoasChangeProcess]) -> None:
    """IOAS_CHANGE_PROCESS: let the caller own, and pay for, all mappings, which must be of files."""
    refuse_reserved(call.cmd)
    spaces = [found for found in call.context.table if isinstance(found, Ioas)]
    for ioas in spaces:
        ioas.check_movable()
    storages = {id(area.pages): area.pages for ioas in spaces for area in ioas.space.areas}
    move_all(storages.values(), call.process)


def _ioas(call: Call[Any], number: int, field: str = "ioas_id") -> Ioas:
    return call.context.table.find(number, Ioas, field)


def _prot(cmd: uapi.IoasMap | uapi.IoasMapFile | uapi.IoasCopy) -> Prot:
    if not cmd.flags & DIRECTIONS:
        raise Invalid(cmd.kernel_name, "flags", cmd.flags, "with READABLE or WRITEABLE")
    return _PROTS[cmd.flags >> 1 & 3]


_PROTS = (Prot(0), Prot.WRITE, Prot.READ, Prot.READ | Prot.WRITE)


def _fixed(flags: int, iova: int) -> int | None:
    return iova if flags & FIXED_IOVA else None


def _range_bytes(found: Range) -> bytes:
    return IovaRange.of(start=found.start, last=found.last).encode()


def _allowed_range(call: Call[uapi.IoasAllowIovas], address: int, earlier: Disjoint[Range]) -> Range:
    raw = call.process.read(address, RANGE_SIZE)
    if raw is None:
        raise BadAddress(call.cmd.kernel_name, "allowed_iovas", address, "readable")
    wanted = IovaRange.decode(raw)
    if wanted.start >= wanted.last:
        raise Invalid("allowed range", "last", wanted.last, f"above its start, {wanted.start:#x}")
    if earlier.first(wanted.start, wanted.last) is not None:
        raise Invalid("allowed range", "start", wanted.start, "outside the ranges before it")
    return Range(wanted.start, wanted.last)


def _map_dma_buf(call: Call[uapi.IoasMapFile], ioas: Ioas, buffer: DmaBuf, prot: Prot, iova: int | None) -> int:
    cmd = call.cmd
    if cmd.start + cmd.length - 1 >= buffer.size:
        raise Invalid(cmd.kernel_name, "length", cmd.length, f"before the buffer's end at {buffer.size:#x}")
    start = cmd.start & -PAGE_SIZE
    pages = DmaBufPages(
        source=call.process,
        count=-(-(cmd.start - start + cmd.length) // PAGE_SIZE),
        writable=may_write(prot),
        accounting=None,
        buffer=buffer,
        file_offset=start,
    )
    pages.attach()
    try:
        return ioas.map_dma_buf(pages, cmd.start - start, cmd.length, prot, iova)
    except BaseException:
        pages.detach()
        raise
