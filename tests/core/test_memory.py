from __future__ import annotations

import gc
import mmap
import os
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from viommu.backing import AddressSpace, FileSource, PageId
from viommu.errors import BadValue, MemoryOverlap, Misaligned, NotBacked, NotPinned, OutOfFrames, OutOfRange
from viommu.frames import GUARD, HUGE_PAGE, LARGE_PAGE, FrameAllocator
from viommu.memory import PhysicalMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

PAGE = 4096


@pytest.fixture
def memory() -> PhysicalMemory:
    return PhysicalMemory()


@pytest.fixture
def memfd() -> Iterator[int]:
    fd = os.memfd_create("guest")
    os.ftruncate(fd, 4 * PAGE)
    yield fd
    os.close(fd)


def test_what_is_written_at_a_view_is_read_back(memory: PhysicalMemory) -> None:
    ram = memory.add_ram(2 * PAGE)

    assert memory.write(ram.pa(PAGE - 2), b"over the border")

    assert memory.read(ram.pa(PAGE - 2), 15) == b"over the border"
    assert memory.store(ram.pa(8), 0x1122_3344_5566_7788)
    assert memory.load(ram.pa(8)) == 0x1122_3344_5566_7788
    assert memory.read(ram.pa(8), 1) == b"\x88"


def test_a_hole_gives_none_and_takes_nothing(memory: PhysicalMemory) -> None:
    ram = memory.add_ram(PAGE)

    assert memory.read(ram.pa() + PAGE - 1, 2) is None
    assert memory.load(ram.pa() + PAGE) is None
    assert not memory.write(ram.pa() + PAGE - 1, b"ab")
    assert memory.read(ram.pa() + PAGE - 1, 1) == b"\0"


def test_runs_are_aligned_for_large_leaves_and_are_never_neighbours(memory: PhysicalMemory) -> None:
    views = [memory.add_ram(size) for size in (PAGE, LARGE_PAGE, LARGE_PAGE, HUGE_PAGE, PAGE)]

    starts = [view.pa() for view in views]
    assert [start % LARGE_PAGE for start in starts] == [0] * 5
    assert starts[3] % HUGE_PAGE == 0
    runs = sorted(run for view in views for run in view.runs())
    assert all(start + length < following for (start, length), (following, _) in pairwise(runs))


def test_two_mappings_of_one_memfd_are_the_same_pages(memory: PhysicalMemory, memfd: int) -> None:
    first, second = (mmap.mmap(memfd, 4 * PAGE) for _ in range(2))

    views = [memory.add_buffer(first), memory.add_file(memfd), memory.add_buffer(np.frombuffer(second, np.uint8))]

    assert len({view.pa(0) for view in views}) == 1
    second[5] = 7
    assert memory.read(views[0].pa(5), 1) == b"\x07"
    status = os.fstat(memfd)
    assert memory.page_id(views[0].pa(PAGE + 1)) == PageId(FileSource(status.st_dev, status.st_ino), PAGE)


def test_a_window_of_a_file_keeps_the_addresses_that_its_pages_have(memory: PhysicalMemory, memfd: int) -> None:
    whole = memory.add_file(memfd)

    window = memory.add_file(memfd, PAGE, 2 * PAGE)

    assert window.pa(0) == whole.pa(PAGE)
    assert list(window.runs()) == [(whole.pa(PAGE), 2 * PAGE)]


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_file_that_is_handed_in_page_by_page_takes_one_mapping(memory: PhysicalMemory, memfd: int) -> None:
    before = _descriptors()
    views = [memory.add_file(memfd, at * PAGE, PAGE) for at in range(4)]
    assert _mappings(memfd) == 1
    os.ftruncate(memfd, 64 * PAGE)  # and one that grows is there as far as it goes
    views.append(memory.add_file(memfd, 63 * PAGE, PAGE))
    memory.write(views[-1].pa(), b"end")
    assert os.pread(memfd, 3, 63 * PAGE) == b"end"
    for view in views:
        memory.release(view)
    del views, view
    gc.collect()
    assert _mappings(memfd) == 0
    assert _descriptors() == before


def _mappings(fd: int) -> int:
    lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    return sum(line.split()[4] == str(os.fstat(fd).st_ino) for line in lines)


