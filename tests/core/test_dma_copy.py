"""A copy, which the engine does in one go, comes to what a read and a write of each page come to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from attrs import define
from hypothesis import given
from hypothesis import strategies as st

from tests.core.test_dma import BASE, IOTLBS, KINDS, PAGE, PAGES, PASID, World
from viommu import Access, Fault
from viommu.errors import OutOfRange
from viommu.machine import BusAbort

if TYPE_CHECKING:
    from viommu.instance.dma_copy import CopyStopped

REGION = (PAGES + 3) * PAGE


@define
class Copy:
    """One copy, as a test draws it: places are offsets from the first page."""

    source: int
    target: int
    length: int
    pasids: tuple[int | None, int | None]
    forget: bool


def drawn(draw: st.DrawFn) -> Copy:
    """Draw a copy whose target does not meet its source."""
    length = draw(st.integers(0, 64) | st.integers(0, 6 * PAGE))
    places = st.integers(0, REGION - length) | st.sampled_from([0, PAGE, (PAGES - 1) * PAGE])
    source, target = draw(places), draw(places)
    if abs(source - target) < length:
        target = source + length
    pasid = st.sampled_from([None, None, PASID])
    return Copy(source, target, length, (draw(pasid), draw(pasid)), draw(st.booleans()))


def at_once(world: World, copy: Copy) -> CopyStopped | None:
    if copy.forget:
        world.machine.translator.invalidate_all()
        world.machine.translator.invalidate_contexts()
    return world.machine.dma_copy(3, BASE + copy.source, BASE + copy.target, copy.length, *copy.pasids)


def byte_by_byte(world: World, copy: Copy) -> tuple[int, bool, object] | None:
    """Copy by translations and stores alone: the judge. Gives how far it came, which side stopped it, and why."""
    for at in range(copy.length):
        places: list[int] = []
        for base, access, pasid in zip(
            (copy.source, copy.target), (Access.READ, Access.WRITE), copy.pasids, strict=True
        ):
            found = world.machine.translate(3, BASE + base + at, access, pasid)
            writes = access is Access.WRITE
            if isinstance(found, Fault):
                return at, writes, (found.kind, found.iova)
            places.append(found.pa)
            if not writes:
                byte = world.guest.memory.read(found.pa, 1)
                if byte is None:
                    return at, False, found.pa
        assert byte is not None
        if not world.guest.memory.write(places[1], byte):
            return at, True, places[1]
    return None


def told(stopped: CopyStopped | None) -> tuple[int, bool, object] | None:
    if stopped is None:
        return None
    cause = stopped.cause
    if isinstance(cause, BusAbort):
        return stopped.moved, stopped.writes, cause.pa
    return stopped.moved, stopped.writes, (cause.kind, cause.iova)


def contents(world: World) -> tuple[object, ...]:
    return world.guest.memory.read(world.ram.pa(), PAGES * PAGE), world.large.tobytes(), world.theirs


@given(data=st.data(), iotlb=st.sampled_from(IOTLBS), walk_cache=st.sampled_from([0, 0, 16]))
def test_a_copy_comes_to_what_its_accesses_come_to(
    data: st.DataObject, iotlb: dict[str, int | None] | None, walk_cache: int
) -> None:
    plain = st.just(["ram"] * PAGES)
    kinds = data.draw(st.lists(st.sampled_from(KINDS), min_size=PAGES, max_size=PAGES) | plain)
    one, other = World(kinds, iotlb, walk_cache), World(kinds, iotlb, walk_cache)
    for copy in data.draw(st.lists(st.composite(drawn)(), min_size=1, max_size=3)):
        assert told(at_once(one, copy)) == byte_by_byte(other, copy)
        assert contents(one) == contents(other)


@pytest.mark.parametrize(("watched", "sanitize"), [(True, False), (False, True)])
def test_a_copy_is_the_same_where_each_store_is_seen(watched: bool, sanitize: bool) -> None:
    world = World(["ram"] * PAGES, {"entries": 64}, sanitize=sanitize)
    stores: list[int] = []
    if watched:
        world.guest.memory.watcher = lambda pa, _, __: stores.append(pa)
    world.guest.memory.write(world.ram.pa(), b"\x11" * PAGE)
    assert world.machine.dma_copy(3, BASE, BASE + 4 * PAGE + 8, PAGE) is None
    assert world.machine.dma_read(3, BASE + 4 * PAGE + 8, PAGE) == b"\x11" * PAGE
    assert bool(stores) == watched


@pytest.mark.parametrize("watched", [True, False])
def test_a_copy_is_done_so_often(watched: bool) -> None:
    world = World(["ram"] * (PAGES - 1) + ["unmapped"], {"entries": 64})
    stores: list[int] = []
    if watched:
        world.guest.memory.watcher = lambda pa, _, __: stores.append(pa)
    world.guest.memory.write(world.ram.pa(), b"\x22" * PAGE)
    assert world.machine.dma_copy(3, BASE, BASE + 4 * PAGE, PAGE, times=3) is None
    assert world.machine.dma_read(3, BASE + 4 * PAGE, PAGE) == b"\x22" * PAGE
    assert world.machine.translator.counters()["translations"] == 7
    stopped = world.machine.dma_copy(3, BASE, BASE + (PAGES - 2) * PAGE, 2 * PAGE, times=1 << 40)
    assert stopped is not None
    assert (stopped.moved, stopped.writes) == (PAGE, True)
    assert world.machine.dma_copy(3, BASE, BASE + PAGE, PAGE, times=0) is None
    with pytest.raises(OutOfRange, match="times"):
        world.machine.dma_copy(3, BASE, BASE + PAGE, PAGE, times=-1)


def test_a_copy_goes_from_one_pasid_to_another() -> None:
    world = World(["ram"] * PAGES, {"entries": 64})
    assert world.machine.dma_copy(3, BASE, BASE + PAGE, PAGE, None, PASID) is None
    counted = world.machine.translator.counters()["translations"]
    assert counted == 2


def test_faults_of_a_copy_are_written_down_once() -> None:
    world = World(["ram", "unmapped"] + ["ram"] * (PAGES - 2), {"entries": 64})
    for source, target, writes in ((BASE, BASE + 4 * PAGE, False), (BASE + 4 * PAGE, BASE, True)):
        world.driver.made.recorded.clear()
        stopped = world.machine.dma_copy(3, source + 8, target, 3 * PAGE)
        assert stopped is not None
        assert (stopped.moved, stopped.writes) == (PAGE - (0 if writes else 8), writes)
        assert world.driver.made.recorded == [stopped.cause]


@pytest.mark.parametrize(
    ("requester", "source", "target", "length", "message"),
    [
        (1 << 20, BASE, BASE, 8, "RID for toy"),
        (3, -1, BASE, 8, "IOVA"),
        (3, BASE, -1, 8, "IOVA"),
        (3, BASE, (1 << 64) - 4, 8, "length of a DMA"),
        (3, BASE, BASE, -1, "length of a DMA"),
    ],
)
def test_a_copy_that_no_device_can_ask_for_is_refused(
    requester: int, source: int, target: int, length: int, message: str
) -> None:
    world = World(["ram"] * PAGES, {"entries": 64})
    world.machine.dma_read(3, BASE, 8)
    with pytest.raises(OutOfRange, match=message):
        world.machine.dma_copy(requester, source, target, length)


def test_an_atomic_exchange_is_refused_where_nothing_can_be_stored() -> None:
    memory = World(["ram"] * PAGES, None).guest.memory
    stores: list[tuple[int, int, int]] = []
    memory.watcher = lambda *store: stores.append(store)
    pa = memory.add_ram(PAGE).pa()
    assert memory.compare_exchange(pa, 0, 5) is True
    assert memory.compare_exchange(pa, 0, 6) is False
    assert memory.load(pa) == 5
    assert memory.compare_exchange(1 << 41, 0, 1) is None
    assert memory.compare_exchange(1 << 47, 0, 1) is None
    assert stores == [(pa, 0, 5)]
