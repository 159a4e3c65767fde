"""Which user memory or file stands behind an IOVA, by the recorded calls before: what proposals are made from."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from attrs import frozen

from viommu.oracle.blobs import word
from viommu.oracle.recording import RecordingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from viommu.oracle.recording import Record

LOOKED_BACK = 4096
"""How many records back mappings are looked for."""


@frozen
class Mapped:
    """What one recorded call mapped: user memory at ``source``, or a file's bytes from there on (``fd``)."""

    at: int
    """Its record."""
    iova: int
    length: int
    source: int
    fd: int | None = None

    def meets(self, iova: int, length: int) -> bool:
        """Say whether it has bytes in common with [iova, iova + length)."""
        return self.iova < iova + length and iova < self.iova + self.length

    def source_of(self, iova: int) -> int:
        """Give the address, or the place in the file, behind an IOVA."""
        return self.source + iova - self.iova


def mapped_before(records: Sequence[Record], index: int) -> Iterator[Mapped]:
    """Give what was mapped by the calls before one, the latest first."""
    for at in range(index - 1, max(-1, index - 1 - LOOKED_BACK), -1):
        with suppress(RecordingError):
            found = _mapped(records[at], at)
            if found is not None:
                yield found


def behind(records: Sequence[Record], index: int, iova: int, length: int) -> Iterator[Mapped]:
    """Give what stands behind a range of IOVAs, through copies too."""
    for found in mapped_before(records, index):
        if found.meets(iova, length):
            yield found
    for at in range(index - 1, max(-1, index - 1 - LOOKED_BACK), -1):
        if records[at].fields.get("name") == "IOMMU_IOAS_COPY":
            with suppress(RecordingError):
                copy = _after(records[at])
                size, target, source = word(copy, 16), word(copy, 24), word(copy, 32)
                if target < iova + length and iova < target + size:
                    yield from _moved(mapped_before(records, at), source, size, target - source)


def _moved(found: Iterator[Mapped], iova: int, length: int, by: int) -> Iterator[Mapped]:
    for one in found:
        if one.meets(iova, length):
            yield Mapped(one.at, one.iova + by, one.length, one.source, one.fd)


def _mapped(record: Record, at: int) -> Mapped | None:
    name = record.fields.get("name")
    if name not in MAPPING or record.answer.errno != "0" or not record.has("in"):
        return None
    struct = _after(record)
    if name == "VFIO_IOMMU_MAP_DMA":
        return Mapped(at, word(struct, 16), word(struct, 24), word(struct, 8))
    fd = word(struct, 12, 4) if name == "IOMMU_IOAS_MAP_FILE" else None
    return Mapped(at, word(struct, 32), word(struct, 24), word(struct, 16), fd)


MAPPING = ("IOMMU_IOAS_MAP", "IOMMU_IOAS_MAP_FILE", "VFIO_IOMMU_MAP_DMA")


def _after(record: Record) -> bytes:
    return record.blob("out" if record.has("out") else "in")
