"""Reads a recording's memory and accesses for the oracle: independent of `viommu.replay.run`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from .memory import PAGE, Memory

DATA = Path(__file__).parents[1] / "data"


def load_memory(capture: Path) -> Memory:
    """The captured pages, as words."""
    memory = Memory()
    with np.load(capture / "memory.npz") as archive:
        starts = archive["gpa"].tolist()
        pages = archive["page"].view("<u8").tolist()
    for start, words in zip(starts, pages, strict=True):
        memory.add_pages(start, 1)
        memory.words.update(zip(range(start, start + PAGE, 8), words, strict=True))
    return memory


def load_registers(capture: Path) -> dict[str, int]:
    """Register values by name."""
    manifest = json.loads((capture / "manifest.json").read_text())
    return {name: int(register["value"], 16) for name, register in manifest["registers"].items()}


def load_rows(capture: Path, table: str = "translations.csv") -> list[dict[str, str]]:
    """The rows of one table."""
    with (capture / table).open(newline="") as file:
        return list(csv.DictReader(file))
