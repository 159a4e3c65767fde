"""PAG: paging domains through an IOAS, held against plain dicts of pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen
from hypothesis import strategies as st

from viommu.faults import Access
from viommu.kernel_errors import KernelError
from viommu.testing.history import LARGE_PAGES, SPAN, Govern, History, Map, Step, Unmap
from viommu.testing.rule import Inapplicable, Need, expect, rule
from viommu.testing.tables import PAGE
from viommu.testing.worlds import host

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from viommu.api.ioas import Ioas
    from viommu.testing.subject import Subject
    from viommu.testing.worlds import Host


def _steps(pasids: tuple[int, ...]) -> st.SearchStrategy[list[Step]]:
    place = st.integers(0, SPAN - 1)
    small = st.builds(
        Map, st.integers(0, 1), place, st.sampled_from([1, 2, 3, 8]), st.integers(0, LARGE_PAGES), st.booleans()
    )
    large = st.builds(
        Map,
        st.integers(0, 1),
        st.sampled_from(range(0, SPAN, LARGE_PAGES)),
        st.just(LARGE_PAGES),
        st.sampled_from([0, LARGE_PAGES, 1]),
        st.booleans(),
    )
    governs = st.builds(Govern, st.sampled_from(pasids), st.sampled_from([0, 1, 0, 1, None]))
    return st.lists(st.one_of(small, small, large, st.builds(Unmap, st.integers(0, 1), place), governs), max_size=14)


@rule(
    "PAG-001",
    "DMA goes where the IOAS maps that governs it, with the rights of that, and nowhere else.",
    source="viommu_attach, PagingDomain.map and unmap",
    needs=(Need.HOST,),
    plan=lambda subject: _steps((0,)),  # noqa: ARG005
    examples=30,
)
def spaces_are_followed(subject: Subject, plan: list[Step]) -> None:
    """Map, unmap, attach, replace and detach; look after each step."""
    with host(subject) as world:
        history = History.of(world, pasid=False)
        history.govern(Govern(0, 0))
        history.run(plan)


@rule(
    "PAG-002",
    "Each PASID is governed by what is attached to it, whatever governs others.",
    source="viommu_attach: pasid",
    needs=(Need.HOST, Need.PASIDS),
    plan=lambda subject: _steps((0, 1, 5)),  # noqa: ARG005
    examples=20,
)
def pasids_are_apart(subject: Subject, plan: list[Step]) -> None:
    """The same history, of requests with and without PASIDs."""
    with host(subject) as world:
        history = History.of(world, pasid=True)
        history.govern(Govern(0, 0))
        history.govern(Govern(5, 1))
        history.run(plan)


@rule(
    "PAG-003",
    "A device reaches nothing before it is attached, after it is detached, and after it is given back.",
    source="viommu_probe_device, viommu_detach, Owes",
    needs=(Need.HOST,),
)
def blocked_devices_reach_nothing(subject: Subject) -> None:
    """Look at each moment."""
    with host(subject) as world:
        history = History.of(world, pasid=False)
        history.map(Map(0, 0, 4, 0, write=True))
        history.look("before attach")
        for finally_given_back in (False, True):
            history.govern(Govern(0, 0))
            history.look("attached")
            device = world.device()
            device.destroy() if finally_given_back else device.detach()
            history.governed.clear()
            history.look("after detach, or when it was given back")


@frozen
class Many:
    """How many pages are changed in each round."""

    rounds: tuple[int, ...]


@rule(
    "PAG-004",
    "However many pages are unmapped, in whatever batches, none of them is reached any more.",
    source="PagingDomain.unmap: no translation of it stays cached; the host's own command queue wraps on the way",
    needs=(Need.HOST,),
    plan=lambda subject: st.lists(st.integers(1, 40), min_size=4, max_size=12).map(lambda made: Many(tuple(made))),  # noqa: ARG005
    examples=2,
)
def many_unmaps_are_told(subject: Subject, plan: Many) -> str:
    """Map, use and unmap pages until the host has given thousands of commands."""
    with host(subject) as world:
        ioas, device = world.iommu.ioas_alloc(), world.device()
        device.attach(ioas.hwpt_alloc(device))
        memory, done = world.machine.buffer(PAGE * 40), 0
        while done < 2500:
            for count in plan.rounds:
                for page in range(count):
                    ioas.map(memory[page * PAGE : (page + 1) * PAGE], world.base + page * PAGE)
                world.machine.translate_many(device.endpoint.requester, *_pages(world.base, count))
                for page in range(count):
                    ioas.unmap(world.base + page * PAGE, PAGE)
                found = world.machine.translate_many(device.endpoint.requester, *_pages(world.base, count))
                expect(
                    found.fault_count == count,
                    f"{count - found.fault_count} of {count} pages are reached after they were unmapped, "
                    f"{done} unmaps after the start",
                )
                done += count
        return f"{sum(world.machine.command_counts.values())} commands given"


def _pages(base: int, count: int) -> tuple[list[int], list[int]]:
    return [base + page * PAGE for page in range(count)], [int(Access.READ)] * count


@rule(
    "PAG-005",
    "Nothing is mapped outside the aperture, in reserved regions, or off the alignment that the page table asks for.",
    source="PagingDomain: page_sizes, aperture; viommu_reserved_regions",
    needs=(Need.HOST,),
)
def bounds_hold(subject: Subject) -> None:
    """Try the places around each bound."""
    with host(subject) as world:
        ioas, device, memory = world.iommu.ioas_alloc(), world.device(), world.machine.buffer(PAGE)
        device.attach(ioas.hwpt_alloc(device))
        allowed = ioas.ranges()
        for region in subject.driver.ask("viommu_reserved_regions", device=device.endpoint.physical) or ():
            inside = [f"{first:#x}" for first, last in allowed if first <= region.last and last >= region.start]
            expect(not inside, f"IOVAs of {region!r} are said to be free", ranges=lambda: _told(allowed))
            expect(_refused(ioas, memory, region.start & -PAGE), f"{region.start:#x} is mapped, which is reserved")
        last = max(end for _, end in allowed)
        if last < (1 << 64) - 1:
            expect(_refused(ioas, memory, last + 1 & -PAGE), f"{last + 1:#x} is mapped, beyond the aperture")
        expect(not _refused(ioas, memory, last + 1 - PAGE), f"the last page, {last + 1 - PAGE:#x}, cannot be mapped")
        expect(_refused(ioas, memory, world.base + ioas.alignment // 2), "an IOVA off the alignment is mapped")


def _told(ranges: list[tuple[int, int]]) -> str:
    return "\n".join(f"{first:#x} to {last:#x}" for first, last in ranges)


def _refused(ioas: Ioas, memory: NDArray[np.uint8], iova: int) -> bool:
    try:
        ioas.map(memory, iova)
    except KernelError:
        return True
    ioas.unmap(iova, PAGE)
    return False


@rule(
    "PAG-006",
    "One page table may govern two devices, and a change of it reaches both.",
    source="viommu_attach; PagingDomain.unmap",
    needs=(Need.HOST,),
    plan=lambda subject: st.lists(st.integers(0, 7), min_size=1, max_size=8),  # noqa: ARG005
    examples=8,
)
def tables_are_shared(subject: Subject, plan: list[int]) -> None:
    """Attach both, and unmap what both have used."""
    with host(subject) as world:
        ioas, devices = world.iommu.ioas_alloc(), [world.device(0), world.device(1)]
        hwpt = ioas.hwpt_alloc(devices[0])
        for device in devices:
            try:
                device.attach(hwpt)
            except KernelError as error:
                raise Inapplicable(f"the two devices cannot share a page table: {error}") from error
        memory = world.machine.buffer(PAGE * 8)
        for place in plan:
            ioas.map(memory[place * PAGE : (place + 1) * PAGE], world.base + place * PAGE)
            reached = [isinstance(device.dma_read(world.base + place * PAGE, 8), bytes) for device in devices]
            expect(all(reached), f"of two devices with one page table, DMA goes through for {reached}")
            ioas.unmap(world.base + place * PAGE, PAGE)
            reached = [isinstance(device.dma_read(world.base + place * PAGE, 8), bytes) for device in devices]
            expect(not any(reached), f"after an unmap, of two devices DMA goes through for {reached}")


@rule(
    "PAG-007",
    "Where large pages are switched off, the same is translated by small ones.",
    source="PagingDomain.map: largest",
    needs=(Need.HOST,),
)
def small_pages_do_the_same(subject: Subject) -> None:
    """Map a large stretch with and without."""
    with host(subject) as world:
        device, memory = world.device(), world.machine.buffer(PAGE * LARGE_PAGES)
        for huge in (True, False):
            ioas = world.iommu.ioas_alloc()
            ioas.huge_pages = huge
            ioas.map(memory, world.base)
            hwpt = ioas.hwpt_alloc(device)
            device.attach(hwpt)
            found = world.machine.translate_many(device.endpoint.requester, *_pages(world.base, LARGE_PAGES))
            offsets = set((found.pa - found.pa[0]).tolist())
            expect(not found.fault_count, f"{found.fault_count} of {LARGE_PAGES} pages are refused")
            expect(
                offsets == {page * PAGE for page in range(LARGE_PAGES)}, "pages lie in another order than was mapped"
            )
            if not huge:
                largest = device.translate(world.base)
                expect(
                    getattr(largest, "page_size", 0) <= PAGE,
                    "an entry is larger than the IOAS allows",
                    found=repr(largest),
                )
            device.detach()


@rule(
    "PAG-008",
    "What is unmapped is in no cache any more, a device's own TLB included, nor is what governed before a replace or a "
    "detach: of requests without PASID, and of each PASID.",
    source="PagingDomain.unmap, viommu_attach, viommu_detach: no translation of it stays cached; PCIe ATS",
    needs=(Need.HOST, Need.ATS),
)
def device_tlbs_are_told(subject: Subject) -> None:
    """Have IOMMU and device keep a translation, then take away what it stands on, in each way."""
    pasids = (0, 1, 3) if subject.has(Need.PASIDS) else (0,)
    for pasid in pasids:
        for end in ("unmap", "replace", "detach"):
            with host(subject) as world:
                _end_governing(world, pasid, end)


def _end_governing(world: Host, pasid: int, end: str) -> None:
    device, memory, sent = world.device(), world.machine.buffer(PAGE), pasid or None
    spaces = [world.iommu.ioas_alloc() for _ in range(2)]
    tables = [ioas.hwpt_alloc(device, pasid=bool(pasid)) for ioas in spaces]
    spaces[0].map(memory, world.base)
    device.attach(tables[0], pasid=pasid)
    by = {"ATS": device.endpoint.translate_by_ats, "plain access": device.translate}
    for way, act in by.items():
        kept = act(world.base, pasid=sent)
        expect(hasattr(kept, "pa"), f"a {way} of PASID {pasid} ends as {kept!r}")
    if end == "unmap":
        spaces[0].unmap_all()
    elif end == "replace":
        device.replace(tables[1], pasid=pasid)
    else:
        device.detach(pasid=pasid)
    for way, act in by.items():
        again = act(world.base, pasid=sent)
        expect(not hasattr(again, "pa"), f"after {end}, a {way} of PASID {pasid} still gives {again!r}")
