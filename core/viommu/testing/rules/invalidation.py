"""INV: what guests invalidate is forgotten, all of it, and not much more."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from attrs import evolve, frozen
from hypothesis import strategies as st

from viommu.api.buffers import copied
from viommu.api.viommu import DeviceTlbEntry
from viommu.testing.rule import Inapplicable, Level, Need, expect, rule
from viommu.testing.tables import PAGE
from viommu.testing.worlds import IOVA, guest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from viommu.api.buffers import Data
    from viommu.testing.subject import Subject
    from viommu.testing.worlds import Guest, GuestSpace

PLACES = 16
NEEDS = (Need.NESTING, Need.REQUESTS)


@frozen
class Change:
    """A guest changes the entries of ``count`` pages: to other pages, or to none."""

    place: int
    count: int
    unmap: bool

    @property
    def iova(self) -> int:
        """The first."""
        return IOVA + (512 - PLACES // 2 + self.place) * PAGE

    @property
    def last(self) -> int:
        """The last byte."""
        return self.iova + self.count * PAGE - 1


def _changes(subject: Subject) -> st.SearchStrategy[list[Change]]:  # noqa: ARG001
    change = st.builds(Change, st.integers(0, PLACES - 4), st.integers(1, 4), st.booleans())
    return st.lists(change, min_size=1, max_size=8)


@rule(
    "INV-001",
    "After a sufficient invalidation no access uses what the guest's table said before.",
    source="viommu_invalidate, viommu_invalidate_nested, Owes",
    needs=NEEDS,
    plan=_changes,
    examples=60,
)
def nothing_is_stale(subject: Subject, plan: list[Change]) -> None:
    """Change entries whose translations are cached, invalidate, and read."""
    with guest(subject) as one:
        space = one.attached()
        now: dict[int, int | None] = dict.fromkeys(range(PLACES), None)
        for change in plan:
            for place in range(change.place, change.place + change.count):
                now[place] = None if change.unmap else one.page()
                at = Change(place, 1, unmap=False).iova
                page = now[place]
                space.tables.unmap(at) if page is None else space.tables.map(at, page)
            done = space.drop(change.iova, change.last)
            wanted = len(space.space.drop(change.iova, change.last))
            expect(done == wanted, f"{done} of {wanted} requests are said to be executed")
            for place in range(PLACES):
                at = Change(place, 1, unmap=False).iova
                found = space.reaches(at)
                expect(
                    found == now[place],
                    f"after an invalidation of {change.iova:#x} to {change.last:#x}, IOVA {at:#x} reads "
                    f"{_told(found)}, where the guest's table leads to {_told(now[place])}",
                    requests=partial(_dropping, space, change.iova, change.last),
                    walk=partial(space.explained, at),
                )


@rule(
    "INV-002",
    "An invalidation of a whole address space reaches every page of it.",
    source="viommu_invalidate, Owes",
    needs=NEEDS,
    plan=lambda subject: st.lists(st.integers(0, 40), min_size=1, max_size=12, unique=True),  # noqa: ARG005
    examples=10,
)
def whole_spaces_are_forgotten(subject: Subject, plan: list[int]) -> None:
    """Map, read, map elsewhere, invalidate all, read."""
    with guest(subject) as one:
        space = one.attached()
        _cache(one, space, plan)
        pages = {place: one.page() for place in plan}
        for place, page in pages.items():
            space.tables.map(IOVA + place * PAGE, page)
        space.drop()
        for place, page in pages.items():
            at = IOVA + place * PAGE
            expect(
                space.reaches(at) == page,
                f"IOVA {at:#x} is stale after an invalidation of the whole space",
                requests=partial(_dropping, space, 0, (1 << 64) - 1),
                walk=partial(space.explained, at),
            )


@rule(
    "INV-003",
    "A batch is executed to its end, and says so.",
    source="viommu_invalidate, Owes: requests run in order, done says how many did",
    needs=NEEDS,
    plan=lambda subject: st.lists(st.integers(0, 20), min_size=1, max_size=40, unique=True),  # noqa: ARG005
    examples=10,
)
def batches_are_executed(subject: Subject, plan: list[int]) -> None:
    """Change many pages, and invalidate each by requests of its own, all in one call."""
    with guest(subject) as one:
        space = one.attached()
        _cache(one, space, plan)
        pages = {place: one.page() for place in plan}
        requests: list[Data] = []
        for place, page in pages.items():
            at = IOVA + place * PAGE
            space.tables.map(at, page)
            requests += space.space.drop(at, at + PAGE - 1)
        target = space.hwpt if one.viommu is None else one.viommu
        done = target.invalidate(requests, data_type=space.space.request_type)
        expect(done == len(requests), f"{done} of {len(requests)} requests are said to be executed")
        stale = [place for place, page in pages.items() if space.reaches(IOVA + place * PAGE) != page]
        expect(not stale, f"requests {stale} of the batch had no effect", requests=lambda: told_bytes(requests))


@rule(
    "INV-004",
    "An invalidation of one page leaves others in the cache.",
    source="how much guests pay: hardware may forget more, and each page more is a walk more",
    needs=NEEDS,
    level=Level.SHOULD,
)
def little_more_is_forgotten(subject: Subject) -> str:
    """Cache 64 pages, drop one, and count which of the others have to be walked anew."""
    with guest(subject) as one:
        space = one.attached()
        places = range(64)
        _cache(one, space, places)
        for place in places:
            space.tables.map(IOVA + place * PAGE, one.take())
        space.drop(IOVA + 7 * PAGE, IOVA + 8 * PAGE - 1)
        # What is still cached reads as it did; what was forgotten reads the new pages, which begin with zeros.
        lost = [place for place in places if place != 7 and not space.reaches(IOVA + place * PAGE)]
        expect(len(lost) < len(places) - 1, "an invalidation of one page drops all others of its space")
        return f"{len(lost)} of 63 other pages forgotten"


@rule(
    "INV-005",
    "Device TLBs that are invalidated by a call drop what is named; what the IOMMU caches itself is left alone.",
    source="viommu_invalidate_device_tlb, Owes (policy device_tlb_invalidation)",
    needs=(Need.VIOMMU, Need.ATS),
)
def device_tlbs_are_invalidated_by_calls(subject: Subject) -> None:
    """Have the device keep two pages, change both in secret, and drop one."""
    if not subject.driver.implements("viommu_invalidate_device_tlb"):
        raise Inapplicable("the driver does not invalidate device TLBs by a call (viommu_invalidate_device_tlb)")
    with guest(subject, policy=evolve(subject.kit.policy, device_tlb_invalidation=True)) as one:
        assert one.viommu is not None  # noqa: S101 - it needs VIOMMU
        space, endpoint = one.attached(), one.device.endpoint
        for place in range(2):
            space.tables.map(IOVA + place * PAGE, one.page())
            endpoint.translate_by_ats(IOVA + place * PAGE, pasid=space.space.pasid)
        if len(endpoint.with_ats.tlb) != 2:
            raise Inapplicable("a guest's device gets no translations by ATS here")
        cached = space.reaches(IOVA)
        space.tables.map(IOVA, one.page())
        entry = DeviceTlbEntry(one.virt_id, IOVA, IOVA + PAGE - 1, pasid=space.space.pasid)
        done = one.viommu.invalidate_device_tlbs([entry])
        expect(done == 1, f"{done} of one entry is said to be executed")
        left = len(endpoint.with_ats.tlb)
        expect(left == 1, f"{left} of 2 translations are left in the device, where one was named")
        expect(space.reaches(IOVA) == cached, "the IOMMU's own cache was emptied too")


def _cache(one: Guest, space: GuestSpace, places: Iterable[int]) -> None:
    """Map a page of its own at each place, and have the hardware translate it."""
    for place in places:
        space.tables.map(IOVA + place * PAGE, one.page())
        space.reaches(IOVA + place * PAGE)


def _told(found: int | None) -> str:
    return "nothing" if found is None else f"{found:#x}"


def _dropping(space: GuestSpace, start: int, last: int) -> str:
    return told_bytes(space.space.drop(start, last))


def told_bytes(requests: Iterable[Data]) -> str:
    """Write requests down, one a line."""
    return "\n".join(copied(request).tobytes().hex(" ") for request in requests)
