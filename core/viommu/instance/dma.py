"""Bytes that devices read and write: each page is translated, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.errors import OutOfRange
from viommu.faults import Access, Fault
from viommu.requests import IOVA_LAST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer

    from viommu.memory import PhysicalMemory
    from viommu.translation import Outcome

    Translate = Callable[[int, int, Access, int | None], Outcome]


@frozen
class BusAbort:
    """A DMA that was translated, to a place where no memory answers (or where it is read-only)."""

    pa: int
    length: int


@frozen(eq=False)
class Dma:
    """Reads and writes memory by way of ``translate`` (requester, IOVA, access, PASID)."""

    memory: PhysicalMemory
    translate: Translate

    def read(self, requester: int, iova: int, length: int, pasid: int | None) -> bytes | Fault | BusAbort:
        """Read; the first page that is refused ends it."""
        parts: list[bytes] = []
        for step in self._steps(requester, iova, length, Access.READ, pasid):
            if isinstance(step, Fault):
                return step
            _, pa, size = step
            part = self.memory.read(pa, size)
            if part is None:
                return BusAbort(pa, size)
            parts.append(part)
        return b"".join(parts)

    def write(self, requester: int, iova: int, data: Buffer, pasid: int | None) -> Fault | BusAbort | None:
        """Write; what lies before a refused page is written."""
        source = memoryview(data).cast("B")
        for step in self._steps(requester, iova, len(source), Access.WRITE, pasid):
            if isinstance(step, Fault):
                return step
            offset, pa, size = step
            if not self.memory.write(pa, source[offset : offset + size]):
                return BusAbort(pa, size)
        return None

    def _steps(
        self, requester: int, iova: int, length: int, access: Access, pasid: int | None
    ) -> Iterator[tuple[int, int, int] | Fault]:
        """Cut a DMA at page borders: (offset, physical address, bytes) of each piece; a fault is the last."""
        if not 0 <= length <= IOVA_LAST + 1 - iova:
            raise OutOfRange("length of a DMA", length, IOVA_LAST + 1 - iova)
        offset = 0
        while offset < length:
            at = iova + offset
            found = self.translate(requester, at, access, pasid)
            if isinstance(found, Fault):
                yield found
                return
            left = length - offset
            size = min(left, found.page_size - at % found.page_size) if found.page_size else left
            yield offset, found.pa, size
            offset += size
