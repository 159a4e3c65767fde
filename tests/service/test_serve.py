"""`viommu serve` keeps a machine for several programs; `viommu doctor` tells what there is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

VIOMMU = [sys.executable, "-m", "viommu"]


def viommu(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [*VIOMMU, *(str(word) for word in words)]
    return subprocess.run(command, text=True, capture_output=True, timeout=60, check=False)


@contextmanager
def serving(path: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    command = [*VIOMMU, "serve", "--socket", str(path), *words]
    with subprocess.Popen(command, text=True, stderr=subprocess.PIPE) as running:
        for _ in range(600):
            if path.is_socket():
                break
            time.sleep(0.05)
        yield running
        running.send_signal(signal.SIGTERM)


def test_several_programs_use_one_machine(client: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "machine"
    with serving(path, "--summary") as service:
        for case in ("ioctl", "fork"):
            done = viommu("run", "--connect", path, "--", client("calls"), case)
            assert (done.returncode, done.stderr) == (0, "")
        service.send_signal(signal.SIGTERM)
        _, said = service.communicate(timeout=30)
    assert service.returncode == 0
    assert "IOMMU_IOAS_ALLOC" in said
    assert not list(tmp_path.iterdir())


def test_programs_that_run_at_once_are_recorded_in_one_order(client: Callable[[str], Path], tmp_path: Path) -> None:
    path, recording = tmp_path / "machine", tmp_path / "run"
    with serving(path, "--record", str(recording)) as service:
        command = [*VIOMMU, "run", "--connect", str(path), "--", str(client("calls")), "threads"]
        programs = [subprocess.Popen(command) for _ in range(2)]
        assert [program.wait(60) for program in programs] == [0, 0]
        service.send_signal(signal.SIGTERM)
        service.wait(30)
    done = viommu("rerun", "--json", recording)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["whole"]


def test_a_path_that_is_taken_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "machine").write_text("mine", encoding="ascii")
    assert viommu("serve", "--socket", tmp_path / "machine").returncode == 2
    assert (tmp_path / "machine").read_text(encoding="ascii") == "mine"


def test_nothing_to_connect_to_is_said(tmp_path: Path) -> None:
    done = viommu("run", "--connect", tmp_path / "nowhere", "--", "true")
    assert done.returncode == 2
    assert "`viommu serve`" in done.stderr


def test_a_machine_that_is_served_is_not_described_again(tmp_path: Path) -> None:
    assert viommu("run", "--connect", tmp_path, "--driver", "vtd", "--", "true").returncode == 2


def test_the_doctor_finds_a_machine_that_can_run_programs() -> None:
    done = viommu("doctor", "--json")
    findings = {finding["name"]: finding["well"] for finding in json.loads(done.stdout)["findings"]}
    assert done.returncode == 0
    assert findings["shim"]
    assert findings["drivers"]
    assert viommu("doctor").stdout.startswith("ok  shim")


def test_a_program_in_a_service_that_ends_gets_an_errno(tmp_path: Path) -> None:
    path = tmp_path / "machine"
    asked = (
        "import fcntl, os, sys\nfd = os.open('/dev/iommu', os.O_RDWR)\n"
        "print('open', flush=True)\nsys.stdin.readline()\n"
        "try:\n    fcntl.ioctl(fd, 0x3B81, bytearray(12))\nexcept OSError as error:\n    sys.exit(error.errno)\n"
    )
    with serving(path) as service:
        words = [*VIOMMU, "run", "--connect", str(path), "--", sys.executable, "-c", asked]
        with subprocess.Popen(words, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "open\n"
            service.send_signal(signal.SIGTERM)
            service.wait(timeout=30)
            program.communicate("go on\n", timeout=30)
    assert program.returncode == 19
    assert os.strerror(19) == "No such device"
