"""The example runs, and tells the story that it promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "vtd_bring_up.py"


def test_a_driver_brings_a_vtd_unit_up_and_recovers_from_its_faults() -> None:
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=60, check=False)

    told = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.partition(":")[0] for line in told] == [
        *("running", "in memory", "after unmapping", "interrupt", "after invalidating", "fault"),
        *("interrupt", "stopped", "going on", "recovered"),
    ]
    assert told[0] == "running: GSTS(QIES=1, RTPS=1, TES=1)"
    assert told[2] == "after unmapping: b'hello'"
    assert "FR=FaultReason.READ_DENIED" in told[5]
    assert told[7] == "stopped: IQERCD(IQEI=QueueError.TYPE) at 0x20"
    assert told[8] == "going on: True FSTS()"
    assert "READ|WRITE" in told[9]
