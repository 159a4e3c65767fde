"""A program in C owns a dma-tester behind each vendor's IOMMU, and uses all that it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.service.test_devices import ran
from viommu.models import dma_tester

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ADDRESS = "0000:00:10.0"


@pytest.mark.parametrize(
    ("driver", "options", "words"),
    [
        ("vtd", "", ("pasid",)),
        ("vtd", "", ("mapped", "pri")),
        ("smmuv3_cmdqv", "", ("mapped", "pasid")),
        ("smmuv3_cmdqv", ",stalls=yes", ("stall",)),
        ("amd_viommu", "", ("mapped",)),
        ("amd_viommu", "", ("throughput",)),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else value.strip(",") or "plain",
)
def test_a_program_uses_all_that_a_tester_has(
    client: Callable[[str], Path], driver: str, options: str, words: tuple[str, ...]
) -> None:
    done = ran(driver, f"{dma_tester.__file__}@00:10.0{options}", client("dma_tester"), ADDRESS, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("MiB/s" in done.stdout) == ("throughput" in words)
