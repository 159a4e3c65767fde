"""The recordings that judge this driver: what the official reference model made of accesses and commands."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING

from viommu.captures.capture import load
from viommu.drivers import bind_plugin

from viommu_riscv import driver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu import Machine

FOLDER = Path(__file__).parents[3] / "tests" / "data" / "captures-riscv"
CAPTURES = sorted(path.parent for path in FOLDER.glob("*/manifest.json"))
BOUND = bind_plugin(driver)


def machine_of(folder: Path) -> Machine:
    """Put the recorded tables and registers before our IOMMU."""
    return load(folder).machine(BOUND)


def rows(folder: Path, name: str = "translations.csv") -> Iterator[dict[str, str]]:
    """Give the rows of a table."""
    with (folder / name).open(newline="") as file:
        yield from csv.DictReader(file)


def registers(folder: Path) -> dict[str, int]:
    """Give the recorded registers."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return {name: int(found["value"], 16) for name, found in manifest["registers"].items()}
