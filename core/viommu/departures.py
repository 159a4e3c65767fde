"""Rows in which a recording departs from the architecture, listed one by one with the rule that says so."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TypeAlias

Departures: TypeAlias = Mapping[tuple[str, str, int], str]
"""(capture, section, row) -> the specification's rule. Rows count from 1, the header not among them."""


@cache
def departures() -> Departures:
    """Read the list that viommu ships (``docs/departures.csv`` of a checkout is the same file)."""
    text = files("viommu").joinpath("data/departures.csv").read_text(encoding="utf-8")
    return {
        (row["capture"], row["section"], int(row["row"])): row["specification"]
        for row in csv.DictReader(text.splitlines())
    }
