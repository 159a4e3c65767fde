"""The example runs, and tells the story that it promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "grace_nested.py"


def test_a_guest_on_a_software_grace_invalidates_without_an_exit() -> None:
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    told, summary = done.stdout.split("\n\n")
    rows = [[cell.strip() for cell in line.split("  ") if cell] for line in told.splitlines()]
    assert rows == [
        ["hardware", "GET_HW_INFO", "2 vCMDQs, 16 streams a guest"],
        ["guest attaches its STE", "HWPT_ALLOC, attach", "nested"],
        ["device writes", "DMA", "b'hello'"],
        ["guest unmaps, tells nobody", "memory", "b'hello'"],
        ["guest invalidates", "vCMDQ, no exit", "2 commands consumed"],
        ["device reads again", "DMA", "fault: translation"],
        ["guest learns of it", "vEVENTQ", "F_TRANSLATION of stream 0xa10"],
        ["guest changes its CD", "HWPT_INVALIDATE, trapped", "1 command executed"],
        ["the same by the vCMDQ", "vCMDQ, no exit", "refused, still at 2"],
    ]
    assert "2 (1 TLBI_NH_VA, 1 SYNC)" in summary
    assert "by vCMDQs: 1 command and 1 SYNC, no exit, no ioctl, 6 us; trapped: 1 exit, 1 ioctl, 34 us" in summary
