"""The example asks every driver for both orders, and each says what it does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "founding_thread.py"
DRIVERS = ("amd_viommu", "selftest", "smmuv3_cmdqv", "vtd")


@pytest.fixture(scope="module")
def told() -> dict[str, list[str]]:
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    steps: dict[str, list[str]] = {}
    title = ""
    for line in done.stdout.splitlines():
        if line.startswith("  "):
            steps[title].append(line.strip())
        else:
            title = line
            steps[title] = []
    return steps


def test_every_driver_is_asked_for_both_orders(told: dict[str, list[str]]) -> None:
    assert set(told) == {f"{name}, {order}" for name in DRIVERS for order in ("stage 2 first", "vIOMMU first")}


@pytest.mark.parametrize("driver", DRIVERS)
def test_mainline_s_order_works_and_holds_the_parent(told: dict[str, list[str]], driver: str) -> None:
    made, vdevice, parent = told[f"{driver}, stage 2 first"]
    assert made.startswith("vIOMMU on its parent: <Viommu ")
    assert vdevice.startswith("vDEVICE: <Vdevice ")
    assert parent.startswith("destroy the parent: EBUSY")


@pytest.mark.parametrize("driver", DRIVERS)
def test_an_empty_viommu_is_refused_or_has_a_window(told: dict[str, list[str]], driver: str) -> None:
    first, *later = told[f"{driver}, vIOMMU first"]
    if not later:
        assert first.startswith("empty vIOMMU: EOPNOTSUPP")
        return
    steps = dict(step.split(": ", 1) for step in later)
    assert steps["in the window, vDEVICE"].startswith("<Vdevice")
    assert steps["in the window, event queue"].startswith("<EventQueue")
    assert steps["in the window, page table"].startswith("EINVAL")
    assert steps["in the window, hardware queue"].startswith(("EINVAL", "EOPNOTSUPP"))
    assert steps["stage 2"] == "done"
    assert steps["stage 2, once more"].startswith("EEXIST")
    assert steps["destroy the parent"].startswith("EBUSY")
