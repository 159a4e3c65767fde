"""The pages of a capture: a NumPy archive, read without trusting a number in it."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from attrs import frozen
from numpy.lib import format as npy

from viommu.addresses import PAGE_SIZE
from viommu.captures.files import checked_file, unreadable
from viommu.errors import CaptureError, told

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

ARCHIVE_LIMIT = 1 << 30
MEMORY_LIMIT = 1 << 30
"""Bytes of pages that are read into memory at most."""

STRETCH_LIMIT = 1 << 14
"""Unbroken stretches of pages: each is a region of memory, and regions are meant to be few."""

DIRECTORY_LIMIT = 1 << 16
"""Bytes of the archive's directory: it lists two arrays, and its length bounds what listing them costs."""

END_RECORD = b"PK\x05\x06"
END_RECORD_SIZE = 22
ZIP64_LOCATOR = b"PK\x06\x07"
ZIP64_LOCATOR_SIZE = 20

CHUNK = 1 << 20


@frozen(eq=False)
class Pages:
    """Pages of 4 KiB at ascending physical addresses."""

    gpa: NDArray[np.uint64]
    page: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.gpa)

    def runs(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Give (physical address, bytes) of each unbroken stretch."""
        ends = np.flatnonzero(np.diff(self.gpa) != PAGE_SIZE) + 1
        for first, end in zip([0, *ends.tolist()], [*ends.tolist(), len(self)], strict=True):
            if end > first:
                yield int(self.gpa[first]), self.page[first:end].reshape(-1)


def read_pages(path: Path) -> Pages:
    """Read ``gpa`` and ``page`` from a NumPy archive. Raises CaptureError."""
    checked_file(path, ARCHIVE_LIMIT)
    try:
        _check_directory(path)
        with zipfile.ZipFile(path) as archive:
            gpa = _array(path, archive, "gpa", np.dtype("<u8"), ())
            page = _array(path, archive, "page", np.dtype("u1"), (PAGE_SIZE,))
    except OSError as error:
        raise unreadable(path, error) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise CaptureError(str(path), "", "archive", None, f"it is damaged ({told(error)})") from error
    _check(path, gpa, page)
    return Pages(gpa, page)


def _check_directory(path: Path) -> None:
    """Refuse an archive that lists more than the two arrays could need, before anybody reads the list."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(-min(size, 0xFFFF + END_RECORD_SIZE + ZIP64_LOCATOR_SIZE), 2)
        tail = file.read()
    at = len(tail) - END_RECORD_SIZE
    if tail[at : at + 4] != END_RECORD or tail[-2:] != b"\0\0":
        at = tail.rfind(END_RECORD)
    record = tail[at : at + END_RECORD_SIZE] if at >= 0 else b""
    if len(record) < END_RECORD_SIZE:
        raise CaptureError(str(path), "", "archive", None, "it is cut short, or no NumPy archive")
    listed = int.from_bytes(record[12:16], "little")
    if listed > DIRECTORY_LIMIT or tail[max(at - ZIP64_LOCATOR_SIZE, 0) : at].startswith(ZIP64_LOCATOR):
        raise CaptureError(str(path), "", "directory size", listed, f"at most {DIRECTORY_LIMIT:#x} bytes are read")


def _array(
    path: Path, archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], inner: tuple[int, ...]
) -> NDArray[Any]:
    """Read one array of n items of shape ``inner``."""

    def wrong(what: str, value: object, bound: str) -> CaptureError:
        return CaptureError(str(path), f"{name}.npy", what, value, bound)

    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise wrong("array", None, "it is missing") from None
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise wrong("compression", info.compress_type, "only stored and deflated arrays are read")
    with archive.open(info) as member:
        shape, fortran_order, found = _header(member)
        if found != dtype or fortran_order:
            raise wrong(
                "dtype", f"{found}{', Fortran order' if fortran_order else ''}", f"{dtype} in C order is needed"
            )
        if len(shape) != 1 + len(inner) or shape[1:] != inner:
            raise wrong("shape", shape, f"(n{''.join(f', {extent}' for extent in inner)},) is needed")
        size = shape[0] * dtype.itemsize * int(np.prod(inner))
        if size > MEMORY_LIMIT:
            raise wrong("size", size, f"at most {MEMORY_LIMIT:#x} bytes are read")
        if info.file_size != member.tell() + size:
            raise wrong("size", info.file_size, f"its header makes it {member.tell() + size:#x} bytes")
        return _filled(member, np.empty(shape, dtype))


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(member)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"version {version} of the array format")
    try:
        with warnings.catch_warnings(action="ignore"):
            shape, fortran_order, dtype = read(member)
    except Exception as error:  # the header is a Python literal: parsing it fails in many ways
        raise ValueError(f"the header of an array, {told(error)}") from error
    return tuple(int(extent) for extent in shape), bool(fortran_order), dtype


def _filled(member: IO[bytes], array: NDArray[Any]) -> NDArray[Any]:
    """Read piece by piece, so that nothing but the array itself is ever held; the end checks the sum of all bytes."""
    target = array.reshape(-1).view(np.uint8).data
    offset = 0
    while piece := member.read(CHUNK):
        if offset + len(piece) > len(target):
            raise ValueError("more bytes than its directory says")
        target[offset : offset + len(piece)] = piece
        offset += len(piece)
    if offset != len(target):
        raise EOFError(f"{len(target) - offset} bytes are missing")
    return array


def _check(path: Path, gpa: NDArray[np.uint64], page: NDArray[np.uint8]) -> None:
    if len(gpa) != len(page):
        raise CaptureError(str(path), "page.npy", "pages", len(page), f"gpa.npy has {len(gpa):#x} addresses")
    misaligned = gpa % PAGE_SIZE != 0
    if misaligned.any():
        raise CaptureError(
            str(path),
            "gpa.npy",
            f"gpa[{int(misaligned.argmax())}]",
            int(gpa[misaligned.argmax()]),
            f"it is not a multiple of {PAGE_SIZE:#x}",
        )
    falling = gpa[1:] <= gpa[:-1]
    if falling.any():
        at = int(falling.argmax()) + 1
        raise CaptureError(str(path), "gpa.npy", f"gpa[{at}]", int(gpa[at]), f"it is not above {int(gpa[at - 1]):#x}")
    stretches = 1 + int(np.count_nonzero(np.diff(gpa) != PAGE_SIZE))
    if stretches > STRETCH_LIMIT:
        bound = f"at most {STRETCH_LIMIT:#x} unbroken stretches of pages are read"
        raise CaptureError(str(path), "gpa.npy", "stretches", stretches, bound)
