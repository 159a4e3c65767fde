"""The example shows each policy, and what mainline answers instead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "ahead_of_mainline.py"


def test_each_switch_changes_what_its_step_comes_to() -> None:
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    told = [line.strip() for line in done.stdout.splitlines() if line.startswith("    ")]
    assert told == [
        "EOPNOTSUPP: iommu_viommu_alloc type 0x80000001: a type of the device's driver",
        "1 entry executed; the device's TLB holds 0 translations",
        "EOPNOTSUPP: iommu_viommu_alloc type 0x80000001: a type of the device's driver",
        "device 1 asks for 0x9000, group 3",
        "the device was answered: INVALID",
        "EOPNOTSUPP: iommu_hw_queue_alloc flags 0x80000000: of 0x0",
        "<HwQueue 5 0 of type 0xdeadbeef on Viommu 4>",
        "E2BIG: iommu_viommu_alloc size 0x30: 0x28 bytes, or zeros after them",
        "<Viommu 4 of type 0xdeadbeef, on Hwpt 3> shares VMID 9; vIOMMUs that do: 1",
    ]
