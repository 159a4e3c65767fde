"""Starting, stopping and dying, again and again: nothing is left behind, and nobody hangs."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from viommu import Machine
from viommu.service.run import served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NO_DEVICE = 19
SECONDS = 60
LONGEST = 0.3
"""Seconds that a program is busy before somebody is killed."""
MARK = "VIOMMU_TEST_MARK"
cycles = pytest.mark.parametrize("count", [10, pytest.param(200, marks=pytest.mark.long)])
kills = pytest.mark.parametrize("count", [5, pytest.param(50, marks=pytest.mark.long)])


class Census(NamedTuple):
    """What there is of us: processes by their mark, shared memory by name, and what this process holds."""

    processes: int
    shared_memory: frozenset[Path]
    descriptors: Counter[str]
    threads: int


def kind_of(descriptor: Path) -> str:
    with suppress(OSError):
        return str(descriptor.readlink()).partition(":")[0]
    return "none"  # of the listing itself


def is_marked(process: Path, mark: str) -> bool:
    with suppress(OSError):
        return f"{MARK}={mark}".encode() in (process / "environ").read_bytes()
    return False


def census(mark: str) -> Census:
    marked = [process for process in Path("/proc").glob("[0-9]*") if is_marked(process, mark)]
    own = Counter(kind_of(descriptor) for descriptor in Path("/proc/self/fd").iterdir())
    kept = Counter({kind: own[kind] for kind in ("socket", "pipe", "/memfd", "anon_inode")})
    return Census(
        len(marked),
        frozenset(Path("/dev/shm").glob("*viommu*")),  # noqa: S108 - looked at, not used
        kept,
        len(list(Path("/proc/self/task").iterdir())),
    )


def comes_back(before: Census, mark: str) -> Census:
    """Take the census, once what is ending has ended."""
    deadline = time.monotonic() + SECONDS
    while (now := census(mark)) != before and time.monotonic() < deadline:
        time.sleep(0.05)
    return now


@pytest.fixture
def mark() -> str:
    return uuid4().hex


@pytest.fixture
def marked(mark: str, tmp_path: Path) -> dict[str, str]:
    """Environment of all that is started here: what it leaves behind lies in the folder."""
    return {**os.environ, MARK: mark, "XDG_RUNTIME_DIR": str(tmp_path)}


@contextmanager
def busy(program: Path, *before: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A program that is at work already."""
    with subprocess.Popen([*before, str(program)], env=environment, text=True, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "busy\n"
        yield running


@cycles
def test_machines_that_were_started_and_stopped_leave_nothing(
    count: int,
    client: Callable[[str], Path],
    mark: str,
    marked: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    before = census(mark)
    for _ in range(count):
        with Machine("selftest") as machine, served(machine) as found:
            done = subprocess.run([client("calls"), "memory"], env={**marked, **found}, timeout=SECONDS, check=False)
            assert done.returncode == 0
    assert comes_back(before, mark) == before
    assert not list(tmp_path.iterdir())


@kills
def test_programs_that_are_killed_leave_nothing(
    count: int, client: Callable[[str], Path], mark: str, marked: dict[str, str]
) -> None:
    chance = random.Random(count)
    with Machine("selftest") as machine, served(machine) as found, capture_logs() as logs:
        before = census(mark)
        for _ in range(count):
            with busy(client("busy"), environment={**marked, **found}) as program:
                time.sleep(chance.uniform(0, LONGEST))
                program.kill()
                assert program.wait(timeout=SECONDS) == -signal.SIGKILL
        assert comes_back(before, mark) == before
    assert not [entry for entry in logs if entry["log_level"] == "error"]


VIOMMU = [sys.executable, "-m", "viommu"]


def is_emptied(folder: Path) -> bool:
    """Whether nothing lies in a folder any more, once who cleans up has done so."""
    deadline = time.monotonic() + SECONDS
    while (left := list(folder.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not left


@kills
def test_a_service_that_is_killed_takes_the_device_away(
    count: int, client: Callable[[str], Path], mark: str, marked: dict[str, str], tmp_path: Path
) -> None:
    chance = random.Random(count)
    before = census(mark)
    path = tmp_path / "machine"
    for _ in range(max(count // 5, 1)):
        with subprocess.Popen([*VIOMMU, "serve", "--socket", str(path)], env=marked) as service:
            while not path.is_socket():
                assert service.poll() is None
                time.sleep(0.01)
            connected = (*VIOMMU, "run", "--connect", str(path), "--")
            with busy(client("busy"), *connected, environment=marked) as program:
                time.sleep(chance.uniform(0, LONGEST))
                service.kill()
                assert program.wait(timeout=SECONDS) == NO_DEVICE
        assert is_emptied(tmp_path)
    assert comes_back(before, mark) == before


@kills
def test_a_run_that_is_killed_leaves_a_program_without_its_device_and_nothing_else(
    count: int, client: Callable[[str], Path], mark: str, marked: dict[str, str], tmp_path: Path
) -> None:
    chance = random.Random(count)
    before = census(mark)
    for _ in range(max(count // 5, 1)):
        with busy(client("busy"), *VIOMMU, "run", "--", environment=marked) as run:
            time.sleep(chance.uniform(0, LONGEST))
            run.kill()
        assert is_emptied(tmp_path)
    assert comes_back(before, mark) == before  # the program has ended by itself
