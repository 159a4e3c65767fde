"""Devices with a TLB of their own (PCIe ATS), which may ask for pages (PRI)."""

from __future__ import annotations

from collections import OrderedDict, deque
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from attrs import define, field, frozen

from viommu.addresses import Iova, Pa, Pasid, RequesterId
from viommu.faults import Access, Fault
from viommu.platform import BadAnswer, Completion, PageRequest
from viommu.translation import Translation

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.platform import DeviceInvalidation, PageResponse
    from viommu.translation import Outcome

__all__ = ["Device", "DeviceTlb"]

MOST_RESPONSES = 4096
"""Page responses that are kept until somebody looks at them; the oldest go first."""

PAGE_LG2 = 12
RIGHTS_BITS = int(Access.READ | Access.WRITE | Access.EXECUTE)


@frozen
class Held:
    """One translation that a device TLB holds; ``size_lg2`` is log2 of its bytes."""

    pa: int
    size_lg2: int
    rights: Access


class Upstream(Protocol):
    """Where a device's transactions go: a `viommu.instance.iommu.Iommu`, which says what each does."""

    def request_translation(
        self, requester: int, iova: int, access: Access, pasid: int | None
    ) -> Translation | Completion:
        """Answer an ATS translation request."""

    def send_translated(self, requester: int, address: int, access: Access, pasid: int | None) -> Outcome:
        """Pass an access whose address ATS gave."""

    def request_page(self, request: PageRequest) -> None:
        """Take a page request."""

    def check_held(self, requester: int, iova: int, access: Access, pasid: int | None, held: Held) -> None:
        """Hold a translation that a device TLB is about to use against the tables, where that was asked for."""


@define(eq=False)
class DeviceTlb:
    """A device's own TLB: what ATS gave it, first in first out, until an invalidation reaches it, from any thread."""

    capacity: int = 1024
    invalidations: int = field(default=0, init=False)
    """How many there were."""
    _held: OrderedDict[tuple[int | None, int, int], Held] = field(factory=OrderedDict)
    _lock: Lock = field(factory=Lock, init=False, repr=False)

    def __len__(self) -> int:
        return len(self._held)

    def find(self, pasid: int | None, iova: int, access: Access) -> Held | None:
        """The translation of an address that grants ``access``, if one is held."""
        wanted = int(access) & RIGHTS_BITS  # an enum's operators are slow
        with self._lock:
            for size_lg2 in sorted({key[1] for key in self._held}):
                held = self._held.get((pasid, size_lg2, iova >> size_lg2))
                if held is not None and int(held.rights) & wanted == wanted:
                    return held
        return None

    def keep(self, pasid: int | None, iova: int, held: Held, asked: int | None = None) -> None:
        """Hold a translation; the oldest leaves where there is no room.

        ``asked``: `invalidations` before it was asked for. One that came since may be about it: then it is not held.
        None: nobody invalidates meanwhile.
        """
        with self._lock:
            if asked not in (None, self.invalidations):
                return
            self._held[pasid, held.size_lg2, iova >> held.size_lg2] = held
            while len(self._held) > self.capacity:
                self._held.popitem(last=False)

    def clear(self) -> None:
        """Drop everything, as a reset does."""
        with self._lock:
            self.invalidations += 1
            self._held.clear()

    def drop(self, invalidation: DeviceInvalidation) -> int:
        """Drop what an invalidation covers; gives how many translations that were."""
        with self._lock:
            self.invalidations += 1
            doomed = [key for key in self._held if _covers(invalidation, *key)]
            for key in doomed:
                del self._held[key]
        return len(doomed)


def _covers(invalidation: DeviceInvalidation, pasid: int | None, size_lg2: int, page: int) -> bool:
    if not invalidation.every_pasid and pasid != invalidation.pasid:
        return False
    first = page << size_lg2
    return first <= invalidation.last and first + (1 << size_lg2) > invalidation.start


@define(eq=False)
class Device:
    """One PCIe function behind the IOMMU, with ATS and PRI. Made by `Machine.device`.

    ``answers`` False: it ignores invalidations, as a device that hangs does; a `viommu.platform.BadAnswer`: it sends
    that instead. ``on_response`` is told of each answer to page requests, by the thread that answers.
    """

    upstream: Upstream
    requester: RequesterId
    tlb: DeviceTlb = field(factory=DeviceTlb)
    answers: bool | BadAnswer = True
    responses: deque[PageResponse] = field(factory=lambda: deque(maxlen=MOST_RESPONSES))
    on_response: Callable[[PageResponse], None] | None = None

    def translate(
        self, iova: int, access: Access = Access.READ, pasid: int | None = None
    ) -> Translation | Fault | Completion:
        """Send one access: by the device TLB, else by a translation request, whose answer is kept.

        A Completion is what a refused translation request ended with; a Fault is a translated access refused.
        Raises as `Machine.translate`.
        """
        held = self.held(iova, access, pasid)
        if isinstance(held, Completion):
            return held
        address = held.pa | iova & (1 << held.size_lg2) - 1
        passed = self.upstream.send_translated(self.requester, address, access, pasid)
        if isinstance(passed, Fault):
            return passed
        return Translation(Iova(iova), Pa(passed.pa), 1 << held.size_lg2, held.rights, passed.ipa)

    def held(self, iova: int, access: Access = Access.READ, pasid: int | None = None) -> Held | Completion:
        """Have a translation: by the device TLB, else by a translation request, whose answer is kept.

        Raises as `Machine.translate`.
        """
        held = self.tlb.find(pasid, iova, access)
        if held is not None:
            self.upstream.check_held(self.requester, iova, access, pasid, held)
            return held
        asked = self.tlb.invalidations
        answer = self.upstream.request_translation(self.requester, iova, access, pasid)
        if isinstance(answer, Completion):
            return answer
        size_lg2 = answer.page_size.bit_length() - 1 if answer.page_size else PAGE_LG2
        held = Held(answer.pa & -(1 << size_lg2), size_lg2, answer.rights)
        self.tlb.keep(pasid, iova, held, asked)
        return held

    def request_page(
        self, iova: int, access: Access, pasid: int | None = None, *, group: int, last: bool = True
    ) -> None:
        """Ask software for a page (PRI); ``responses`` receives the answer to the group.

        Raises as `Machine.translate`.
        """
        self.upstream.request_page(
            PageRequest(self.requester, None if pasid is None else Pasid(pasid), Iova(iova), access, group, last)
        )

    def invalidate(self, invalidation: DeviceInvalidation) -> bool | BadAnswer:
        """Drop translations; False, or what it sends in its place, where the device does not answer."""
        if not self.answers:
            return self.answers if isinstance(self.answers, BadAnswer) else False
        self.tlb.drop(invalidation)
        return True

    def responded(self, response: PageResponse) -> None:
        """Take the answer to a group of page requests."""
        self.responses.append(response)
        if self.on_response is not None:
            self.on_response(response)
