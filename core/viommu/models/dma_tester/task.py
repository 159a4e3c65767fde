"""One descriptor under way: how far it is, what it waits for, and how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field, frozen

from viommu.addresses import PAGE_SIZE
from viommu.faults import Access
from viommu.models.dma_tester.work import Status
from viommu.modelspecs import Attributes, Why
from viommu.platform import ResponseCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.models.dma_tester.page_groups import PageGroups
    from viommu.models.dma_tester.work import Work
    from viommu.modelspecs import Bus, Refused

MOST_TRIES = 16
"""So often a page is asked for that is missing each time software says that it has come."""
STATUS_OF = {
    Why.FAULT: Status.FAULT,
    Why.NO_MEMORY: Status.NO_MEMORY,
    Why.NO_ACCESS: Status.NO_RIGHTS,
    Why.UNSUPPORTED: Status.UNSUPPORTED,
    Why.ABORTED: Status.ABORTED,
    Why.NOT_MASTER: Status.NOT_MASTER,
    Why.IMPOSSIBLE: Status.IMPOSSIBLE,
}
DETAIL_OF = {ResponseCode.SUCCESS: 0, ResponseCode.INVALID: 1, ResponseCode.FAILURE: 2}


@frozen
class End:
    """How a task ended: the fields of its completion record."""

    status: Status = Status.DONE
    result: int = 0
    address: int = 0
    at_target: bool = False
    detail: int = 0


@define(eq=False)
class Task:
    """One of them. ``moved`` counts bytes; ``waits``: it goes on when software has answered; ``end``: it is over.

    ``resume`` is called, as the bus calls, when there is something to do again.
    """

    bus: Bus
    groups: PageGroups
    work: Work
    index: int
    resume: Callable[[], None]
    length: int = field(init=False)
    source_at: int = field(init=False)
    target_at: int = field(init=False)
    source: Attributes = field(init=False)
    target: Attributes = field(init=False)
    is_plain: bool = field(init=False)
    """Whether it says no more of its accesses than an address and a PASID."""
    moved: int = 0
    checksum: int = 0
    waits: bool = False
    end: End | None = None
    _asked: int | None = None
    _tries: int = 0

    def __attrs_post_init__(self) -> None:
        work = self.work
        self.length, self.source_at, self.target_at = work.Length, work.Source, work.Target
        self.is_plain = not (work.Ats or work.Privileged or work.Execute)
        self.source = self._attributes(work.SourcePasid if work.SourcePasidValid else None)
        self.target = self._attributes(work.TargetPasid if work.TargetPasidValid else None)

    def _attributes(self, pasid: int | None) -> Attributes:
        if self.is_plain:
            return Attributes(pasid)
        return Attributes(pasid, bool(self.work.Privileged), bool(self.work.Execute), bool(self.work.Ats))

    def advance(self, count: int, refused: Refused | None, *, at_target: bool = False) -> bool:
        """Take note of what was moved; whether it goes on at once."""
        self.moved += count
        if refused is None:
            return True
        self.stop(refused, at_target=at_target)
        return False

    def stop(self, refused: Refused, *, at_target: bool = False) -> None:
        """Wait for software, where it may yet let the access through, or end."""
        if refused.stalled:
            self.waits = True
            self.bus.wait(refused, self._let_through(refused, at_target=at_target))
        elif not (self.work.Pri and refused.why in {Why.FAULT, Why.NO_ACCESS} and self._ask(refused, at_target)):
            self.end = self._refused(refused, STATUS_OF[refused.why], at_target)

    def _refused(self, refused: Refused, status: Status, at_target: bool, detail: int = 0) -> End:
        return End(status, self.moved, refused.iova, at_target, detail)

    def _let_through(self, refused: Refused, *, at_target: bool) -> Callable[[bool], None]:
        def ended(again: bool) -> None:
            self._go_on(None if again else self._refused(refused, Status.ABORTED, at_target))

        return ended

    # --- page requests

    def _ask(self, refused: Refused, at_target: bool) -> bool:
        """Ask for the page that was refused; False where it is asked for in vain."""
        page = refused.iova & -PAGE_SIZE
        self._tries = self._tries + 1 if page == self._asked else 1
        self._asked = page
        attributes = self.target if at_target else self.source
        access = attributes.access(Access.WRITE if at_target else Access.READ)

        def answered(code: ResponseCode) -> None:
            refusal = self._refused(refused, Status.PAGE_REFUSED, at_target, DETAIL_OF[code])
            self._go_on(None if code is ResponseCode.SUCCESS else refusal)

        return self._tries <= MOST_TRIES and self.ask_for([page], access, attributes.pasid, answered)

    def ask_for(
        self, pages: list[int], access: Access, pasid: int | None, answered: Callable[[ResponseCode], None]
    ) -> bool:
        """Ask for pages in one group, and wait for the answer; False where that cannot be."""
        self.waits = self.groups.ask(self.bus, pages, access, pasid, answered)
        return self.waits

    def _go_on(self, end: End | None) -> None:
        self.waits, self.end = False, end
        self.resume()

    def ended_by(self, code: ResponseCode) -> None:
        """End with the answer to a group of page requests."""
        status = Status.DONE if code is ResponseCode.SUCCESS else Status.PAGE_REFUSED
        self._go_on(End(status, detail=DETAIL_OF[code]))
