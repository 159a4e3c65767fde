"""The kit as strangers run it: pytest in a folder of their own, with the installed plugin and its options."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TESTS = """
import os

from viommu.testing import DriverContract


class TestVtd(DriverContract):
    driver = "vtd"


def test_options_are_taken():
    assert (os.environ["VIOMMU_CONFORM_EFFORT"], os.environ["VIOMMU_CONFORM_SEED"]) == ("0.5", "7")
"""


def test_each_rule_is_a_test_and_options_count(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-v", "-k", "DRV or options", "--viommu-effort=0.5", "--viommu-seed=7"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    assert "test_mine.py::TestVtd::test_rule[DRV-001] PASSED" in done.stdout
