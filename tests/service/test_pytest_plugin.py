"""The fixtures for those who test programs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from viommu.pytest_plugin import viommu_machine, viommu_run  # noqa: F401 - fixtures, wherever the plugin is loaded from

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from viommu.pytest_plugin import MakesMachines, RunsPrograms

ASKED = "import os; os.close(os.open('/dev/iommu', os.O_RDWR))"


def test_a_program_is_run_on_a_machine_of_its_own(viommu_run: RunsPrograms) -> None:  # noqa: F811
    assert viommu_run(sys.executable, "-c", ASKED).returncode == 0


def test_a_program_is_run_on_a_machine_with_devices(
    viommu_machine: MakesMachines,  # noqa: F811
    viommu_run: RunsPrograms,  # noqa: F811
    client: Callable[[str], Path],
) -> None:
    machine = viommu_machine(driver="vtd", devices=("edu@00:10.0",))
    done = viommu_run(client("edu"), "0000:00:10.0", machine=machine)
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.machine.activity.ioctls["IOMMU_IOAS_MAP"] == 1
