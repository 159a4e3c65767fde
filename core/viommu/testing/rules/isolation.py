"""ISO: two guests on one IOMMU, and one of them does what it can: the other does not notice."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from attrs import define
from hypothesis import strategies as st

from viommu.api.buffers import copied
from viommu.iommufd.uapi_types import INVALIDATE_TYPES, type_of
from viommu.kernel_errors import KernelError
from viommu.testing.rule import Inapplicable, Level, Need, expect, rule
from viommu.testing.tables import PAGE
from viommu.testing.worlds import IOVA, host

if TYPE_CHECKING:
    from viommu.testing.subject import Subject
    from viommu.testing.worlds import Guest, GuestSpace, Host

PLACES = 6


@define(eq=False)
class Two:
    """Two guests with the same IOVAs and numbers, each with pages of its own."""

    ours: Guest
    theirs: Guest
    spaces: tuple[GuestSpace, GuestSpace]

    @classmethod
    def of(cls, world: Host, *, alike: bool = True) -> Two:
        """Make them: what guests choose themselves, both choose the same; if ``alike``, virtual ids of devices too."""
        ours = world.guest(0)
        theirs = world.guest(1, virt_id=ours.virt_id if alike else None)
        spaces = (ours.attached(), theirs.attached())
        for one, space in zip((ours, theirs), spaces, strict=True):
            one.take(1 + one.number)  # so that equal places are not equal pages
            for place in range(PLACES):
                space.tables.map(IOVA + place * PAGE, one.page())
        made = cls(ours, theirs, spaces)
        made.check("at the beginning")
        return made

    def check(self, when: str) -> None:
        """Expect that each guest's device reaches that guest's pages."""
        for one, space in zip((self.ours, self.theirs), self.spaces, strict=True):
            for place in range(PLACES):
                iova = IOVA + place * PAGE
                leaf, found = space.tables.walk(iova), space.reaches(iova)
                expect(
                    leaf is not None and found == leaf.address,
                    f"{when}: the device of guest {one.number} reaches {found!r} at IOVA {iova:#x}, where its table "
                    f"leads to {leaf!r}",
                    walk=partial(space.explained, iova),
                )


@rule(
    "ISO-001",
    "Guests that choose the same numbers, IOVAs and addresses have nothing in common.",
    source="vIOMMU: tags of a guest are its own",
    needs=(Need.NESTING,),
    plan=lambda subject: st.lists(  # noqa: ARG005
        st.tuples(st.integers(0, 1), st.integers(0, PLACES - 1), st.booleans()), max_size=10
    ),
    examples=30,
)
def equal_numbers_are_apart(subject: Subject, plan: list[tuple[int, int, bool]]) -> None:
    """Remap and invalidate in one, and look at both."""
    with host(subject) as world:
        two = Two.of(world)
        for which, place, whole in plan:
            space, iova = two.spaces[which], IOVA + place * PAGE
            space.tables.map(iova, space.guest.page())
            space.drop() if whole else space.drop(iova, iova + PAGE - 1)
            two.check(f"guest {which} remapped page {place}")


@rule(
    "ISO-002",
    "What a guest invalidates costs its neighbours nothing.",
    source="viommu_invalidate; IOTLB tags",
    needs=(Need.NESTING, Need.REQUESTS),
    level=Level.SHOULD,
)
def neighbours_keep_their_cache(subject: Subject) -> str:
    """Change a neighbour's table in secret, and let a guest invalidate everything of its own."""
    with host(subject) as world:
        two = Two.of(world)
        _, space = two.spaces
        cached = [space.reaches(IOVA + place * PAGE) for place in range(PLACES)]
        for place in range(PLACES):
            space.tables.map(IOVA + place * PAGE, two.theirs.page())
        two.spaces[0].drop()
        lost = [place for place in range(PLACES) if space.reaches(IOVA + place * PAGE) != cached[place]]
        expect(not lost, f"{len(lost)} of {PLACES} cached pages of a neighbour are forgotten")
        return "nothing of a neighbour forgotten"


