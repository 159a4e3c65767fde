"""This process's memory as the kernel sees it, and counts of pins."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viommu import _engine
from viommu.own_memory import READABLE, SHARED, WRITABLE, mapping_at, mapping_with_right
from viommu.pin_counts import PinCounts

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = 4096


def address_of(buffer: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


@pytest.fixture(params=["question", "list"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that answers about one address, and one that only lists everything."""

    def lacks_it(address: int) -> None:
        raise OSError(errno.ENOTTY, f"no such ioctl for {address:#x}")

    if request.param == "list":
        monkeypatch.setattr(_engine, "own_mapping", lacks_it)
        return
    try:
        _engine.own_mapping(0)
    except OSError:
        pytest.skip("Linux before 6.11")


@pytest.fixture
def memfd() -> Iterator[int]:
    fd = os.memfd_create("viommu")
    os.ftruncate(fd, 8 * PAGE)
    yield fd
    os.close(fd)


@pytest.mark.usefixtures("kernel")
def test_a_file_is_known_by_its_inode_wherever_it_is_mapped(memfd: int) -> None:
    shared = mmap.mmap(memfd, 4 * PAGE, mmap.MAP_SHARED, offset=2 * PAGE)
    found = mapping_at(address_of(shared) + PAGE)
    status = os.fstat(memfd)
    assert found is not None
    assert (found.inode, found.device, found.offset) == (status.st_ino, status.st_dev, 2 * PAGE)
    assert found.flags & SHARED
    assert found.end - found.start == 4 * PAGE


@pytest.mark.usefixtures("kernel")
def test_rights_are_those_of_every_page(memfd: int) -> None:
    private = mmap.mmap(-1, 4 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = address_of(private)
    assert mapping_with_right(start, start + 4 * PAGE, write=True) is not None
    ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + PAGE), ctypes.c_size_t(PAGE), mmap.PROT_READ)
    assert mapping_with_right(start, start + 4 * PAGE, write=False) is not None
    assert mapping_with_right(start, start + 4 * PAGE, write=True) is None
    found = mapping_at(start + PAGE)
    assert found is not None
    assert found.flags & (READABLE | WRITABLE | SHARED) == READABLE
    assert mapping_at(0) is None
    del memfd


def test_copies_end_where_memory_does() -> None:
    private = mmap.mmap(-1, 2 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = address_of(private)
    assert _engine.write_own(start + 5, b"hello")
    assert _engine.read_own(start + 5, 5) == b"hello"
    ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + PAGE), ctypes.c_size_t(PAGE), 0)
    assert _engine.read_own(start + PAGE - 8, 16) is None
    assert not _engine.write_own(start + PAGE - 8, bytes(16))
    assert _engine.read_own(start, 1 << 46) is None
    assert _engine.read_own((1 << 64) - 8, 16) is None
    assert _engine.read_own(0, 0) == b""


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 8), st.booleans()), max_size=30))
def test_pins_are_counted_page_by_page(steps: list[tuple[int, int, bool]]) -> None:
    counts, model = PinCounts(), [0] * 30
    for first, length, pin in steps:
        end = first + length
        expected = next((page for page in range(first, end) if not model[page]), None)
        assert counts.unpinned(first, end) == expected
        if pin:
            counts.add(first, end)
        elif expected is None:
            counts.remove(first, end)
        else:
            continue
        for page in range(first, end):
            model[page] += 1 if pin else -1
        assert [counts[page] for page in range(30)] == model
        assert counts.total == sum(count > 0 for count in model)


@given(st.integers(0, 9), st.integers(10, 20))
def test_counts_may_begin_with_a_pin(first: int, end: int) -> None:
    counts = PinCounts(first, end)
    assert [counts[page] for page in range(25)] == [int(first <= page < end) for page in range(25)]
    assert counts.total == end - first
