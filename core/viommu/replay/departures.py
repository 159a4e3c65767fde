"""Rows in which a recording departs from the architecture: single ones with their reason, and rules for the rest."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from attrs import field, frozen

from viommu.replay.departure_rules import NO_FIELD, LayoutRule, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from viommu.replay.departure_rules import Case
    from viommu.replay.described import Misread


@frozen
class Departures:
    """What is known. ``rows``: (capture, section, row) -> the specification's rule; rows count from 1."""

    rows: Mapping[tuple[str, str, int], str] = field(factory=dict)
    rules: tuple[Rule, ...] = ()
    layout_rules: tuple[LayoutRule, ...] = ()

    def reason(self, capture: str, case: Case) -> str | None:
        """Give the specification's rule that a recorded row contradicts; None where none is known."""
        listed = self.rows.get((capture, case.section, case.row.number))
        if listed is not None:
            return listed
        return next((rule.specification for rule in self.rules if rule.excuses(case)), None)

    def layout_reason(self, capture: str, driver: str, misread: Misread) -> str | None:
        """Give the specification's rule that a recording's reading of bytes contradicts; None where none is known."""
        listed = self.rows.get((capture, misread.section, misread.row.number))
        if listed is not None:
            return listed
        return next((rule.specification for rule in self.layout_rules if rule.excuses(driver, misread)), None)


@cache
def departures() -> Departures:
    """Read the lists that viommu ships (those in ``docs/`` of a checkout are the same files)."""
    rows = {(row["capture"], row["section"], int(row["row"])): row["specification"] for row in _read("departures.csv")}
    rules = list(_read("departure_rules.csv"))
    return Departures(
        rows,
        tuple(Rule.parse(row) for row in rules if not row["ours"].startswith(NO_FIELD)),
        tuple(LayoutRule.parse(row) for row in rules if row["ours"].startswith(NO_FIELD)),
    )


def _read(name: str) -> Iterator[dict[str, str]]:
    text = files("viommu").joinpath("data", name).read_text(encoding="utf-8")
    return iter(csv.DictReader(text.splitlines()))
