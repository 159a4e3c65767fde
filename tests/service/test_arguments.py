"""What a program's ioctls point to goes along with the call, and is as if the kernel had copied it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from viommu import _engine
from viommu.service import programs
from viommu.service.window import Window

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path


def test_arguments_are_copied_as_by_a_kernel(
    run: Callable[..., subprocess.CompletedProcess[str]], client: Callable[[str], Path]
) -> None:
    done = run(client("arguments"))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("is_reachable", [True, False])
def test_arrays_are_read_directly_or_asked_for(
    run: Callable[..., subprocess.CompletedProcess[str]],
    client: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    is_reachable: bool,
) -> None:
    asked: list[int] = []

    def read(pid: int, address: int, length: int) -> bytes | None:
        asked.append(address)
        if not is_reachable:
            raise PermissionError
        return _engine.read_process(pid, address, length)

    monkeypatch.setattr(programs, "_engine", SimpleNamespace(read_process=read))
    assert run(client("arguments")).returncode == 0
    assert len(asked) > 1 if is_reachable else len(asked) == 1


def test_a_window_is_memory_as_far_as_it_goes() -> None:
    window = Window(0x1000, b"abcdef")
    assert window.read(0x1002, 3) == b"cde"
    assert window.write(0x1001, b"XY")
    assert window.read(0x1000, 6) == b"aXYdef"


@pytest.mark.parametrize(("address", "length"), [(0xFFF, 2), (0x1005, 2), (0x1006, 1), (0xFFF, 8), (0x1000, 0)])
def test_what_is_not_all_within_is_left_to_others(address: int, length: int) -> None:
    window = Window(0x1000, b"abcdef")
    assert window.read(address, length) is None
    assert not window.write(address, bytes(length))
    assert window.take() == (0, b"")


def test_what_was_stored_goes_back_once() -> None:
    window = Window(0x1000, b"abcdef")
    window.write(0x1004, b"E")
    window.write(0x1002, b"C")
    assert window.take() == (2, b"CdE")
    assert window.take() == (0, b"")


@pytest.mark.parametrize(("address", "length", "meets"), [(0xFFF, 1, False), (0xFFF, 2, True), (0x1005, 9, True)])
def test_a_window_says_whether_it_is_met(address: int, length: int, meets: bool) -> None:
    assert Window(0x1000, b"abcdef").meets(address, length) is meets
    assert not Window(0x1000, b"").meets(0x1000, 8)
