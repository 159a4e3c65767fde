"""The memory of a recorded program: at its own addresses, as far as the recording tells of it, and nothing else."""

from __future__ import annotations

from bisect import bisect_right, insort
from operator import attrgetter
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from viommu.addresses import PAGE_SIZE
from viommu.iommufd.local import LocalProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from viommu.iommufd.user_memory import PageRun

MOST_BYTES = 16 << 30
"""Of memory that a recording may name; pages of it that nobody touches cost nothing."""


@frozen(eq=False)
class Segment:
    """Pages that follow one another in the program's addresses, and here."""

    start: int
    buffer: NDArray[np.uint8]

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.start + len(self.buffer)

    def here(self, address: int) -> int:
        """Where an address of the program's is in this process."""
        return int(self.buffer.ctypes.data) + address - self.start


@define(eq=False)
class ProgramProcess(LocalProcess):
    """A program that reaches no memory but what the recording names. ``new_buffer`` gives pages of the machine.

    ``named``: files that it opened itself, by the numbers that they had for it.
    """

    new_buffer: Callable[[int], NDArray[np.uint8]] = field(kw_only=True)
    segments: list[Segment] = field(factory=list)
    named: dict[int, object] = field(factory=dict)
    mapped: int = 0

    def ensure(self, start: int, length: int) -> bool:
        """Let whole pages around a range be there; False where that would be more than there may be."""
        start, end = start & -PAGE_SIZE, -(-(start + length) // PAGE_SIZE) * PAGE_SIZE
        for low, high in list(self._holes(start, end)):
            self.mapped += high - low
            if self.mapped > MOST_BYTES:
                return False
            insort(self.segments, Segment(low, self.new_buffer(high - low)), key=attrgetter("start"))
        return True

    def read(self, address: int, length: int) -> bytes | None:
        """Copy from the program's memory, if it is there."""
        pieces = [super(ProgramProcess, self).read(*piece) for piece in self._pieces(address, length)]
        found = b"".join(piece for piece in pieces if piece is not None)
        return found if len(found) == length else None

    def write(self, address: int, data: bytes) -> bool:
        """Copy to the program's memory, if all of it is there."""
        pieces = list(self._pieces(address, len(data)))
        if sum(length for _, length in pieces) != len(data):
            return False
        done = 0
        for here, length in pieces:
            super().write(here, data[done : done + length])
            done += length
        return True

    def pin(self, address: int, count: int, write: bool) -> Sequence[PageRun] | None:
        """Pin pages, if all of them are there."""
        pieces = list(self._pieces(address, count * PAGE_SIZE))
        if sum(length for _, length in pieces) != count * PAGE_SIZE:
            return None
        runs = [super(ProgramProcess, self).pin(here, length // PAGE_SIZE, write) for here, length in pieces]
        return [run for found in runs for run in found or ()]

    def file(self, fd: int) -> object:
        """Give what an fd of the program's refers to: never a file of this process."""
        return self.named.get(fd) or self.files.get(fd)

    def descriptor(self, fd: int) -> int | None:  # noqa: ARG002
        """Lend a descriptor: none, for nobody recorded what was behind it."""
        return None

    def _from(self, address: int) -> Iterator[Segment]:
        first = max(bisect_right(self.segments, address, key=attrgetter("start")) - 1, 0)
        return iter(self.segments[first:])

    def _holes(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        for segment in self._from(start):
            if segment.start >= end:
                break
            if segment.start > start:
                yield start, segment.start
            start = max(start, segment.end)
        if start < end:
            yield start, end

    def _pieces(self, address: int, length: int) -> Iterator[tuple[int, int]]:
        """Cut a range at segments: (address in this process, length) of each piece, up to the first hole."""
        for segment in self._from(address):
            if not length or not segment.start <= address < segment.end:
                break
            size = min(length, segment.end - address)
            yield segment.here(address), size
            address, length = address + size, length - size
