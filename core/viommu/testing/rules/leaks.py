"""LEK: nothing is left of what is given back, nor of what could not be made."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from attrs import define

from viommu.failure import fail_nth
from viommu.kernel_errors import KernelError
from viommu.testing.measure import Kept
from viommu.testing.rule import Need, expect, rule
from viommu.testing.tables import PAGE
from viommu.testing.worlds import IOVA, guest, host

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from viommu.api.device import Device
    from viommu.api.hwpt import Hwpt
    from viommu.api.ioas import Ioas
    from viommu.testing.subject import Subject
    from viommu.testing.worlds import Guest, Host

CYCLES = 6
POINTS = 80
"""Failure points that are tried of one call, at most."""

Undo: TypeAlias = "Callable[[], object]"
Act: TypeAlias = "Callable[[], Undo]"


@rule(
    "LEK-001",
    "Devices, domains and mappings that come and go leave no frame, no id and no entry behind.",
    source="viommu_free_domain, viommu_detach, viommu_release_device, Owes",
    needs=(Need.HOST,),
)
def hosts_leave_nothing(subject: Subject) -> None:
    """Go through a device's life again and again."""
    with host(subject) as world:
        memory, far, kept = world.machine.buffer(PAGE * 4), subject.room.far, []
        for _ in range(CYCLES):
            device = world.device()
            ioas = world.iommu.ioas_alloc()
            ioas.map(memory, world.base)
            hwpts = [ioas.hwpt_alloc(device) for _ in range(2)]
            device.attach(hwpts[0])
            device.dma_write(world.base, b"x")
            device.replace(hwpts[1])
            device.translate(far)
            ioas.unmap_all()
            ioas.map(memory, far)
            if subject.has(Need.PASIDS):
                shared = ioas.hwpt_alloc(device, pasid=True)
                with suppress(KernelError):
                    device.detach()
                    device.attach(shared, pasid=3)
                device.detach(pasid=3)
                shared.destroy()
            endpoint = device.endpoint
            device.destroy()
            for hwpt in hwpts:
                hwpt.destroy()
            ioas.destroy()
            world.machine.remove_device(endpoint)
            world.devices.clear()
            kept.append(Kept.of(world))
        _expect_level(kept)


def _expect_level(kept: list[Kept]) -> None:
    """The first rounds may make what stays: tables on the way to an entry."""
    grown = kept[-1].grown(kept[2])
    expect(
        not grown,
        f"after {len(kept)} equal rounds there are {', '.join(grown)} than after 3",
        rounds="\n".join(map(repr, kept)),
    )


@rule(
    "LEK-002",
    "Guests that come and go leave no frame, no id and no entry behind.",
    source="viommu_destroy, viommu_vdevice_destroy, viommu_hw_queue_destroy, viommu_free_domain, Owes",
    needs=(Need.NESTING,),
)
def guests_leave_nothing(subject: Subject) -> None:
    """Go through a guest's life again and again, its device staying."""
    with host(subject) as world:
        kept = []
        for _ in range(CYCLES):
            one = world.guest()
            space = one.attached()
            space.tables.map(IOVA, one.page())
            space.reaches(IOVA)
            second = one.space()
            second.attach()
            if subject.nesting.queues is not None:
                queue = one.queue()
                for index, command in enumerate(queue.drop(space.space, IOVA, IOVA + PAGE - 1)):
                    queue.write(index, command)
                queue.ring(1)
                queue.close()
            one.end()
            kept.append(Kept.of(world))
        _expect_level(kept)


@define(eq=False)
class HostCalls:
    """Calls of a host that make something, each with what undoes it."""

    world: Host
    device: Device
    ioas: Ioas
    hwpt: Hwpt
    """A page table that governs nothing."""
    spare: NDArray[np.uint8]

    def listed(self) -> dict[str, Act]:
        """Give them by name."""
        return {
            "HWPT_ALLOC, paging": self.paging,
            "attach, paging": self.attach_paging,
            "IOAS_MAP": self.map,
            "add_device": self.add_device,
        }

    def paging(self) -> Undo:
        """Make a page table of what is mapped."""
        return self.ioas.hwpt_alloc(self.device).destroy

    def attach_paging(self) -> Undo:
        """Let a page table govern the device, which nothing governs."""
        self.device.attach(self.hwpt)
        return self.device.detach

    def map(self) -> Undo:
        """Map where no table has been made yet."""
        room = self.world.subject.room
        half = max(last for _, last in room.ranges) // 2 & -PAGE
        far = half if room.holds(half, PAGE) and half != room.base else room.far
        self.ioas.map(self.spare, far)
        return lambda: self.ioas.unmap(far, PAGE)

    def add_device(self) -> Undo:
        """Put the second device into the machine."""
        made = self.world.subject.plug(self.world.machine, 1)
        return lambda: self.world.machine.remove_device(made)


