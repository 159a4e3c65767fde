"""DIR: dirty tracking reports every page that DMA has written, and no page that it has not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

from viommu.kernel_errors import Invalid
from viommu.objects.dirty import UserBitmap
from viommu.objects.hwpt import PagingHwpt
from viommu.testing.rule import Need, expect, refusing, rule
from viommu.testing.tables import PAGE
from viommu.testing.worlds import host

if TYPE_CHECKING:
    from viommu.api.hwpt import Hwpt
    from viommu.testing.subject import Subject

PAGES = 16
NEEDS = (Need.HOST, Need.DIRTY)


def _reported(hwpt: Hwpt, start: int, *, clear: bool = True) -> list[int]:
    """Give the numbers of pages that are said to be written."""
    return [int(page) for page in np.flatnonzero(hwpt.dirty_bitmap(start, PAGES * PAGE, clear=clear))]


def _rounds(subject: Subject) -> st.SearchStrategy[list[list[int]]]:  # noqa: ARG001
    return st.lists(st.lists(st.integers(0, PAGES - 1), max_size=6, unique=True), min_size=1, max_size=5)


@rule(
    "DIR-001",
    "Of each round, what DMA has written since the last one is reported, page by page.",
    source="viommu_read_dirty, Owes: whole entries; the marks are gone afterwards where clear",
    needs=NEEDS,
    plan=_rounds,
    examples=20,
)
def rounds_are_reported(subject: Subject, plan: list[list[int]]) -> None:
    """Write pages, read and clear, again and again."""
    with host(subject) as world:
        ioas, device = world.iommu.ioas_alloc(), world.device()
        ioas.huge_pages = False
        hwpt = ioas.hwpt_alloc(device, dirty_tracking=True)
        ioas.map(world.machine.buffer(PAGES * PAGE), world.base)
        device.attach(hwpt)
        hwpt.set_dirty_tracking(enable=True)
        for number, places in enumerate(plan):
            for place in places:
                expect(
                    device.dma_write(world.base + place * PAGE, b"dirty") is None, f"a write to page {place} is refused"
                )
            for clear in (False, True):
                found = _reported(hwpt, world.base, clear=clear)
                expect(
                    found == sorted(places),
                    f"round {number}: pages {sorted(places)} were written, and {found} are reported",
                    rounds=repr(plan),
                    cleared=str(clear),
                )


@rule(
    "DIR-002",
    "What was written before tracking was switched on is not reported; what is read is no reason either.",
    source="viommu_set_dirty_tracking, When: the core clears all marks before it enables",
    needs=NEEDS,
)
def only_writes_while_tracking_count(subject: Subject) -> None:
    """Write before, and read while."""
    with host(subject) as world:
        ioas, device = world.iommu.ioas_alloc(), world.device()
        ioas.huge_pages = False
        hwpt = ioas.hwpt_alloc(device, dirty_tracking=True)
        ioas.map(world.machine.buffer(PAGES * PAGE), world.base)
        device.attach(hwpt)
        for _ in range(2):
            device.dma_write(world.base, b"before")
            hwpt.set_dirty_tracking(enable=True)
            device.dma_read(world.base + PAGE, 8)
            found = _reported(hwpt, world.base)
            expect(not found, f"pages {found} are reported, none of which was written while tracking was on")
            device.dma_write(world.base, b"while")
            found = _reported(hwpt, world.base)
            expect(found == [0], f"pages {found} are reported, where page 0 was written")
            hwpt.set_dirty_tracking(enable=False)


@rule(
    "DIR-003",
    "Marks are refused to be read while tracking is off, with EINVAL.",
    source="viommu_read_dirty, Raises: Invalid where tracking is off and there is a bitmap",
    needs=NEEDS,
)
def no_marks_while_off(subject: Subject) -> None:
    """Ask the hook: HWPT_GET_DIRTY_BITMAP passes over what it refuses, as the kernel does."""
    with host(subject) as world:
        ioas, device = world.iommu.ioas_alloc(), world.device()
        hwpt = ioas.hwpt_alloc(device, dirty_tracking=True)
        ioas.map(world.machine.buffer(PAGE), world.base)
        device.attach(hwpt)
        domain = world.iommu.found(hwpt.id, PagingHwpt).domain
        base = world.base
        asked = {"domain": domain, "iova": base, "length": PAGE, "clear": True, "bitmap": UserBitmap(base, PAGE, 1)}
        with refusing(Invalid):
            subject.driver.ask("viommu_read_dirty", **asked)
