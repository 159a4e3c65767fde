"""Registers that are shared memory are found stored to, without a call; and memory of other processes is read."""

from __future__ import annotations

import mmap
import os
import signal
import struct
from threading import Thread

import numpy as np
import pytest

from viommu import _engine

PAGE = 4096


def test_another_mapping_of_the_same_memory_is_the_page() -> None:
    page = _engine.RegisterPage(2 * PAGE, [(PAGE, 8)])
    with mmap.mmap(page.fd, 2 * PAGE) as theirs:
        struct.pack_into("<Q", theirs, PAGE, 7)
        assert page.take() == [(0, 7)]
        assert page.show(0, 7, 9)
        assert struct.unpack_from("<Q", theirs, PAGE) == (9,)
    assert bytes(memoryview(page)[PAGE : PAGE + 8]) == b"\x09" + bytes(7)


def test_nobody_can_shrink_it() -> None:
    page = _engine.RegisterPage(PAGE, [(0, 4)])
    with pytest.raises(PermissionError):
        os.ftruncate(page.fd, 0)


def test_who_waits_hears_of_stores() -> None:
    page, watch = _engine.RegisterPage(PAGE, [(0, 4), (4, 4)]), _engine.RegisterWatch()
    watch.add(page)
    taken: list[tuple[int, int]] = []

    def wait() -> None:
        while watch.wait():
            taken.extend(page.take())
            if len(taken) == 2:
                watch.end()

    thread = Thread(target=wait)
    thread.start()
    memory = memoryview(page)
    struct.pack_into("<I", memory, 0, 1)
    struct.pack_into("<I", memory, 4, 2)
    thread.join()
    assert sorted(taken) == [(0, 1), (1, 2)]


@pytest.mark.parametrize(
    ("length", "word"), [(0, (0, 4)), (100, (0, 4)), (PAGE, (2, 4)), (PAGE, (0, 2)), (PAGE, (PAGE, 4))]
)
def test_what_cannot_be_is_refused(length: int, word: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="RegisterPage"):
        _engine.RegisterPage(length, [word])


def test_a_word_that_is_not_there_is_refused() -> None:
    page = _engine.RegisterPage(PAGE, [])
    with pytest.raises(IndexError):
        page.shown(0)
    with pytest.raises(IndexError):
        page.show(0, 0, 0)


def test_memory_of_a_child_is_read_as_far_as_it_is_there() -> None:
    page = np.full(PAGE, ord("o"), np.uint8)
    address = page.ctypes.data
    from_child, to_parent = os.pipe()
    child = os.fork()
    if not child:
        page[:] = ord("c")
        os.write(to_parent, b"!")
        signal.pause()
    try:
        os.read(from_child, 1)
        assert _engine.read_process(child, address, 4) == b"cccc"
        assert _engine.read_process(child, address, 0) == b""
        assert _engine.read_process(child, 8, 4) is None
        assert _engine.read_process(child, (1 << 64) - 8, 16) is None
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(from_child)
        os.close(to_parent)
    with pytest.raises(ProcessLookupError):
        _engine.read_process(child, address, 4)
