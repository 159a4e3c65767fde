"""The example runs, and tells the story that it promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "amd_viommu.py"


def test_a_guest_owns_its_queues_on_amd_where_mainline_has_none() -> None:
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "hardware: GT=1 GATS=1 GLX=2 GIO=1 vIOMMU=1",
        "Linux 7.2: EOPNOTSUPP: AMD vIOMMU nested domain: none: Linux 7.2 has not connected them",
        "nested: b'first'",
        "doorbell: waited for 1, b'other'",
        "event: device 0x10, PASID 5, address 0x401000",
        "page request 0x401000: ['success']",
        "now: b'later'",
        "told to the host meanwhile: 0 events",
    ]