def test_what_a_file_lost_is_empty_memory_until_it_is_mapped_anew(memory: PhysicalMemory, memfd: int) -> None:
    """Whoever maps a file for DMA may cut it short: hardware goes on, and so must we."""
    os.pwrite(memfd, b"first", 0)
    os.pwrite(memfd, b"last", 3 * PAGE)
    view = memory.add_file(memfd)
    os.ftruncate(memfd, PAGE)
    assert memory.read(view.pa(), 5) == b"first"
    assert memory.read(view.pa(3 * PAGE), 4) == bytes(4)
    assert memory.write(view.pa(2 * PAGE), b"stored")
    assert memory.read(view.pa(2 * PAGE), 6) == b"stored"
    memory.release(view)
    os.ftruncate(memfd, 4 * PAGE)
    os.pwrite(memfd, b"again", 3 * PAGE)
    again = memory.add_file(memfd)
    assert memory.read(again.pa(3 * PAGE), 5) == b"again"


def test_pages_that_a_file_gained_lie_in_a_run_of_their_own(memory: PhysicalMemory, memfd: int) -> None:
    before = memory.add_file(memfd)
    os.ftruncate(memfd, 6 * PAGE)

    after = memory.add_file(memfd)

    assert [length for _, length in after.runs()] == [4 * PAGE, 2 * PAGE]
    assert after.pa(3 * PAGE) == before.pa(3 * PAGE)
    assert after.pa(4 * PAGE) != before.pa(3 * PAGE) + PAGE


def test_private_memory_is_known_by_its_address(memory: PhysicalMemory) -> None:
    ram = mmap.mmap(-1, 4 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    whole = memory.add_buffer(ram)
    part = memory.add_buffer(memoryview(ram)[PAGE : 2 * PAGE])

    assert part.pa() == whole.pa(PAGE)
    identity = memory.page_id(part.pa(9))
    assert isinstance(identity.source, AddressSpace)
    assert identity.offset % PAGE == 0


def test_a_numpy_array_is_shared_and_not_copied(memory: PhysicalMemory) -> None:
    words = np.zeros(512, np.uint64)
    view = memory.add_buffer(words)

    words[3] = 0xABCD
    assert memory.load(view.pa(24)) == 0xABCD
    memory.store(view.pa(32), 5)
    assert words[4] == 5


def test_read_only_memory_takes_no_store(memory: PhysicalMemory) -> None:
    frozen = np.zeros(512, np.uint64)
    frozen.flags.writeable = False

    view = memory.add_buffer(frozen, writable=False)

    assert memory.load(view.pa()) == 0
    assert not memory.store(view.pa(), 1)
    with pytest.raises(BadValue, match="buffer 'read-only' is not writable"):
        memory.add_buffer(frozen)


def test_a_pin_keeps_the_memory_of_a_view_that_was_released(memory: PhysicalMemory) -> None:
    ram = memory.add_ram(4 * PAGE)
    pa = ram.pa(PAGE)
    memory.pin(pa, 2 * PAGE)

    memory.release(ram)

    assert memory.write(pa, b"still here")
    memory.unpin(pa, 2 * PAGE)
    assert memory.read(pa, 1) is None
    assert memory.engine.regions() == []


def test_pins_are_counted_for_each_page_across_all_its_views(memory: PhysicalMemory, memfd: int) -> None:
    views = [memory.add_file(memfd), memory.add_file(memfd, PAGE, PAGE)]

    memory.pin(views[0].pa(), 4 * PAGE)
    memory.pin(views[1].pa(), PAGE)

    assert [memory.pins(views[0].pa(page * PAGE)) for page in range(4)] == [1, 2, 1, 1]


def test_an_unpin_without_its_pin_changes_nothing(memory: PhysicalMemory) -> None:
    ram = memory.add_ram(2 * PAGE)
    memory.pin(ram.pa(), PAGE)

    with pytest.raises(NotPinned, match=f"page at {ram.pa(PAGE):#x} is not pinned"):
        memory.unpin(ram.pa(), 2 * PAGE)

    assert memory.pins(ram.pa()) == 1


def test_a_hole_cannot_be_pinned(memory: PhysicalMemory) -> None:
    ram = memory.add_ram(PAGE)

    with pytest.raises(NotBacked, match="is not backed by memory"):
        memory.pin(ram.pa(), 2 * PAGE)

    assert memory.pins(ram.pa()) == 0


def test_an_address_may_mean_other_memory_once_its_view_is_released(memory: PhysicalMemory) -> None:
    ram = mmap.mmap(-1, PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    before = memory.add_buffer(ram)
    memory.pin(before.pa())
    memory.release(before)

    after = memory.add_buffer(ram)

    assert after.pa() != before.pa()


def test_a_view_is_released_once(memory: PhysicalMemory, memfd: int) -> None:
    first, second = memory.add_file(memfd), memory.add_file(memfd)

    memory.release(first)
    memory.release(first)

    assert memory.read(second.pa(), 1) == b"\0"


def test_captured_pages_lie_exactly_where_they_were(memory: PhysicalMemory) -> None:
    page = np.arange(PAGE, dtype=np.uint32).astype(np.uint8)

    memory.place(0x1234_5000, page)

    assert memory.read(0x1234_5001, 2) == b"\x01\x02"
    with pytest.raises(MemoryOverlap, match="0x12345800-0x123467ff overlaps 0x12345000-0x12345fff"):
        memory.place(0x1234_5800, page.copy())
    with pytest.raises(OutOfRange, match="physical address"):
        memory.place((1 << 64) - 8, page.copy())
    with pytest.raises(Misaligned, match="physical address 0x4 is not a multiple of 0x8"):
        memory.place(4, page.copy())


def test_allocation_goes_around_what_was_placed(memory: PhysicalMemory) -> None:
    in_the_way = 1 << 32
    memory.place(in_the_way, np.zeros(PAGE, np.uint8))

    assert memory.add_ram(PAGE).pa() >= in_the_way + PAGE + GUARD


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda m: m.add_ram(100), "size of RAM 0x64 is not a multiple of 0x1000"),
        (lambda m: m.add_ram(0), "size of RAM 0x0 is below 0x1000"),
        (lambda m: m.add_buffer(np.zeros(3, np.uint8)), "buffer length 0x3 is not a multiple of 0x8"),
        (lambda m: m.add_buffer(np.zeros((8, 8), np.uint64)[:, ::2]), "is not contiguous, or it is empty"),
        (lambda m: m.add_buffer(b""), "is not contiguous, or it is empty"),
        (lambda m: m.add_ram(PAGE).pa(PAGE), "offset in a view 0x1000 is above 0xfff"),
        (lambda m: m.pin(m.add_ram(PAGE).pa(), 0), "length to pin 0x0 is below 0x1"),
        (lambda _: PhysicalMemory(address_bits=65), "physical address bits 0x41 is above 0x40"),
    ],
)
def test_a_bad_argument_is_named_with_its_value_and_bound(
    memory: PhysicalMemory, bad: Callable[[PhysicalMemory], object], message: str
) -> None:
    with pytest.raises((BadValue, Misaligned, OutOfRange), match=message):
        bad(memory)


