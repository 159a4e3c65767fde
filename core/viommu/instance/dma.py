"""Bytes that devices read and write: each page is translated, in order.

The engine goes as far as nothing is out of the ordinary; where it stops, one piece is done here, and it goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from attrs import define, field, frozen

from viommu._engine import NO_PASID, dma_read, dma_read_into, dma_write
from viommu.errors import BadValue, OutOfRange
from viommu.faults import Access, Fault
from viommu.requests import IOVA_LAST, check_access
from viommu.translation import outcome_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from viommu._engine import Result, Translator
    from viommu.backing import BufferLike
    from viommu.instance.lookups import Lookups
    from viommu.memory import PhysicalMemory
    from viommu.requests import Bounds
    from viommu.translation import Outcome

MOST_AT_ONCE = 16 << 20
"""Bytes that are taken for a read before it is known whether anything can be read."""


@frozen
class BusAbort:
    """A DMA that was translated, to a place where no memory answers (or where it is read-only)."""

    pa: int
    length: int


@define(eq=False)  # frozen would cost a small DMA much of its time
class _Request:
    requester: int
    iova: int
    length: int
    access: Access
    pasid: int | None


class _Mover(Protocol):
    """What a DMA reads into, or writes from."""

    def ahead(self, translator: Translator, asked: _Request, moved: int) -> tuple[int, Result | None]:
        """Let the engine move what it can; how many bytes, and what became of the page after them, if it asked."""

    def piece(self, pa: int, moved: int, size: int) -> bool:
        """Move one piece; False, with nothing moved, where no memory answers."""


@define(eq=False)
class _Kept:
    """Bytes that are read, to be handed out."""

    memory: PhysicalMemory
    parts: list[bytes] = field(factory=list)

    def ahead(self, translator: Translator, asked: _Request, moved: int) -> tuple[int, Result | None]:
        at, left = asked.iova + moved, asked.length - moved
        part, stopped = dma_read(translator, asked.requester, at, left, MOST_AT_ONCE, _column(asked.pasid))
        if part:
            self.parts.append(part)
        return len(part), stopped

    def piece(self, pa: int, moved: int, size: int) -> bool:
        del moved
        part = self.memory.read(pa, size)
        if part is None:
            return False
        self.parts.append(part)
        return True


@define(eq=False)
class _Filled:
    """A buffer that is read into."""

    memory: PhysicalMemory
    out: memoryview

    def ahead(self, translator: Translator, asked: _Request, moved: int) -> tuple[int, Result | None]:
        return dma_read_into(translator, asked.requester, asked.iova + moved, self.out[moved:], _column(asked.pasid))

    def piece(self, pa: int, moved: int, size: int) -> bool:
        part = self.memory.read(pa, size)
        if part is None:
            return False
        self.out[moved : moved + size] = part
        return True


@define(eq=False)
class _Drained:
    """Bytes that are written."""

    memory: PhysicalMemory
    data: memoryview

    def ahead(self, translator: Translator, asked: _Request, moved: int) -> tuple[int, Result | None]:
        if self.memory.watcher is not None:  # it must see each store
            return 0, None
        return dma_write(translator, asked.requester, asked.iova + moved, self.data[moved:], _column(asked.pasid))

    def piece(self, pa: int, moved: int, size: int) -> bool:
        return self.memory.write(pa, self.data[moved : moved + size])


@frozen(eq=False)
class Dma:
    """Reads and writes memory by way of one IOMMU's lookups; ``recorded`` has its hardware write faults down."""

    memory: PhysicalMemory
    lookups: Lookups
    bounds: Bounds
    recorded: Callable[[Outcome], Outcome]

    def read(self, requester: int, iova: int, length: int, pasid: int | None) -> bytes | Fault | BusAbort:
        """Read; the first page that is refused ends it."""
        kept = _Kept(self.memory)
        ended = self._move(kept, requester, iova, length, Access.READ, pasid)
        return b"".join(kept.parts) if ended is None else ended

    def read_into(
        self, requester: int, iova: int, length: int, pasid: int | None, out: BufferLike
    ) -> Fault | BusAbort | None:
        """Read into a buffer; what lies before a refused page is read. Raises BadValue."""
        room = _Filled(self.memory, _room(out, length))
        return self._move(room, requester, iova, length, Access.READ, pasid)

    def write(self, requester: int, iova: int, data: Buffer, pasid: int | None) -> Fault | BusAbort | None:
        """Write; what lies before a refused page is written."""
        source = memoryview(data).cast("B")
        return self._move(_Drained(self.memory, source), requester, iova, len(source), Access.WRITE, pasid)

    def _move(
        self, mover: _Mover, requester: int, iova: int, length: int, access: Access, pasid: int | None
    ) -> Fault | BusAbort | None:
        if not 0 <= length <= IOVA_LAST + 1 - iova:
            raise OutOfRange("length of a DMA", length, IOVA_LAST + 1 - iova)
        if not length:
            return None
        self.bounds.check(requester, pasid)
        check_access(iova, access)
        return self._moved(mover, _Request(requester, int(iova), length, access, pasid))

    def _moved(self, mover: _Mover, asked: _Request) -> Fault | BusAbort | None:
        moved = 0
        while moved < asked.length:
            step, stopped = self._ahead(mover, asked, moved)
            moved += step
            if moved == asked.length:
                break
            found = self._found(asked, moved, stopped)
            if isinstance(found, Fault):
                return found
            size = asked.length - moved
            if found.page_size:
                size = min(size, found.page_size - (asked.iova + moved) % found.page_size)
            if not mover.piece(found.pa, moved, size):
                return BusAbort(found.pa, size)
            moved += size
        return None

    def _ahead(self, mover: _Mover, asked: _Request, moved: int) -> tuple[int, Result | None]:
        if self.lookups.sanitizer is not None:  # it judges one access at a time
            return 0, None
        return mover.ahead(self.lookups.translator, asked, moved)

    def _found(self, asked: _Request, moved: int, stopped: Result | None) -> Outcome:
        """Say what became of the page after ``moved`` bytes, which is asked for now if the engine has not."""
        if stopped is not None:
            return self.recorded(outcome_of(asked.requester, asked.pasid, stopped))
        return self.recorded(self.lookups.one(asked.requester, asked.iova + moved, asked.access, asked.pasid))


def _column(pasid: int | None) -> int:
    return NO_PASID if pasid is None else pasid


def _room(out: BufferLike, length: int) -> memoryview:
    view = out.data if isinstance(out, np.ndarray) else memoryview(out)
    if view.readonly or not view.c_contiguous or view.nbytes != length:
        kind = "read-only" if view.readonly else "contiguous" if view.c_contiguous else "strided"
        raise BadValue("out", f"{kind}, {view.nbytes:#x} bytes", f"a writable contiguous buffer of {length:#x} bytes")
    return view.cast("B") if length else view
