"""Operations on accesses: pin, read, write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.kernel_errors import (
    BadAddress,
    DifferentData,
    Invalid,
    NoMemory,
    NotThere,
    Unsupported,
    WrongFile,
)
from viommu.objects.ioas import Ioas
from viommu.selftest.access_file import PAGE_SIZE, AccessFile
from viommu.selftest.check_ops import U64_MAX, frames

if TYPE_CHECKING:
    from viommu.objects.pages import Extent
    from viommu.selftest import operands
    from viommu.selftest.operation import Operation

NEEDS_PIN = 1
WRITE, SLOW, BY_AREA = 1, 4, 1 << 16
LENGTH_LAST = 16 << 20


def create(op: Operation[operands.CreateAccess]) -> None:
    """CREATE_ACCESS: a new access, as an fd."""
    if op.body.flags & ~NEEDS_PIN:
        raise Unsupported("CREATE_ACCESS", "flags", op.body.flags, f"of {NEEDS_PIN}")
    ioas = op.table.find(op.id, Ioas, "id")
    file = AccessFile.create(op.context, ioas, pins=bool(op.body.flags & NEEDS_PIN))
    op.undoers.append(file.release)
    op.body.out_access_fd = op.call.install(file)


def replace(op: Operation[operands.Replace]) -> None:
    """ACCESS_REPLACE_IOAS: work on another IOAS."""
    file = _file(op)
    file.access.replace(file.context.table.find(op.body.pt_id, Ioas, "ioas_id"))


def pin(op: Operation[operands.AccessPages]) -> None:
    """ACCESS_PAGES: pin, and compare with the caller's own pages."""
    body = op.body
    if body.length > LENGTH_LAST:
        raise NoMemory("ACCESS_PAGES", "length", body.length, f"at most {LENGTH_LAST:#x}")
    if body.flags & ~(WRITE | BY_AREA):
        raise Unsupported("ACCESS_PAGES", "flags", body.flags, f"of {WRITE | BY_AREA:#x}")
    file = _file(op)
    if not file.pins:
        raise Unsupported("ACCESS_PAGES", "access", op.id, "one that was created to pin")
    iova = area_iova(file.access.ioas, body.iova) if body.flags & BY_AREA else body.iova
    extents = file.access.pin(iova, body.length, write=bool(body.flags & WRITE))
    try:
        if body.uptr:
            _compare(op, body.uptr - iova % PAGE_SIZE, extents)
    except BaseException:
        file.access.unpin(iova, body.length)
        raise
    number = file.add(iova, body.length)
    op.undoers.append(lambda: file.unpin(number))
    body.out_access_pages_id = number


def destroy_pages(op: Operation[operands.DestroyPages]) -> None:
    """DESTROY_ACCESS_PAGES: unpin."""
    file = _file(op)
    if op.body.access_pages_id not in file.items:
        raise NotThere("DESTROY_ACCESS_PAGES", "access_pages_id", op.body.access_pages_id, "pinned")
    file.unpin(op.body.access_pages_id)


def read_write(op: Operation[operands.AccessRw]) -> None:
    """ACCESS_RW: copy between the caller's memory and what an IOAS maps."""
    body = op.body
    if body.length > LENGTH_LAST:
        raise NoMemory("ACCESS_RW", "length", body.length, f"at most {LENGTH_LAST:#x}")
    if body.flags & ~(WRITE | SLOW | BY_AREA):
        raise Unsupported("ACCESS_RW", "flags", body.flags, f"of {WRITE | SLOW | BY_AREA:#x}")
    file = _file(op)
    iova, slow = body.iova, bool(body.flags & SLOW)
    data = _user_data(op) if body.flags & WRITE else b""
    if body.flags & BY_AREA:
        iova = area_iova(file.access.ioas, iova)
    if not body.length:
        raise Invalid("ACCESS_RW", "length", 0, "not 0")
    if body.flags & WRITE:
        file.access.write(op.process, iova, data, slow=slow)
        return
    data = b"".join(file.access.read(op.process, iova, body.length, slow=slow))
    if not op.process.write(body.uptr, data):
        raise BadAddress("ACCESS_RW", "uptr", body.uptr, f"{body.length:#x} writable bytes")


def _user_data(op: Operation[operands.AccessRw]) -> bytes:
    data = op.process.read(op.body.uptr, op.body.length)
    if data is None:
        raise BadAddress("ACCESS_RW", "uptr", op.body.uptr, f"{op.body.length:#x} readable bytes")
    return data


def _file(
    op: Operation[operands.AccessRw]
    | Operation[operands.AccessPages]
    | Operation[operands.DestroyPages]
    | Operation[operands.Replace],
) -> AccessFile:
    """Give the access whose fd is the command's id, whichever /dev/iommu it belongs to."""
    file = op.process.file(op.id)
    if not isinstance(file, AccessFile):
        raise WrongFile("access", "fd", op.id, "that of an access")
    return file


def _compare(op: Operation[operands.AccessPages], address: int, extents: list[Extent]) -> None:
    wanted = [extent.frame + index for extent in extents for index in range(extent.count)]
    for index, frame in enumerate(wanted):
        if frames(op.process, address + index * PAGE_SIZE, 1) != [frame]:
            raise DifferentData("ACCESS_PAGES", "uptr", address + index * PAGE_SIZE, "the page that is pinned")


def area_iova(ioas: Ioas | None, encoded: int) -> int:
    """Turn (number of an area, offset in it) into an IOVA; 0 where there is no such area."""
    number, offset = encoded & 0xFFFFFFFF, encoded >> 32
    areas = [] if ioas is None else list(ioas.space.areas)
    return (areas[number].start + offset) & U64_MAX if number < len(areas) else 0
