"""`viommu run` as its users meet it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VIOMMU = [sys.executable, "-m", "viommu"]


def viommu(*words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    whole = {**os.environ, **(environment or {})}
    return subprocess.run([*VIOMMU, *words], env=whole, text=True, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143)]
)
def test_it_ends_with_the_programs_exit_status(script: str, status: int) -> None:
    assert viommu("run", "--", "sh", "-c", script).returncode == status


def test_it_prints_what_the_program_prints() -> None:
    done = viommu("run", "sh", "-c", "echo one; echo two >&2")
    assert (done.stdout, done.stderr) == ("one\n", "two\n")


def test_options_after_the_program_are_the_programs() -> None:
    assert viommu("run", "echo", "--summary", "--driver").stdout == "--summary --driver\n"


def test_a_summary_counts_what_was_asked() -> None:
    done = viommu(
        "run", "--summary", "--", sys.executable, "-c", "import os; os.close(os.open('/dev/iommu', os.O_RDWR))"
    )
    assert done.returncode == 0
    assert "ioctls of the user" in done.stderr
    assert done.stderr.splitlines()[1].split()[:5] == ["open", "of", "/dev/iommu", "1", "0"]


def test_a_summary_counts_what_a_driver_in_user_space_does(client: Callable[[str], Path]) -> None:
    words = ["--driver", "vtd", "--device", "edu@00:10.0", "--", str(client("edu")), "0000:00:10.0"]
    said = viommu("run", "--summary", *words).stderr
    counts = {words[0]: words[1:3] for line in said.splitlines() if (words := line.rsplit(maxsplit=4))}
    assert counts["VFIO_DEVICE_BIND_IOMMUFD"] == ["4", "2"]
    assert counts["IOMMU_IOAS_MAP"] == ["1", "0"]
    assert "0000:00:10.0 MSI           5" in said
    assert "faults                  1 (1 translation)" in said


def test_a_log_is_lines_of_json(client: Callable[[str], Path]) -> None:
    words = ["--driver", "vtd", "--device", "edu@00:10.0", "--", str(client("edu")), "0000:00:10.0"]
    done = viommu("run", "--log", *words)
    entries = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 0
    assert all(entry.keys() >= {"event", "level", "timestamp"} for entry in entries)
    calls = [(entry["name"], entry["result"]) for entry in entries if entry["event"] == "call"]
    assert calls[0] == ("open of /dev/vfio/devices/vfio0", "0")
    assert ("VFIO_DEVICE_GET_INFO", "EINVAL") in calls
    assert {"event": "interrupt", "device": "0000:00:10.0", "kind": "MSI", "vector": 0}.items() <= next(
        entry for entry in entries if entry["event"] == "interrupt"
    ).items()
    assert "vtd.commands" in [entry["event"] for entry in entries]


def test_a_program_that_is_not_there_is_named() -> None:
    done = viommu("run", "--", "no-such-program")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("viommu: program 'no-such-program' is not an executable file")


def test_a_library_that_was_preloaded_stays() -> None:
    done = viommu("run", "sh", "-c", "echo $LD_PRELOAD", environment={"LD_PRELOAD": "libm.so.6"})
    assert done.stdout.strip().endswith("libviommu_shim.so:libm.so.6")


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    assert viommu("run", "true", environment={"XDG_RUNTIME_DIR": str(tmp_path)}).returncode == 0
    assert not list(tmp_path.iterdir())
