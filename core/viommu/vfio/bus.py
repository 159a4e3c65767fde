"""What surrounds the model of a function: its way to memory through the IOMMU, and interrupts."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from attrs import define, field

from viommu.errors import BadField
from viommu.faults import Access, Fault
from viommu.modelspecs import PLAIN, Attributes, Granted, Refused, Why
from viommu.vfio.pages import OwnTlbOf, Pages

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from viommu.endpoint import Endpoint
    from viommu.instance.dma import BusAbort
    from viommu.modelspecs import OwnTlb
    from viommu.platform import PageResponse, ResponseCode
    from viommu.vfio.config_space import ConfigSpace
    from viommu.vfio.interrupts import Interrupts
    from viommu.vfio.later import Later

T = TypeVar("T")

GROUPS = 512


@define(eq=False)
class FunctionBus:
    """The `viommu.modelspecs.Bus` of one function, which can be used once it is `plug`ged."""

    later: Later
    config: ConfigSpace = field(init=False)
    interrupts: Interrupts = field(init=False)
    endpoint: Endpoint = field(init=False)
    _pages: Pages = field(init=False)
    _asking: dict[tuple[int | None, int], Callable[[ResponseCode], None]] = field(factory=dict)
    """Who waits for the answer to which group of page requests, by PASID and number."""
    _resets: int = 0

    def plug(self, endpoint: Endpoint, config: ConfigSpace, interrupts: Interrupts) -> None:
        """Lead to an IOMMU from now on."""
        self.endpoint, self.config, self.interrupts = endpoint, config, interrupts
        self._pages = Pages(endpoint)
        if endpoint.ats is not None:
            endpoint.ats.on_response = self._answered

    def reset(self) -> None:
        """Forget what waits."""
        self._resets += 1
        self.later.clear()
        self._asking.clear()

    # --- DMA

    def read(self, iova: int, length: int, pasid: int | None = None) -> bytes | None:
        """Read memory by DMA; None where it is refused."""
        try:
            found = self.endpoint.dma_read(iova, length, pasid) if self.config.is_master else None
        except BadField:
            return None
        return found if isinstance(found, bytes) else None

    def write(self, iova: int, data: bytes, pasid: int | None = None) -> bool:
        """Write memory by DMA; False where it is refused."""
        return self.write_from(iova, data, Attributes(pasid)) is None

    def read_into(self, iova: int, out: bytearray | memoryview, attributes: Attributes = PLAIN) -> Refused | None:
        """Read memory into a buffer; what lies before a refused byte is read."""
        room = memoryview(out).cast("B")
        if _in_pages(attributes):
            return self._tried(iova, lambda: self._pages.read_into(iova, room, attributes))
        return self._tried(
            iova, lambda: self._moved(iova, self.endpoint.dma_read(iova, len(room), attributes.pasid, out=room))
        )

    def write_from(self, iova: int, data: Buffer, attributes: Attributes = PLAIN) -> Refused | None:
        """Write memory; what lies before a refused byte is written."""
        if _in_pages(attributes):
            return self._tried(iova, lambda: self._pages.write_from(iova, memoryview(data).cast("B"), attributes))
        return self._tried(iova, lambda: self._moved(iova, self.endpoint.dma_write(iova, data, attributes.pasid)))

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
        """Copy memory to memory; what lies before a refused byte is copied."""
        if not self.config.is_master:  # as `_tried` does, which would cost more than a small copy
            return Refused(source, Why.NOT_MASTER)
        try:
            stopped = self.endpoint.dma_copy(source, target, length, source_pasid, target_pasid, times=times)
        except BadField:
            return Refused(source, Why.IMPOSSIBLE)
        if stopped is None:
            return None
        at = (target if stopped.writes else source) + stopped.moved % length
        return self._refused(at, stopped.cause, stopped.moved, writes=stopped.writes)

    def update(
        self, iova: int, size: int, change: Callable[[int], int], attributes: Attributes = PLAIN
    ) -> int | Refused:
        """Do an AtomicOp on 4 or 8 aligned bytes; the value before."""
        return self._tried(iova, lambda: self._pages.update(iova, size, change, attributes))

    def translate(self, iova: int, access: Access = Access.READ, attributes: Attributes = PLAIN) -> Granted | Refused:
        """Send a translation request, unless the device's own TLB has its answer."""
        return self._tried(iova, lambda: self._pages.translate(iova, access, attributes))

    def _tried(self, iova: int, send: Callable[[], T | Refused]) -> T | Refused:
        if not self.config.is_master:
            return Refused(iova, Why.NOT_MASTER)
        try:
            return send()
        except BadField:
            return Refused(iova, Why.IMPOSSIBLE)

    def _moved(self, iova: int, ended: Fault | BusAbort | None) -> Refused | None:
        if ended is None:
            return None
        at = iova if ended.iova is None else int(ended.iova)
        return self._refused(at, ended, at - iova)

    def _refused(self, iova: int, cause: Fault | BusAbort, moved: int, *, writes: bool = False) -> Refused:
        if not isinstance(cause, Fault):
            return Refused(iova, Why.NO_MEMORY, moved, writes)
        return Refused(iova, Why.FAULT, moved, writes, self.endpoint.iommu.is_stalled(cause), cause)

    # --- what software answers

    def request_page(
        self,
        iova: int,
        access: Access,
        answered: Callable[[ResponseCode], None] | None,
        pasid: int | None = None,
        group: int = 0,
    ) -> bool:
        """Ask software for a page; False where that cannot be."""
        able = self.endpoint.ats is not None and self.endpoint.physical.features.page_requests
        if not able or not self.config.is_master or not 0 <= group < GROUPS or (pasid, group) in self._asking:
            return False
        if answered is not None:
            self._asking[pasid, group] = answered
        try:
            self.endpoint.request_page(iova, access, pasid, group=group, last=answered is not None)
        except BadField:
            self._asking.pop((pasid, group), None)
            return False
        return True

    def _answered(self, response: PageResponse) -> None:
        waiting = self._asking.pop((response.pasid, response.group), None)
        if waiting is not None:
            self._soon(self._resets, lambda: waiting(response.code))

    def wait(self, refused: Refused, ended: Callable[[bool], None]) -> None:
        """Have it called when software has answered a stalled access."""
        before = self._resets

        def told(outcome: object) -> None:
            self._soon(before, lambda: ended(not isinstance(outcome, Fault)))

        if refused.fault is None or not self.endpoint.iommu.when_resumed(refused.fault, told):
            told(refused.fault)

    def _soon(self, before: int, work: Callable[[], None]) -> None:
        """Have something done that was begun after so many resets, unless there is one more by then."""
        self.later.add(0, lambda: work() if self._resets == before else None)

    @property
    def tlb(self) -> OwnTlb | None:
        """The device's own TLB; None where it has no ATS."""
        return None if self.endpoint.ats is None else OwnTlbOf(self.endpoint.ats)

    # --- everything else

    def interrupt(self, vector: int = 0) -> None:
        """Raise an interrupt."""
        self.interrupts.raise_(vector)

    def after(self, seconds: float, work: Callable[[], None]) -> None:
        """Do something later."""
        self.later.add(seconds, work)


def _in_pages(attributes: Attributes) -> bool:
    """Say whether a transaction is more than what the engine does at once."""
    return attributes.ats or attributes.privileged or attributes.execute
