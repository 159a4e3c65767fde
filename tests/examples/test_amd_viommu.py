"""The example runs, and tells the story that it promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "amd_viommu.py"


def test_a_guest_owns_its_queues_on_amd_where_mainline_has_none() -> None:
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    told, _, summary = done.stdout.partition("\n\n")
    assert told.splitlines() == [
        "hardware: GT=1 GATS=1 GLX=2 GIO=1 vIOMMU=1",
        "Linux 7.2: EOPNOTSUPP: AMD vIOMMU nested domain: none: Linux 7.2 has not connected them",
        "nested: b'first'",
        "doorbell: waited for 1, b'other'",
        "event: device 0x10, PASID 5, address 0x401000",
        "page request 0x401000: ['success']",
        "now: b'later'",
        "calls of the host meanwhile: 0",
    ]
    parts = [line.partition("  ") for line in summary.splitlines()]
    texts = {title: text.strip() for title, _, text in parts}
    assert texts["interrupts of the host"] == "0"
    assert texts["their commands"] == "3 (1 INVALIDATE_IOMMU_PAGES, 1 COMPLETION_WAIT, 1 COMPLETE_PPR_REQUEST)"
    assert texts["written to guests"] == "2 (1 IO_PAGE_FAULT, 1 PAGE_REQUEST)"
