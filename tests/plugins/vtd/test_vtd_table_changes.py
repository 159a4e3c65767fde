"""Each change of a table and what caches are told of it: all of it is needed, and nothing is missing.

What has to be told is the specification's list (6.5.3.3, the pairs of changes and invalidations). That it is needed is
shown by keeping one descriptor back: the sanitizer then sees a use of something stale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from attrs import define, field, frozen

from tests.plugins.vtd.guest import BASE, GUEST_SIZE, Guest
from tests.plugins.vtd.program import PAGE, RID, Program, entry
from viommu.faults import Access
from viommu.iommufd import uapi
from viommu_vtd.hardware.live.register_map import FULL_CAP, FULL_ECAP
from viommu_vtd.host.queue import InvalidationQueue
from viommu_vtd.spec.commands import (
    ContextCacheInvalidate,
    DeviceTlbInvalidate,
    IotlbInvalidate,
    PasidCacheInvalidate,
    PasidDeviceTlbInvalidate,
    PasidIotlbInvalidate,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from viommu.devices import Device as Endpoint
    from viommu.layout import Descriptor
    from viommu.objects.device import Device
    from viommu_vtd.host.device import HostDevice
    from viommu_vtd.spec.registers import ECAP

IOVA, PASID = 0x40_0000, 5
FAR = BASE + GUEST_SIZE
NO_FLAGS, DIRTY, WITH_PASID = uapi.HwptFlags(0), uapi.HwptFlags.DIRTY_TRACKING, uapi.HwptFlags.PASID
"""A HWPT with `DIRTY` has second stage, one without first stage, where there is one."""
LEGACY = FULL_ECAP.replace(SMTS=0)

WORDS: dict[type[Descriptor], dict[int, str]] = {
    ContextCacheInvalidate: {3: "context of device"},
    PasidCacheInvalidate: {1: "PASID entry"},
    IotlbInvalidate: {2: "IOTLB of domain", 3: "IOTLB pages"},
    PasidIotlbInvalidate: {2: "IOTLB of PASID", 3: "IOTLB pages of PASID"},
}
"""What a descriptor drops, by its layout and granularity."""


def word(descriptor: Descriptor) -> str:
    if isinstance(descriptor, DeviceTlbInvalidate | PasidDeviceTlbInvalidate):
        return "device TLB"
    assert isinstance(
        descriptor, ContextCacheInvalidate | PasidCacheInvalidate | IotlbInvalidate | PasidIotlbInvalidate
    )
    return WORDS[type(descriptor)][int(descriptor.G)]


@define(eq=False)
class World:
    """A program with a device that has a TLB of its own, attached to something that maps `IOVA`."""

    program: Program
    host: HostDevice
    device: Device
    tlb: Endpoint
    ioas: int
    hwpt: int = 0
    guest: Guest | None = None
    pasid: int = 0
    told: list[str] = field(factory=list)

    @classmethod
    def make(cls, ecap: ECAP = FULL_ECAP) -> World:
        program = Program.make(FULL_CAP, ecap)
        host = program.host.device(RID, ats=True, pasids=1 << 20)
        device, ioas = program.bind(host), program.ioas()
        program.map(ioas, IOVA, program.buffer())
        return cls(program, host, device, program.host.machine.device(RID), ioas)

    def attach(self, flags: uapi.HwptFlags = NO_FLAGS, pasid: int = 0) -> World:
        self.pasid = pasid
        self.hwpt = self.program.hwpt(self.device, self.ioas, flags | (WITH_PASID if pasid else NO_FLAGS))
        self.device.attach(self.hwpt, pasid)
        return self

    def nest(self) -> World:
        """Attach a guest's table, whose page lies where the host may move it."""
        self.guest = Guest.make(self.program, self.device, WITH_PASID)
        self.program.map(self.guest.ioas, FAR, self.program.buffer())
        self.guest.store(self.guest.leaf(IOVA), FAR | 0x67)
        self.hwpt = self.program.nested(self.device, self.guest.parent, self.guest.root)
        self.device.attach(self.hwpt)
        return self

    def use(self) -> None:
        """Access the page in every way: what caches hold of it is used."""
        for access in (Access.READ, Access.WRITE):
            self.program.host.machine.translate(RID, IOVA, access, self.pasid or None)
        self.tlb.translate(IOVA, Access.READ, self.pasid or None)

    def use_what_comes_next(self) -> None:
        """Use it as it is now, and with domains of either stage that take its place: they get the same DID."""
        self.use()
        if RID not in self.host.unit.devices:
            return
        has_both = self.host.unit.able.scalable and not self.pasid
        for flags in (NO_FLAGS, DIRTY) if has_both else (NO_FLAGS,):
            self.device.detach(self.pasid)
            self.ioas = self.program.ioas()
            self.program.map(self.ioas, IOVA, self.program.buffer())
            self.attach(flags, self.pasid)
            self.use()

    @property
    def stale(self) -> int:
        sanitizer = self.program.host.machine.sanitizer
        assert sanitizer is not None
        return len(sanitizer.reports)

    @property
    def in_vain(self) -> int:
        sanitizer = self.program.host.machine.sanitizer
        assert sanitizer is not None
        return sanitizer.counts()["removed_nothing"]


