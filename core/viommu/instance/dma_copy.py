"""Bytes that devices copy from one place in memory to another, without having them meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, frozen

from viommu._engine import dma_copy
from viommu.addresses import PAGE_SIZE
from viommu.errors import OutOfRange
from viommu.faults import Access
from viommu.requests import IOVA_LAST

if TYPE_CHECKING:
    from viommu._engine import Result
    from viommu.faults import Fault
    from viommu.instance.dma import BusAbort, Dma, Request


@frozen
class CopyStopped:
    """A copy that ended early: ``moved`` bytes were copied, and its source, or (``writes``) its target, was refused."""

    moved: int
    writes: bool
    cause: Fault | BusAbort


@frozen(eq=False, repr=False)
class Copier:
    """Copies by way of one IOMMU; as `Dma`, it tries the engine first, and does one piece itself where that stops."""

    dma: Dma

    def copy(
        self,
        requester: int,
        source: int,
        source_pasid: int | None,
        target: int,
        target_pasid: int | None,
        length: int,
        times: int,
    ) -> CopyStopped | None:
        """Copy in ascending order, ``times`` over; what lies before a refused byte is copied.

        Raises OutOfRange, BadValue.
        """
        places = requester, source, source_pasid, target, target_pasid, length
        ahead = self._ahead(*places, times)
        if ahead is None:
            return None
        reads = self.dma.asked(requester, source, length, Access.READ, source_pasid)
        writes = self.dma.asked(requester, target, length, Access.WRITE, target_pasid)
        if not 0 <= times <= IOVA_LAST:
            raise OutOfRange("times of a copy", times, IOVA_LAST)
        before = 0
        while length and before < length * times and ahead is not None:
            before += ahead[0] - ahead[0] % length
            stopped = self._go_on(reads, writes, ahead[0] % length, *ahead[1:])
            if stopped is not None:
                return evolve(stopped, moved=before + stopped.moved)
            before += length
            ahead = self._ahead(*places, times - before // length)
        return None

    def _ahead(
        self,
        requester: int,
        source: int,
        source_pasid: int | None,
        target: int,
        target_pasid: int | None,
        length: int,
        times: int,
    ) -> tuple[int, bool, Result | None] | None:
        """Let the engine copy what it can: how many bytes, and which side stopped it with which result; None: all."""
        if not self.dma.at_once(writes=True):
            return 0, False, None
        translator = self.dma.lookups.translator
        return dma_copy(translator, requester, source, source_pasid, target, target_pasid, length, times)

    def _go_on(
        self, source: Request, target: Request, moved: int, at_target: bool, stopped: Result | None
    ) -> CopyStopped | None:
        while moved < source.length:
            size = min(source.length - moved, _to_page_end(source.iova + moved), _to_page_end(target.iova + moved))
            parts = source.part(moved, size), target.part(moved, size)
            ended = self._piece(*parts, moved, *((None, stopped) if at_target else (stopped, None)))
            if ended is not None:
                return ended
            moved += size
            places = source.iova + moved, source.pasid, target.iova + moved, target.pasid
            ahead = self._ahead(source.requester, *places, source.length - moved, 1)
            if ahead is None:
                return None
            moved, at_target, stopped = moved + ahead[0], ahead[1], ahead[2]
        return None

    def _piece(
        self, source: Request, target: Request, moved: int, read: Result | None, written: Result | None
    ) -> CopyStopped | None:
        """Copy what lies in one page on either side; the results are what became of them, as far as they were asked."""
        held = memoryview(bytearray(source.length))
        ended = self.dma.read_asked(source, held, read)
        if ended is not None:
            return CopyStopped(moved, False, ended)
        ended = self.dma.write_asked(target, held, written)
        return None if ended is None else CopyStopped(moved, True, ended)


def _to_page_end(iova: int) -> int:
    return PAGE_SIZE - iova % PAGE_SIZE
