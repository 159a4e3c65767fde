"""What a device does page by page: transactions that say more of themselves than an address and a PASID."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, evolve, frozen

from viommu.addresses import PAGE_SIZE
from viommu.faults import Access, Fault
from viommu.modelspecs import Granted, Refused, Why
from viommu.platform import Completion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from viommu.devices import Device
    from viommu.endpoint import Endpoint
    from viommu.memory import PhysicalMemory
    from viommu.modelspecs import Attributes

WHY = {
    Completion.NO_ACCESS: Why.NO_ACCESS,
    Completion.UNSUPPORTED_REQUEST: Why.UNSUPPORTED,
    Completion.COMPLETER_ABORT: Why.ABORTED,
}
WORD = 8
TRIES = 1000
"""So often is an AtomicOp begun anew because others store to its word; then it is refused, as if nothing answered."""


@frozen
class Piece:
    """A part of a transfer that lies in one page: its offset, its length, and where it leads."""

    offset: int
    length: int
    pa: int


@define(eq=False)
class Pages:
    """Does it for one device. Everything here raises as `viommu.instance.iommu.Iommu.translate`, and BadValue."""

    endpoint: Endpoint

    def read_into(self, iova: int, out: memoryview, attributes: Attributes) -> Refused | None:
        """Read memory; what lies before a refused byte is read."""
        for piece in self._pieces(iova, len(out), Access.READ, attributes):
            if isinstance(piece, Refused):
                return piece
            data = self._memory.read(piece.pa, piece.length)
            if data is None:
                return Refused(iova + piece.offset, Why.NO_MEMORY, piece.offset)
            out[piece.offset : piece.offset + piece.length] = data
        return None

    def write_from(self, iova: int, data: memoryview, attributes: Attributes) -> Refused | None:
        """Write memory; what lies before a refused byte is written."""
        for piece in self._pieces(iova, len(data), Access.WRITE, attributes):
            if isinstance(piece, Refused):
                return piece
            if not self._memory.write(piece.pa, data[piece.offset : piece.offset + piece.length]):
                return Refused(iova + piece.offset, Why.NO_MEMORY, piece.offset)
        return None

    def update(self, iova: int, size: int, change: Callable[[int], int], attributes: Attributes) -> int | Refused:
        """Do an AtomicOp: the value before, or why not."""
        if size not in {4, 8} or iova % size:
            return Refused(iova, Why.IMPOSSIBLE)
        found = self._found(iova, Access.READ | Access.WRITE, attributes)
        if isinstance(found, Refused):
            return found
        before = self._exchanged(found[0], size, change)
        return Refused(iova, Why.NO_MEMORY) if before is None else before

    def translate(self, iova: int, access: Access, attributes: Attributes) -> Granted | Refused:
        """Send a translation request, unless the device's own TLB has its answer."""
        held = self.endpoint.with_ats.held(iova, attributes.access(access), attributes.pasid)
        if isinstance(held, Completion):
            return Refused(iova, WHY[held])
        return Granted(held.pa | iova & (1 << held.size_lg2) - 1, 1 << held.size_lg2, held.rights)

    @property
    def _memory(self) -> PhysicalMemory:
        return self.endpoint.iommu.memory

    def _pieces(self, iova: int, length: int, access: Access, attributes: Attributes) -> Iterator[Piece | Refused]:
        """Cut a transfer into what lies in one page each, up to one that is refused."""
        offset = 0
        while offset < length:
            found = self._found(iova + offset, access, attributes)
            if isinstance(found, Refused):
                yield evolve(found, moved=offset)
                return
            pa, to_end = found
            size = min(length - offset, to_end)
            yield Piece(offset, size, pa)
            offset += size

    def _found(self, iova: int, access: Access, attributes: Attributes) -> tuple[int, int] | Refused:
        """Say where an access goes, and how much of its page follows there."""
        wanted = attributes.access(access)
        send = self.endpoint.translate_by_ats if attributes.ats else self.endpoint.translate
        outcome = send(iova, wanted, attributes.pasid)
        if isinstance(outcome, Completion):
            return Refused(iova, WHY[outcome])
        if isinstance(outcome, Fault):
            return Refused(iova, Why.FAULT, stalled=self.endpoint.iommu.is_stalled(outcome), fault=outcome)
        page = outcome.page_size or PAGE_SIZE
        return outcome.pa, page - iova % page

    def _exchanged(self, pa: int, size: int, change: Callable[[int], int]) -> int | None:
        word, shift = pa & -WORD, 8 * (pa % WORD)
        mask = (1 << 8 * size) - 1
        for _ in range(TRIES):
            whole = self._memory.load(word)
            if whole is None:
                return None
            before = whole >> shift & mask
            stored = self._memory.compare_exchange(
                word, whole, whole & ~(mask << shift) | (change(before) & mask) << shift
            )
            if stored:
                return before
            if stored is None:
                return None
        return None


@define(eq=False)
class OwnTlbOf:
    """A device's own TLB as its model sees it (a `viommu.modelspecs.OwnTlb`)."""

    _device: Device

    @property
    def answers(self) -> bool:
        """Whether invalidations are answered."""
        return self._device.answers is True

    @answers.setter
    def answers(self, value: bool) -> None:
        self._device.answers = value

    @property
    def invalidations(self) -> int:
        """How many invalidations there were."""
        return self._device.tlb.invalidations

    def __len__(self) -> int:
        return len(self._device.tlb)

    def clear(self) -> None:
        """Drop everything."""
        self._device.tlb.clear()
