"""A bus without an IOMMU, on which models of devices are tested alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.faults import Access
from viommu.modelspecs import PLAIN, Granted, Refused, Why
from viommu.platform import ResponseCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from viommu.modelspecs import Attributes, OwnTlb

__all__ = ["PlainBus"]

PAGE_SIZE = 4096


@define
class PlainBus:
    """Memory that begins at IOVA 0 (a `viommu.modelspecs.Bus`). What lies beyond, or in a page of ``missing``, faults.

    ``raised`` lists the vectors of interrupts; what was put off is done by `run`. A page request brings its page.
    """

    memory: bytearray = field(factory=lambda: bytearray(1 << 20), repr=False)
    raised: list[int] = field(factory=list)
    due: list[Callable[[], None]] = field(factory=list)
    missing: set[int] = field(factory=set)
    tlb: OwnTlb | None = None

    def run(self, most: int = 1 << 20) -> None:
        """Do what was put off, and what that puts off, up to so many pieces."""
        for _ in range(most):
            if not self.due:
                return
            self.due.pop(0)()

    def read(self, iova: int, length: int, pasid: int | None = None) -> bytes | None:
        """Read memory; None where it faults."""
        del pasid
        return None if self._reach(iova, length) < length else bytes(self.memory[iova : iova + length])

    def write(self, iova: int, data: bytes, pasid: int | None = None) -> bool:
        """Write memory; False where it faults."""
        del pasid
        return self.write_from(iova, data) is None

    def read_into(self, iova: int, out: bytearray | memoryview, attributes: Attributes = PLAIN) -> Refused | None:
        """Read memory into a buffer, as far as it reaches."""
        del attributes
        room = memoryview(out).cast("B")
        moved = self._reach(iova, len(room))
        room[:moved] = self.memory[iova : iova + moved]
        return None if moved == len(room) else Refused(iova + moved, Why.FAULT, moved)

    def write_from(self, iova: int, data: Buffer, attributes: Attributes = PLAIN) -> Refused | None:
        """Write memory, as far as it reaches."""
        del attributes
        raw = memoryview(data).cast("B")
        moved = self._reach(iova, len(raw))
        self.memory[iova : iova + moved] = raw[:moved]
        return None if moved == len(raw) else Refused(iova + moved, Why.FAULT, moved)

    def copy(
        self,
        source: int,
        target: int,
        length: int,
        source_pasid: int | None = None,
        target_pasid: int | None = None,
        *,
        times: int = 1,
    ) -> Refused | None:
        """Copy memory, as far as both sides reach."""
        del source_pasid, target_pasid, times  # once is as good as often
        readable, writable = self._reach(source, length), self._reach(target, length)
        moved = min(readable, writable)
        self.memory[target : target + moved] = self.memory[source : source + moved]
        if moved == length:
            return None
        at_target = readable > writable
        return Refused((target if at_target else source) + moved, Why.FAULT, moved, at_target)

    def update(
        self, iova: int, size: int, change: Callable[[int], int], attributes: Attributes = PLAIN
    ) -> int | Refused:
        """Do an AtomicOp."""
        del attributes
        if self._reach(iova, size) < size:
            return Refused(iova, Why.FAULT)
        before = int.from_bytes(self.memory[iova : iova + size], "little")
        self.memory[iova : iova + size] = (change(before) & (1 << 8 * size) - 1).to_bytes(size, "little")
        return before

    def translate(self, iova: int, access: Access = Access.READ, attributes: Attributes = PLAIN) -> Granted | Refused:
        """Give the same address, where there is memory."""
        del access, attributes
        if not self._reach(iova, 1):
            return Refused(iova, Why.NO_ACCESS)
        return Granted(iova, PAGE_SIZE, Access.READ | Access.WRITE)

    def request_page(
        self,
        iova: int,
        access: Access,
        answered: Callable[[ResponseCode], None] | None,
        pasid: int | None = None,
        group: int = 0,
    ) -> bool:
        """Bring a page that is missing; the answer is put off."""
        del access, pasid, group
        there = iova < len(self.memory)
        self.missing.discard(iova // PAGE_SIZE)
        if answered is not None:
            self.due.append(lambda: answered(ResponseCode.SUCCESS if there else ResponseCode.INVALID))
        return True

    def wait(self, refused: Refused, ended: Callable[[bool], None]) -> None:
        """Say that an access was ended: none stalls here."""
        del refused
        self.due.append(lambda: ended(False))

    def interrupt(self, vector: int = 0) -> None:
        """Take note of an interrupt."""
        self.raised.append(vector)

    def after(self, seconds: float, work: Callable[[], None]) -> None:
        """Put something off."""
        del seconds
        self.due.append(work)

    def _reach(self, iova: int, length: int) -> int:
        """Say how many of so many bytes can be reached."""
        end = min(iova + length, len(self.memory))
        page = iova // PAGE_SIZE
        while page * PAGE_SIZE < end and page not in self.missing:
            page += 1
        return max(min(end, page * PAGE_SIZE) - iova, 0)
