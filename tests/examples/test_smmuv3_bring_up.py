"""The example runs, and tells the story that it promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "smmuv3_bring_up.py"


def test_a_driver_brings_an_smmuv3_up_and_recovers_from_its_faults() -> None:
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=60, check=False)

    told = [line.partition(": ") for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, "")
    assert [(what, how) for what, _, how in told if what != "event"] == [
        ("found", "stages 1+1, 32 bits of StreamID, ATS 1, PRI 1"),
        ("running", "CR0ACK 0xd, commands done 3"),
        ("in memory", "b'hello'"),
        ("after unmapping", "b'hello'"),
        ("interrupt", "EVENTQ"),
        ("after invalidating", "TRANSLATION"),
        ("resumed", "at 0x0 of the new page"),
        ("interrupt", "GERROR"),
        ("stopped", "CERROR_ILL"),
        ("recovered", "all done"),
    ]
    (event,) = (how for what, _, how in told if what == "event")
    assert event.startswith("F_TRANSLATION")
    assert "the access waits" in event
