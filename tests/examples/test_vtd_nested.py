"""The example runs, and tells the story that it promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "vtd_nested.py"


def test_a_guest_nests_on_vtd_as_mainline_has_it_and_beyond() -> None:
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    told = done.stdout.splitlines()
    assert told[:-1] == [
        "hardware: NEST=1 PRS=1 PASID=1 FL5LP=1 CM=0",
        "nested: b'first'",
        "before invalidating: b'first'",
        "after: b'other'",
        "page request: 0x401000 b'later'",
        "detached: 0x59",
        "on a vIOMMU: b'first'",
        "batch: 2 descriptors, b'other' status 1",
        "queue: b'third' status 2",
    ]
    assert told[-1].startswith("event: FRCD(")
    assert "SID=16" in told[-1]
    assert "FR=FaultReason.FS_NOT_PRESENT" in told[-1]