@frozen
class Change:
    """A change, and what caches have to be told of it, in this order.

    ``unseen``: of these the sanitizer cannot show the need. They are about flags of which translation knows nothing, or
    about a cache that hardware may have and this one has not. ``in_vain``: parts of them that removed nothing.
    """

    world: Callable[[], World]
    act: Callable[[World], object]
    told: tuple[str, ...]
    unseen: tuple[str, ...] = ()
    in_vain: int = 0


def unmap(world: World) -> None:
    world.program.unmap(world.ioas, IOVA, PAGE)


def move(world: World) -> None:
    """The host takes the guest's page away."""
    assert world.guest is not None
    world.program.unmap(world.guest.ioas, FAR, PAGE)


def change_leaf(world: World) -> None:
    """The guest has its leaf lead elsewhere, and says so."""
    assert world.guest is not None
    world.guest.map(IOVA, b"new")
    world.program.must(world.program.invalidate_command(world.hwpt, entry(IOVA, 1, 1)))


def change_table(world: World) -> None:
    """The guest changes anything, and has everything dropped."""
    assert world.guest is not None
    world.guest.map(IOVA, b"new")
    world.program.must(world.program.invalidate_command(world.hwpt, entry()))


def detach(world: World) -> None:
    world.device.detach(world.pasid)


def replace(world: World) -> None:
    ioas = world.program.ioas()
    world.program.map(ioas, IOVA, world.program.buffer())
    world.device.replace(world.program.hwpt(world.device, ioas), world.pasid)


def release(world: World) -> None:
    """The device goes; nothing is attached any more."""
    world.host.release()


def track(world: World) -> None:
    world.program.must(uapi.HwptSetDirtyTracking.of(flags=1, hwpt_id=world.hwpt))


def tracked() -> World:
    """Writes are noted, and the page was written to."""
    world = World.make().attach(DIRTY)
    track(world)
    return world


def clear_dirty(world: World) -> None:
    out = world.program.buffer()
    command = uapi.HwptGetDirtyBitmap.of(hwpt_id=world.hwpt, iova=IOVA, length=PAGE, page_size=PAGE, data=out.address)
    world.program.must(command)
    assert out.pages[0] == 1


def snoop(world: World) -> None:
    (domain,) = world.host.attached.values()
    assert domain.enforce_coherency()  # type: ignore[attr-defined] # a paging domain


FIRST_STAGE_GOES = ("PASID entry", "IOTLB of PASID", "device TLB")
SECOND_STAGE_GOES = ("PASID entry", "IOTLB of domain", "device TLB")

