"""The example runs, and tells the story that it promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "amd_bring_up.py"


def test_a_driver_brings_an_amd_iommu_up_and_recovers_from_its_faults() -> None:
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=60, check=False)

    told = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.partition(":")[0] for line in told] == [
        *("running", "in memory", "after unmapping", "interrupt", "after invalidating", "event"),
        *("interrupt", "running", "event", "recovered"),
    ]
    assert told[2] == "after unmapping: b'hello'"
    assert "IO_PAGE_FAULT" in told[5]
    assert told[7] == "running: 0"
    assert "ILLEGAL_COMMAND_ERROR" in told[8]
    assert "READ|WRITE" in told[9]
