"""Which pointer of an ioctl's struct names user memory that a recording shows, and how much of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.oracle.recording import Record

LIMIT = 16 << 20
"""No blob of a recording is longer (bytes): the test commands allow no more."""


@frozen
class Blob:
    """User memory behind a pointer: where it begins, how many bytes the struct says that it has."""

    address: int
    length: int
    is_written: bool
    """Whether the kernel stores there."""


@frozen
class Shape:
    """Where the pointer lies in the struct, and how its length follows from the struct."""

    pointer: int
    length: Callable[[bytes], int]
    is_written: bool = False

    def blob(self, struct: bytes) -> Blob | None:
        """Give the blob; None where the struct does not reach as far as the pointer."""
        if len(struct) < self.pointer + 8:
            return None
        return Blob(word(struct, self.pointer, 8), min(self.length(struct), LIMIT), self.is_written)


def blob_of(record: Record, struct: bytes) -> Blob | None:
    """Find the blob of an ioctl. Raises RecordingError."""
    name = record.text("name", "")
    shape = SHAPES.get(f"{name}.{record.text('op', '')}" if name == "IOMMU_TEST_CMD" else name)
    return None if shape is None else shape.blob(struct)


def word(struct: bytes | bytearray, offset: int, size: int = 8) -> int:
    """Give a field of a struct."""
    return int.from_bytes(struct[offset : offset + size], "little")


def _field(offset: int, size: int = 4, times: int = 1) -> Callable[[bytes], int]:
    return lambda struct: word(struct, offset, size) * times


def _invalidation(struct: bytes) -> int:
    return word(struct, 20, 4) * word(struct, 24, 4)


def _bits(length: int, page_size: int) -> Callable[[bytes], int]:
    def size(struct: bytes) -> int:
        pages = word(struct, page_size, 8)
        return 0 if not pages else -(-(word(struct, length, 8) // pages) // 8)

    return size


SHAPES = {
    "IOMMU_HWPT_ALLOC": Shape(32, _field(28)),
    "IOMMU_GET_HW_INFO": Shape(16, _field(12), is_written=True),
    "IOMMU_HWPT_GET_DIRTY_BITMAP": Shape(40, _bits(24, 32), is_written=True),
    "IOMMU_HWPT_INVALIDATE": Shape(8, _invalidation),
    "IOMMU_IOAS_IOVA_RANGES": Shape(16, _field(8, times=16), is_written=True),
    "IOMMU_IOAS_ALLOW_IOVAS": Shape(16, _field(8, times=16)),
    "IOMMU_VIOMMU_ALLOC": Shape(32, _field(24), is_written=True),
    "IOMMU_TEST_CMD.ACCESS_RW": Shape(32, _field(24, 8), is_written=True),
    "IOMMU_TEST_CMD.DIRTY": Shape(48, _bits(32, 40)),
}
