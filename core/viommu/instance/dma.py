"""Bytes that devices read and write: each page is translated, in order.

The engine goes as far as nothing is out of the ordinary; where it stops, one piece is done here, and it goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from attrs import evolve, field, frozen

from viommu._engine import dma_read, dma_read_into, dma_write
from viommu.errors import BadValue, OutOfRange
from viommu.faults import Access, Fault
from viommu.requests import IOVA_LAST, check_access
from viommu.translation import outcome_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from viommu._engine import Result, Translator
    from viommu.backing import BufferLike
    from viommu.hardware import CheckedHardware
    from viommu.instance.lookups import Lookups
    from viommu.memory import PhysicalMemory
    from viommu.requests import Bounds
    from viommu.translation import Outcome, Translation

MOST_AT_ONCE = 16 << 20
"""Bytes that are taken for a read before it is known whether anything can be read."""


@frozen
class BusAbort:
    """A DMA that was translated, to a place where no memory answers (or where it is read-only).

    ``iova``: where the device meant the first byte that was not moved to be (None: nobody has said).
    """

    pa: int
    length: int
    iova: int | None = field(default=None, eq=False)


@frozen(eq=False)
class Request:
    """One DMA, checked."""

    requester: int
    iova: int
    length: int
    access: Access
    pasid: int | None

    def part(self, offset: int, length: int) -> Request:
        """Give a part of it."""
        return evolve(self, iova=self.iova + offset, length=length)


class _Mover(Protocol):
    """What a DMA reads into, or writes from."""

    def ahead(self, translator: Translator, asked: Request, moved: int) -> tuple[int, Result | None] | None:
        """Let the engine move what it can; how many bytes, and what became of the page after them, if it asked.

        None where it moves all.
        """

    def piece(self, pa: int, moved: int, size: int) -> bool:
        """Move one piece; False, with nothing moved, where no memory answers."""

    def elsewhere(
        self, hardware: CheckedHardware, asked: Request, found: Translation, moved: int, size: int
    ) -> bool | None:
        """Let hardware do one piece whose page leads to no memory. None: it does lead to memory."""


@frozen(eq=False)
class _Kept:
    """Bytes that are read, to be handed out."""

    memory: PhysicalMemory
    parts: list[bytes]

    def ahead(self, translator: Translator, asked: Request, moved: int) -> tuple[int, Result | None] | None:
        at, left = asked.iova + moved, asked.length - moved
        read = dma_read(translator, asked.requester, at, asked.pasid, left, MOST_AT_ONCE)
        if isinstance(read, bytes):
            self.parts.append(read)
            return None
        self.parts.append(read[0])
        return len(read[0]), read[1]

    def piece(self, pa: int, moved: int, size: int) -> bool:
        del moved
        part = self.memory.read(pa, size)
        if part is None:
            return False
        self.parts.append(part)
        return True

    def elsewhere(
        self, hardware: CheckedHardware, asked: Request, found: Translation, moved: int, size: int
    ) -> bool | None:
        del moved
        part = hardware.load(asked.requester, asked.pasid, found, size)
        if part is None or len(part) < size:
            return None if part is None else False
        self.parts.append(part[:size])
        return True


@frozen(eq=False)
class _Filled:
    """A buffer that is read into."""

    memory: PhysicalMemory
    out: memoryview

    def ahead(self, translator: Translator, asked: Request, moved: int) -> tuple[int, Result | None] | None:
        at, left = asked.iova + moved, asked.length - moved
        return dma_read_into(translator, asked.requester, at, asked.pasid, left, self.out[moved:])

    def piece(self, pa: int, moved: int, size: int) -> bool:
        part = self.memory.read(pa, size)
        if part is None:
            return False
        self.out[moved : moved + size] = part
        return True

    def elsewhere(
        self, hardware: CheckedHardware, asked: Request, found: Translation, moved: int, size: int
    ) -> bool | None:
        part = hardware.load(asked.requester, asked.pasid, found, size)
        if part is None or len(part) < size:
            return None if part is None else False
        self.out[moved : moved + size] = part[:size]
        return True


@frozen(eq=False)
class _Drained:
    """Bytes that are written."""

    memory: PhysicalMemory
    data: memoryview

    def ahead(self, translator: Translator, asked: Request, moved: int) -> tuple[int, Result | None] | None:
        return dma_write(translator, asked.requester, asked.iova + moved, asked.pasid, self.data[moved:])

    def piece(self, pa: int, moved: int, size: int) -> bool:
        return self.memory.write(pa, self.data[moved : moved + size])

    def elsewhere(
        self, hardware: CheckedHardware, asked: Request, found: Translation, moved: int, size: int
    ) -> bool | None:
        return hardware.store(asked.requester, asked.pasid, found, bytes(self.data[moved : moved + size]))


@frozen(eq=False, repr=False)
class Dma:
    """Reads and writes memory by way of one IOMMU's lookups; ``recorded`` has its hardware write faults down.

    Each DMA is tried on the engine as it was asked for: only what has a configuration cached is done there, so that
    arguments need be checked only of others.
    """

    memory: PhysicalMemory
    lookups: Lookups
    bounds: Bounds
    recorded: Callable[[Outcome], Outcome]

    def read(self, requester: int, iova: int, length: int, pasid: int | None) -> bytes | Fault | BusAbort:
        """Read; the first page that is refused ends it."""
        read: bytes | tuple[bytes, Result | None] = b"", None
        if self.at_once(writes=False):
            read = dma_read(self.lookups.translator, requester, iova, pasid, length, MOST_AT_ONCE)
        if isinstance(read, bytes):
            return read
        kept = _Kept(self.memory, [read[0]])
        ended = self._move(kept, (len(read[0]), read[1]), requester, iova, length, Access.READ, pasid)
        return b"".join(kept.parts) if ended is None else ended

    def read_into(
        self, requester: int, iova: int, length: int, pasid: int | None, out: BufferLike
    ) -> Fault | BusAbort | None:
        """Read into a buffer; what lies before a refused page is read. Raises BadValue."""
        begun: tuple[int, Result | None] | None = 0, None
        if self.at_once(writes=False):
            begun = dma_read_into(self.lookups.translator, requester, iova, pasid, length, out)
        if begun is None:
            return None
        room = _Filled(self.memory, _room(out, length))
        return self._move(room, begun, requester, iova, length, Access.READ, pasid)

    def write(self, requester: int, iova: int, data: Buffer, pasid: int | None) -> Fault | BusAbort | None:
        """Write; what lies before a refused page is written."""
        begun: tuple[int, Result | None] | None = 0, None
        if self.at_once(writes=True):
            begun = dma_write(self.lookups.translator, requester, iova, pasid, data)
        if begun is None:
            return None
        source = memoryview(data).cast("B")
        return self._move(_Drained(self.memory, source), begun, requester, iova, len(source), Access.WRITE, pasid)

    def read_asked(self, asked: Request, out: memoryview, stopped: Result | None) -> Fault | BusAbort | None:
        """Read what was checked; ``stopped`` is what became of its first page, if that was asked for already."""
        return self._moved(_Filled(self.memory, out), asked, 0, stopped)

    def write_asked(self, asked: Request, data: memoryview, stopped: Result | None) -> Fault | BusAbort | None:
        """Write what was checked, likewise."""
        return self._moved(_Drained(self.memory, data), asked, 0, stopped)

    def at_once(self, *, writes: bool) -> bool:
        """Whether the engine may move more than one page: a sanitizer judges each, a watcher must see each store."""
        return self.lookups.sanitizer is None and not (writes and self.memory.watcher is not None)

    def _move(
        self,
        mover: _Mover,
        begun: tuple[int, Result | None],
        requester: int,
        iova: int,
        length: int,
        access: Access,
        pasid: int | None,
    ) -> Fault | BusAbort | None:
        return self._moved(mover, self.asked(requester, iova, length, access, pasid), *begun)

    def asked(self, requester: int, iova: int, length: int, access: Access, pasid: int | None) -> Request:
        """Check what is asked for. Raises OutOfRange, BadValue."""
        self.bounds.check(requester, pasid)
        check_access(iova, access)
        known = None if pasid is None else int(pasid)
        asked = Request(int(requester), int(iova), int(length), access, known)
        if not 0 <= asked.length <= IOVA_LAST + 1 - asked.iova:
            raise OutOfRange("length of a DMA", asked.length, IOVA_LAST + 1 - asked.iova)
        return asked

    def _moved(self, mover: _Mover, asked: Request, moved: int, stopped: Result | None) -> Fault | BusAbort | None:
        while moved < asked.length:
            found = self._found(asked, moved, stopped)
            if isinstance(found, Fault):
                return found
            size = asked.length - moved
            if found.page_size:
                size = min(size, found.page_size - (asked.iova + moved) % found.page_size)
            if not self._piece(mover, asked, found, moved, size):
                return BusAbort(found.pa, size, asked.iova + moved)
            moved, stopped = self._ahead(mover, asked, moved + size)
        return None

    def _piece(self, mover: _Mover, asked: Request, found: Translation, moved: int, size: int) -> bool:
        hardware = self.lookups.hardware
        if hardware.redirecting is not None:
            answered = mover.elsewhere(hardware, asked, found, moved, size)
            if answered is not None:
                return answered
        return mover.piece(found.pa, moved, size)

    def _ahead(self, mover: _Mover, asked: Request, moved: int) -> tuple[int, Result | None]:
        if moved == asked.length or not self.at_once(writes=asked.access is Access.WRITE):
            return moved, None
        ahead = mover.ahead(self.lookups.translator, asked, moved)
        return (asked.length, None) if ahead is None else (moved + ahead[0], ahead[1])

    def _found(self, asked: Request, moved: int, stopped: Result | None) -> Outcome:
        """Say what became of the page after ``moved`` bytes, which is asked for now if the engine has not."""
        if stopped is not None:
            return self.recorded(outcome_of(asked.requester, asked.pasid, stopped))
        return self.recorded(self.lookups.one(asked.requester, asked.iova + moved, asked.access, asked.pasid))


def _room(out: BufferLike, length: int) -> memoryview:
    view = out.data if isinstance(out, np.ndarray) else memoryview(out)
    if view.readonly or not view.c_contiguous or view.nbytes != length:
        kind = "read-only" if view.readonly else "contiguous" if view.c_contiguous else "strided"
        raise BadValue("out", f"{kind}, {view.nbytes:#x} bytes", f"a writable contiguous buffer of {length:#x} bytes")
    return view.cast("B") if length else view