@rule(
    "ISO-003",
    "A guest hears of its own devices' refused accesses, and of nobody else's.",
    source="report_event: whose device it is",
    needs=(Need.NESTING, Need.EVENTS),
)
def events_go_to_their_guest(subject: Subject) -> None:
    """Send accesses of both devices by turns."""
    with host(subject) as world:
        two = Two.of(world)
        queues = []
        for one in (two.ours, two.theirs):
            assert one.viommu is not None  # noqa: S101 - events are of vIOMMUs
            queues.append(one.viommu.veventq_alloc(subject.events.type))
        for number in range(6):
            space = two.spaces[number % 2]
            space.guest.device.translate(IOVA + (PLACES + number) * PAGE, pasid=space.space.pasid)
        for one, queue in zip((two.ours, two.theirs), queues, strict=True):
            told = [subject.events.told(event.data) for event in queue.read()]
            named = [None if iova is None else (iova - IOVA) // PAGE - PLACES for _, iova in told]
            expect(
                len(told) == 3 and all(place is None or place % 2 == one.number for place in named),
                f"guest {one.number} is told of accesses {named}, where the others are its neighbour's",
            )
            expect(all(who == one.virt_id for who, _ in told), f"it is told of devices {[hex(who) for who, _ in told]}")


@rule(
    "ISO-004",
    "A guest empties the TLB of a device that it has, and of no other, by whatever id it names it.",
    source="viommu_invalidate: device TLBs; vDEVICE: virtual ids",
    needs=(Need.NESTING, Need.REQUESTS, Need.ATS),
)
def device_tlbs_are_their_guests(subject: Subject) -> None:
    """Name both devices by virtual and by real ids."""
    if subject.nesting.drop_device(0) is None:
        raise Inapplicable("the driver's format has no request that empties a device's TLB (Nesting.drop_device)")
    with host(subject) as world:
        two = Two.of(world, alike=False)
        kept = []
        for one, space in zip((two.ours, two.theirs), two.spaces, strict=True):
            endpoint = one.device.endpoint
            endpoint.translate_by_ats(IOVA, pasid=space.space.pasid)
            kept.append(endpoint.with_ats.tlb)
        if not all(len(tlb) for tlb in kept):
            raise Inapplicable("a guest's device gets no translations by ATS here")
        known = {*subject.kit.virtual_ids[1:], *subject.requesters, 0} - {two.ours.virt_id}
        for name in sorted(known):
            _drop_device(two, name)
            expect(len(kept[1]), f"a guest that names a device {name:#x} empties the TLB of its neighbour's")
        _drop_device(two, two.ours.virt_id)
        expect(not len(kept[0]), "a guest's request leaves the TLB of its own device full")
        expect(len(kept[1]), "a guest that names its own device empties the TLB of its neighbour's")


def _drop_device(two: Two, name: int) -> None:
    request = two.ours.subject.nesting.drop_device(name)
    target = two.spaces[0].hwpt if two.ours.viommu is None else two.ours.viommu
    assert request is not None  # noqa: S101 - the rule has asked
    try:
        target.invalidate([request], data_type=two.spaces[0].space.request_type)
    except KernelError:
        return


@rule(
    "ISO-005",
    "Whatever bytes a guest gives as requests, its neighbour and its host go on as they were.",
    source="viommu_invalidate, Given: requests are the guest's own bytes",
    needs=(Need.NESTING, Need.REQUESTS),
    plan=lambda subject: st.lists(  # noqa: ARG005
        st.tuples(st.binary(min_size=32, max_size=32), st.integers(0, 1 << 32)), min_size=1, max_size=12
    ),
    examples=40,
)
def hostile_requests_stay_at_home(subject: Subject, plan: list[tuple[bytes, int]]) -> None:
    """Give bytes at random, and requests that were changed in one place."""
    with host(subject) as world:
        two = Two.of(world)
        space = two.spaces[0]
        sample = space.space.drop(IOVA, IOVA + PAGE - 1)
        for raw, bits in plan:
            request = copied(sample[0])
            data = request.tobytes()
            changed = bytearray((raw * (len(data) // 32 + 1))[: len(data)] if bits & 1 else data)
            changed[(bits >> 1) % len(changed)] ^= 1 << (bits >> 9) % 8
            target = space.hwpt if two.ours.viommu is None else two.ours.viommu
            try:
                target.invalidate([bytes(changed)], data_type=_kind(space))
            except KernelError as error:
                expect(error.done in {0, None}, f"{error.done} of one refused request is said to be executed: {error}")
        two.check("after hostile requests")


def _kind(space: GuestSpace) -> int:
    return type_of(space.space.drop(IOVA, IOVA + PAGE - 1)[0], INVALIDATE_TYPES, space.space.request_type)
