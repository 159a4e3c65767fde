"""OBJ: objects are made and destroyed in any order that the object model allows, and in no other."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from attrs import evolve
from hypothesis import strategies as st

from viommu.kernel_errors import Busy, Exists, KernelError, NotThere
from viommu.testing.rule import Inapplicable, Need, expect, refusing, rule
from viommu.testing.tables import PAGE
from viommu.testing.worlds import IOVA, guest, host

if TYPE_CHECKING:
    from viommu.api.handle import Handle
    from viommu.testing.subject import Subject
    from viommu.testing.worlds import Guest

EVERYTHING = 7
"""Objects of a guest: IOAS, parent, vIOMMU, vDEVICE, nested HWPT, device, and an event queue or a second HWPT."""


@rule(
    "OBJ-001",
    "What something stands on cannot be destroyed: EBUSY, and it works on.",
    source="iommufd object model: users of an object",
    needs=(Need.NESTING,),
)
def foundations_stay(subject: Subject) -> None:
    """Try to destroy all that is stood on, and use it afterwards."""
    with guest(subject) as one:
        space = one.attached()
        space.tables.map(IOVA, one.page())
        below: list[Handle] = [one.ioas, one.parent, space.hwpt]
        if one.viommu is not None:
            below.append(one.viommu)
        for found in below:
            with refusing(Busy):
                found.destroy()
            expect(space.reaches(IOVA) is not None, f"DMA is refused once {found!r} was asked to go")


def _order(subject: Subject) -> st.SearchStrategy[list[int]]:  # noqa: ARG001
    return st.permutations(list(range(EVERYTHING)))


@rule(
    "OBJ-002",
    "In whatever order objects are asked to go, each goes once nothing stands on it, and all go in the end.",
    source="iommufd object model; viommu_destroy, viommu_free_domain, viommu_vdevice_destroy, viommu_hw_queue_destroy",
    needs=(Need.NESTING,),
    plan=_order,
    examples=40,
)
def all_orders_end(subject: Subject, plan: list[int]) -> None:
    """Ask again and again, in one order, until none is left."""
    with guest(subject) as one:
        left = _everything(one)
        left = [left[number] for number in plan if number < len(left)]
        while left:
            remaining = [found for found in left if not _gone(found)]
            expect(len(remaining) < len(left), f"none of {remaining!r} can be destroyed")
            left = remaining
        found = list(one.host.iommu.file.context.table)
        expect(not found, f"objects are left: {', '.join(item.title for item in found)}")
        again = one.host.iommu.bind(one.device.endpoint)
        ioas = one.host.iommu.ioas_alloc()
        ioas.map(one.host.machine.buffer(PAGE), IOVA)
        again.attach(ioas)
        expect(isinstance(again.dma_read(IOVA, 8), bytes), "the device does not work any more")


def _everything(one: Guest) -> list[Handle]:
    space = one.space()
    space.attach()
    made: list[Handle] = [one.device, one.ioas, one.parent, space.hwpt]
    if one.viommu is not None:
        made.append(one.viommu)
        made += one.vdevices
    if one.viommu is not None and one.subject.nesting.events is not None:
        made.append(one.viommu.veventq_alloc(one.subject.events.type))
    return made


def _gone(found: Handle) -> bool:
    try:
        found.destroy()
    except Busy:
        return False
    except NotThere:  # a vDEVICE goes with its device
        return True
    return True


@rule(
    "OBJ-003",
    "A virtual id and a device have one vDEVICE at most on a vIOMMU; once it is gone the id may be used anew.",
    source="viommu_vdevice_init, Given; viommu_vdevice_destroy, Owes",
    needs=(Need.VIOMMU,),
)
def virtual_ids_are_apart(subject: Subject) -> None:
    """Take an id twice, and again."""
    with guest(subject) as one:
        assert one.viommu is not None  # noqa: S101 - it needs VIOMMU
        other = one.host.device(1)
        with refusing(Exists):
            one.viommu.vdevice_alloc(other, one.virt_id)
        with refusing(Exists):
            one.viommu.vdevice_alloc(one.device, one.virt_id + 1)
        one.vdevices[0].destroy()
        one.viommu.vdevice_alloc(other, one.virt_id)


@rule(
    "OBJ-004",
    "A file that is closed gives everything back: another program uses device, memory and hardware as if it was new.",
    source="iommufd release; viommu_detach, viommu_destroy, viommu_hw_queue_destroy, Owes",
    needs=(Need.NESTING,),
)
def closed_files_leave_nothing(subject: Subject) -> None:
    """Close with a guest alive and running, twice; then be another program."""
    with host(subject) as world:
        for _ in range(3):
            one = world.guest()
            space = one.attached()
            space.tables.map(IOVA, one.page())
            expect(space.reaches(IOVA) is not None, "DMA of a guest is refused")
            if subject.nesting.queues is not None:
                one.queue().close()
            endpoint = one.device.endpoint
            world.iommu.close()
            expect(not isinstance(endpoint.dma_read(IOVA, 8), bytes), "DMA goes through after the file was closed")
            world.machine.remove_device(endpoint)
            world.devices.clear()
            world.iommu = world.machine.open_iommufd()


@rule(
    "OBJ-005",
    "A device goes from a guest to its host and back, by replace, with no detach between.",
    source="viommu_attach, Given: old is what governs now",
    needs=(Need.NESTING,),
    plan=lambda subject: st.lists(st.booleans(), min_size=1, max_size=8),  # noqa: ARG005
    examples=8,
)
def devices_change_hands(subject: Subject, plan: list[bool]) -> None:
    """Replace nested by paging domains and back; the same IOVA leads elsewhere in each."""
    with guest(subject) as one:
        space, ioas = one.attached(), one.host.iommu.ioas_alloc()
        page, memory = one.page(), one.host.machine.buffer(PAGE)
        space.tables.map(IOVA, page)
        memory[:8] = 7
        ioas.map(memory, IOVA)
        hwpt = ioas.hwpt_alloc(one.device)
        for nested in plan:
            try:
                one.device.replace(space.hwpt if nested else hwpt)
            except KernelError as error:
                raise Inapplicable(f"the device cannot go from one to the other: {error}") from error
            found = one.device.dma_read(IOVA, 8, space.space.pasid if nested else None)
            wanted = page.to_bytes(8, "little") if nested else bytes([7]) * 8
            expect(found == wanted, f"DMA reads {found!r} where {'the guest' if nested else 'the host'} governs")


@rule(
    "OBJ-006",
    "A nesting parent may carry several vIOMMUs, each with what is its own.",
    source="viommu_init; viommu_destroy, Owes: what viommu_init took is free again",
    needs=(Need.VIOMMU,),
)
def parents_carry_several(subject: Subject) -> None:
    """Make and destroy some, the first of them last."""
    with guest(subject) as one:
        nesting = subject.nesting
        assert nesting.viommu is not None  # noqa: S101 - it needs VIOMMU
        space = one.attached()
        space.tables.map(IOVA, one.page())
        for _ in range(3):
            others = [one.parent.viommu_alloc(one.device, nesting.viommu, nesting.viommu_data()) for _ in range(4)]
            for other in others:
                other.destroy()
            expect(space.reaches(IOVA) is not None, "DMA is refused once other vIOMMUs on the parent went")


@rule(
    "OBJ-007",
    "A device that was reset is attached as before, and its own TLB counts as empty.",
    source="viommu_reset, Owes",
    needs=(Need.NESTING,),
)
def resets_keep_attachments(subject: Subject) -> None:
    """Reset it while a guest's table governs it."""
    with guest(subject) as one:
        space = one.attached()
        space.tables.map(IOVA, one.page())
        before = space.reaches(IOVA)
        for _ in range(3):
            one.device.endpoint.reset()
            found = space.reaches(IOVA)
            expect(found == before, f"after a reset DMA reaches {found!r}, before it did {before!r}")
        space.tables.unmap(IOVA)
        space.drop()
        expect(space.reaches(IOVA) is None, "after a reset, invalidations have no effect")