CHANGES = {
    "a page of first stage is unmapped": Change(
        lambda: World.make().attach(), unmap, ("IOTLB pages of PASID", "device TLB")
    ),
    "a page of a PASID's first stage is unmapped": Change(
        lambda: World.make().attach(pasid=PASID), unmap, ("IOTLB pages of PASID", "device TLB")
    ),
    "a page of second stage is unmapped": Change(
        lambda: World.make().attach(DIRTY), unmap, ("IOTLB pages", "device TLB")
    ),
    "a page of legacy mode is unmapped": Change(
        lambda: World.make(LEGACY).attach(), unmap, ("IOTLB pages", "device TLB")
    ),
    # Pages of second stage, and all that is nested on them: two things to the engine, and nothing is cached of one.
    "a page under a guest is unmapped": Change(
        lambda: World.make().nest(), move, ("IOTLB pages", "device TLB"), in_vain=1
    ),
    "a guest's leaf changes": Change(lambda: World.make().nest(), change_leaf, ("IOTLB pages of PASID", "device TLB")),
    "a guest's tables change": Change(lambda: World.make().nest(), change_table, ("IOTLB of PASID", "device TLB")),
    "first stage is detached": Change(lambda: World.make().attach(), detach, FIRST_STAGE_GOES),
    "a PASID is detached": Change(lambda: World.make().attach(pasid=PASID), detach, FIRST_STAGE_GOES),
    "second stage is detached": Change(lambda: World.make().attach(DIRTY), detach, SECOND_STAGE_GOES),
    "a guest's table is detached": Change(lambda: World.make().nest(), detach, SECOND_STAGE_GOES),
    "first stage is replaced": Change(lambda: World.make().attach(), replace, FIRST_STAGE_GOES),
    "second stage is replaced by first": Change(lambda: World.make().attach(DIRTY), replace, SECOND_STAGE_GOES),
    "legacy mode is detached": Change(
        lambda: World.make(LEGACY).attach(), detach, ("context of device", "IOTLB of domain", "device TLB")
    ),
    "the device goes": Change(
        World.make, release, ("context of device", "device TLB"), ("context of device", "device TLB")
    ),
    "writes are noted from now on": Change(
        lambda: World.make().attach(DIRTY), track, SECOND_STAGE_GOES, ("IOTLB of domain", "device TLB")
    ),
    "what was written is forgotten": Change(
        tracked, clear_dirty, ("IOTLB pages", "device TLB"), ("IOTLB pages", "device TLB")
    ),
    "all DMA snoops from now on": Change(
        lambda: World.make().attach(),
        snoop,
        FIRST_STAGE_GOES,
        FIRST_STAGE_GOES,
    ),
    "a page is mapped": Change(
        lambda: World.make().attach(), lambda world: world.program.map(world.ioas, FAR, world.program.buffer()), ()
    ),
}


def run(change: Change, patch: pytest.MonkeyPatch, withheld: int | None = None) -> World:
    """Make a change while everything is cached; keep one descriptor back."""
    world = change.world()
    world.use()
    submit = InvalidationQueue.submit

    def listen(queue: InvalidationQueue, descriptors: Sequence[Descriptor], *, drain: bool = False) -> object:
        first = len(world.told)
        world.told += [word(one) for one in descriptors]
        kept = [one for index, one in enumerate(descriptors, first) if index != withheld]
        return submit(queue, kept, drain=drain)

    with patch.context() as within:
        within.setattr(InvalidationQueue, "submit", listen)
        change.act(world)
    return world


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_told_as_the_specification_asks_and_nothing_stale_is_used(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = CHANGES[name]
    world = run(change, monkeypatch)
    assert tuple(world.told) == change.told
    world.use_what_comes_next()
    assert not world.stale


@pytest.mark.parametrize("name", [name for name, change in CHANGES.items() if set(change.told) - set(change.unseen)])
def test_nothing_that_is_told_removes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before: list[int] = []
    change = CHANGES[name]

    def act(world: World) -> None:
        before.append(world.in_vain)
        change.act(world)

    world = run(Change(change.world, act, change.told), monkeypatch)
    assert world.in_vain - before[0] == change.in_vain


NEEDED = [
    pytest.param(name, index, id=f"{name}, without: {told}")
    for name, change in CHANGES.items()
    for index, told in enumerate(change.told)
    if told not in change.unseen
]


@pytest.mark.parametrize(("name", "index"), NEEDED)
def test_without_any_one_of_them_something_stale_is_used(
    name: str, index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = run(CHANGES[name], monkeypatch, withheld=index)
    world.use_what_comes_next()
    assert world.stale
