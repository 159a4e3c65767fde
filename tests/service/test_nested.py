"""Guests in C, on whole machines from files: nested translation, invalidations by call and by doorbell, events."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from viommu.models import dma_tester

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = Path(__file__).parents[2] / "examples"
EDU, TESTER = "0000:00:11.0", "0000:00:12.0"


def ran(vendor: str, program: Path, *devices: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "viommu", "run", "--summary", "--config", str(EXAMPLES / f"machine_{vendor}.toml")]
    plugs = [f"--device={dma_tester.__file__}@{TESTER}"] if TESTER in devices else []
    words += [*plugs, "--", str(program), *devices]
    return subprocess.run(words, text=True, capture_output=True, timeout=120, check=False)


@pytest.mark.parametrize("vendor", ["smmuv3", "amd"])
def test_a_guests_own_queue_is_rung_without_a_call(client: Callable[[str], Path], vendor: str) -> None:
    done = ran(vendor, client(f"nested_{vendor}"), EDU)
    assert done.returncode == 0, done.stderr
    stores, commands = (re.search(rf"{row} +(\d+)", done.stderr) for row in ("guests, without exit", "their commands"))
    assert stores is not None
    assert int(stores[1]) > 400
    assert commands is not None
    assert int(commands[1]) > 1200


def test_a_guest_on_vtd_has_pages_brought_and_a_queue_that_the_host_consumes(client: Callable[[str], Path]) -> None:
    done = ran("vtd", client("nested_vtd"), EDU, TESTER)
    assert done.returncode == 0, done.stderr