@rule(
    "OBJ-008",
    "An empty vIOMMU that is given its stage 2 later is as one that was made on it.",
    source="viommu_set_stage2, Owes (policy late_stage2)",
    needs=(Need.VIOMMU,),
)
def stage_2_may_come_later(subject: Subject) -> None:
    """Make the vIOMMU and its vDEVICE first."""
    if not subject.driver.implements("viommu_set_stage2"):
        raise Inapplicable("the driver's vIOMMUs take their stage 2 when they are made (viommu_set_stage2)")
    nesting = subject.nesting
    assert nesting.viommu is not None  # noqa: S101 - it needs VIOMMU
    with host(subject, policy=evolve(subject.kit.policy, late_stage2=True)) as world:
        device = world.device()
        viommu = world.iommu.viommu_alloc(device, nesting.viommu, nesting.viommu_data())
        viommu.vdevice_alloc(device, subject.kit.virtual_ids[0])
        one = world.guest(on=viommu)
        with refusing(Exists):
            viommu.set_stage2(one.parent)
        space = one.attached()
        space.tables.map(IOVA, one.page())
        space.reaches(IOVA)
        page = one.page()
        space.tables.map(IOVA, page)
        space.drop(IOVA, IOVA + PAGE - 1)
        works = space.reaches(IOVA) == page
        expect(works, "DMA, or an invalidation, does not work", walk=partial(space.explained, IOVA))
        with refusing(Busy):
            one.parent.destroy()
