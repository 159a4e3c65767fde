"""How `viommu run` ends: as its program does, and with nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

VIOMMU = [sys.executable, "-m", "viommu"]
SECONDS = 30
TAKES = """
import os, signal, sys
def take(number, _):
    print(number, flush=True)
    sys.exit(40)
for number in (1, 2, 10, 15):
    signal.signal(number, take)
print(os.getpid(), flush=True)
signal.pause()
"""
ASKS = """
import fcntl, os, sys
fd = os.open('/dev/iommu', os.O_RDWR)
print(os.getpid(), flush=True)
sys.stdin.readline()
try:
    fcntl.ioctl(fd, 0x3B81, bytearray(12))
except OSError as error:
    print(error.errno, flush=True)
"""


@contextmanager
def running(folder: Path, program: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run a Python program that begins by printing its process id, which is read here."""
    command = [*VIOMMU, *(words or ("run", "--")), sys.executable, "-c", program]
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}
    with subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as begun:
        assert begun.stdout is not None
        assert int(begun.stdout.readline())
        yield begun


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_is_the_programs(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path, TAKES) as run:
        run.send_signal(number)
        said, _ = run.communicate(timeout=SECONDS)
    assert (said, run.returncode) == (f"{number.value}\n", 40)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_program_that_a_signal_ends_is_told_as_a_shell_tells_it(tmp_path: Path, number: signal.Signals) -> None:
    program = "import os, signal\nsignal.signal(2, signal.SIG_DFL)\nprint(os.getpid(), flush=True)\nsignal.pause()"
    with running(tmp_path, program) as run:
        run.send_signal(number)
        run.communicate(timeout=SECONDS)
    assert run.returncode == 128 + number
    assert not list(tmp_path.iterdir())


def test_where_it_is_killed_its_files_go_and_its_program_gets_an_errno(tmp_path: Path) -> None:
    with running(tmp_path, ASKS) as run:
        assert list(tmp_path.iterdir())
        run.kill()
        wait_until(lambda: not list(tmp_path.iterdir()))
        said, _ = run.communicate("go on\n", timeout=SECONDS)
    assert said == "19\n"


def test_where_a_service_is_killed_another_can_take_its_place(tmp_path: Path) -> None:
    path = tmp_path / "machine"
    with subprocess.Popen([*VIOMMU, "serve", "--socket", str(path)]) as service:
        wait_until((tmp_path / "machine.files").exists)
        service.kill()
    wait_until(lambda: not list(tmp_path.iterdir()))


def test_a_signal_that_is_ignored_stays_so_for_the_program() -> None:
    program = "import os, signal\nprint(os.getpid(), flush=True)\nprint(signal.getsignal(1), flush=True)"
    shell = 'trap "" HUP; exec "$@"'
    command = ["sh", "-c", shell, "sh", *VIOMMU, "run", "--", sys.executable, "-c", program]
    done = subprocess.run(command, text=True, capture_output=True, timeout=SECONDS, check=True)
    assert done.stdout.splitlines()[1] == str(signal.SIG_IGN)