def test_a_file_must_be_one_that_can_be_mapped(memory: PhysicalMemory, memfd: int) -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(BadValue, match="is not that of a regular file or memfd"):
            memory.add_file(reading)
    finally:
        os.close(reading)
        os.close(writing)
    with pytest.raises(OutOfRange, match="end of the stretch of a file 0x5000 is above 0x4000"):
        memory.add_file(memfd, 0, 5 * PAGE)
    with pytest.raises(Misaligned, match="file offset 0x10 is not a multiple"):
        memory.add_file(memfd, 16)


def test_pages_backed_read_only_are_not_silently_made_writable(memory: PhysicalMemory, memfd: int) -> None:
    memory.add_file(memfd, writable=False)

    with pytest.raises(BadValue, match="its pages are backed read-only"):
        memory.add_file(memfd)


def test_memory_of_another_process_is_reached_at_its_own_addresses(memory: PhysicalMemory) -> None:
    theirs = {0x7000_0000: 11, 0x7000_0FF8: 22}
    stores: list[tuple[int, int, int]] = []

    def compare_exchange(address: int, expected: int, desired: int) -> bool:
        stores.append((address, expected, desired))
        return True

    view = memory.add_remote(AddressSpace("client"), 0x7000_0000, PAGE, theirs.get, compare_exchange)

    assert memory.load(view.pa()) == 11
    assert memory.load(view.pa(0xFF8)) == 22
    assert memory.load(view.pa(0x10)) is None


@given(st.lists(st.integers(1, 3 * LARGE_PAGE), max_size=12), st.randoms(use_true_random=False))
def test_runs_never_overlap_whatever_is_taken_and_given_back(lengths: list[int], random: Random) -> None:
    frames = FrameAllocator(0, 26)
    taken: dict[int, int] = {}
    for length in lengths:
        if taken and random.random() < 0.4:
            start = random.choice(sorted(taken))
            frames.free(start)
            del taken[start]
        try:
            start = frames.allocate(length)
        except OutOfFrames:
            continue
        assert start + length <= 1 << 26
        assert all(start + length <= other or other + taken[other] <= start for other in taken)
        taken[start] = length


def test_an_address_space_that_is_full_says_so() -> None:
    frames = FrameAllocator(0, 22)
    frames.reserve(0, 1 << 21)

    with pytest.raises(OutOfFrames, match="no free run of 0x200000 bytes in a physical address space of 22 bits"):
        frames.allocate(1 << 21)