@define(eq=False)
class GuestCalls:
    """Calls for a guest that make something, each with what undoes it. Some stand on what others have made."""

    one: Guest

    def listed(self) -> dict[str, Act]:
        """Give them by name."""
        one, found = self.one, {"HWPT_ALLOC, nested": self.nested, "attach, nested": self.attach_nested}
        if one.viommu is not None:
            found |= {"VIOMMU_ALLOC": self.viommu, "VDEVICE_ALLOC": self.vdevice}
            if one.subject.nesting.queues is not None:
                found["HW_QUEUE_ALLOC"] = self.queue
        return found

    def nested(self) -> Undo:
        """Make a nested HWPT of the space that is there."""
        space = self.one.spaces[0].space
        below = self.one.parent if self.one.viommu is None else self.one.viommu
        return below.hwpt_alloc(self.one.device, space.data, data_type=space.data_type).destroy

    def attach_nested(self) -> Undo:
        """Let a guest's table govern the device, which nothing governs."""
        self.one.device.attach(self.one.spaces[0].hwpt)
        return self.one.device.detach

    def viommu(self) -> Undo:
        """Make another vIOMMU."""
        nesting = self.one.subject.nesting
        assert nesting.viommu is not None  # noqa: S101 - listed only then
        return self.one.parent.viommu_alloc(self.one.device, nesting.viommu, nesting.viommu_data()).destroy

    def vdevice(self) -> Undo:
        """Let the guest know the device anew: its vDEVICE has gone for this."""
        assert self.one.viommu is not None  # noqa: S101
        if self.one.vdevices:
            self.one.vdevices.pop().destroy()
        return self.one.viommu.vdevice_alloc(self.one.device, self.one.virt_id).destroy

    def queue(self) -> Undo:
        """Give the guest a queue."""
        viommu, queues = self.one.viommu, self.one.subject.queues
        assert viommu is not None  # noqa: S101
        return viommu.hw_queue_alloc(queues.type, 0, self.one.kept[0], queues.length, by_iova=queues.by_iova).destroy


@rule(
    "LEK-003",
    "A call for a guest that fails for want of memory, at whatever point, leaves everything as it was, and works the "
    "next time.",
    source="hookspecs: all or nothing; iommufd: a failure before an id is published leaves nothing",
    needs=(Need.NESTING,),
)
def failures_for_guests_leave_nothing(subject: Subject) -> str:
    """Let the first, second, ... n-th allocation of each call fail."""
    with guest(subject) as one:
        if subject.nesting.queues is not None:
            one.kept.append(one.take(-(-subject.queues.length // PAGE)))
        one.space()
        return _failing(one.host, GuestCalls(one).listed())


@rule(
    "LEK-004",
    "A call of a host that fails for want of memory, at whatever point, leaves everything as it was, and works the "
    "next time.",
    source="hookspecs: all or nothing; PagingDomain.map: and then nothing of it is mapped",
    needs=(Need.HOST,),
)
def failures_leave_nothing(subject: Subject) -> str:
    """Let the first, second, ... n-th allocation of each call fail."""
    with host(subject) as world:
        device, ioas = world.device(), world.iommu.ioas_alloc()
        ioas.map(world.machine.buffer(PAGE), world.base)
        calls = HostCalls(world, device, ioas, ioas.hwpt_alloc(device), world.machine.buffer(PAGE))
        return _failing(world, calls.listed())


def _failing(world: Host, calls: dict[str, Act]) -> str:
    tried = 0
    for name, act in calls.items():
        act()()  # what stays for good, such as tables on the way to an entry, is made now
        act()()
        tried += _fail(world, name, act)
    return f"{tried} failures"


def _fail(world: Host, name: str, act: Act) -> int:
    before = Kept.of(world)
    for nth in range(1, POINTS):
        with fail_nth(nth) as injection:
            try:
                undo: Undo | None = act()
            except KernelError:
                undo = None
        if undo is not None:
            undo()
        grown = Kept.of(world).grown(before)
        expect(not grown, f"{name} that failed at its allocation number {nth} leaves {', '.join(grown)} than before")
        if not injection.happened:
            return nth - 1
    return POINTS
