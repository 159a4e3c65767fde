"""What a run found: a table for people, JSON for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen
from rich.table import Table

from tools.bench.goals import verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tools.bench.goals import Goal, Limit
    from tools.bench.paths import Measured

NOT_MEASURED = {"median": None, "min": None, "max": None}
WORDS = {True: "yes", False: "no", None: "-"}


@frozen
class Row:
    """One goal, and what was measured; ``measured`` None: its path is not there."""

    goal: Goal
    measured: Measured | None
    values: list[float | None]

    @classmethod
    def of(cls, goal: Goal, found: Mapping[str, Measured], figures: Mapping[str, float]) -> Row:
        """Judge one goal by its group's measurements."""
        own = found.get(goal.path)
        if own is None:
            return cls(goal, None, [None for _ in goal.limits])
        medians = {name: measured.median for name, measured in found.items()}
        return cls(goal, own, [limit.value(own.median, medians, figures) for limit in goal.limits])

    def held(self, which: str) -> list[bool | None]:
        """Whether each limit's ``must`` or ``aim`` holds."""
        return [
            limit.holds(value, getattr(limit, which))
            for limit, value in zip(self.goal.limits, self.values, strict=True)
        ]

    @property
    def met(self) -> bool | None:
        """Whether all that must hold does; None where that was not measured."""
        return verdict(self.held("must"))

    def as_json(self) -> dict[str, Any]:
        """Say it for programs."""
        limits = self.goal.limits
        ratios = {
            limit.name: None if value is None else round(value, 3)
            for limit, value in zip(limits, self.values, strict=True)
        }
        return {
            "goal": self.goal.goal,
            "path": f"{self.goal.path} ({self.goal.group})",
            "unit": self.goal.unit,
            "ns": self.measured.as_json() if self.measured and self.goal.unit == "ns" else NOT_MEASURED,
            "ratios": ratios,
            "met": self.met,
            "aim_met": verdict(self.held("aim")),
            "limits": [
                {
                    "of": limit.name,
                    "figure": limit.figure is not None,
                    "least": limit.at_least,
                    "must": limit.must,
                    "aim": limit.aim,
                }
                for limit in limits
            ],
        }


def _bound(limit: Limit, bound: float | None) -> str:
    return "" if bound is None else f"{'>=' if limit.at_least else '<='} {bound:,.10g}"


def _said(limit: Limit, value: float | None) -> str:
    if value is None:
        return f"not measured: {limit.name}"
    if limit.figure is not None:
        return f"{value:,.1f} {limit.name}"
    return f"{limit.name} / it = {value:.2f}" if limit.at_least else f"{value:.2f} x {limit.name}"


def table_of(rows: Iterable[Row]) -> Table:
    """Lay the rows out for a person: a line for each limit."""
    table = Table("goal", "path", "ns: median", "min", "max", "beside", "must", "aim", "met")
    for row in rows:
        timed = row.measured if row.goal.unit == "ns" else None
        times = [f"{ns:,.1f}" for ns in timed.as_json().values()] if timed else ["-", "-", "-"]
        head = [row.goal.goal, f"{row.goal.path} ({row.goal.group})", *times]
        limits = zip(row.goal.limits, row.values, row.held("must"), strict=True)
        for number, (limit, value, held) in enumerate(limits):
            last = number == len(row.goal.limits) - 1
            table.add_row(
                *(["", "", "", "", ""] if number else head),
                _said(limit, value),
                _bound(limit, limit.must),
                _bound(limit, limit.aim),
                "" if limit.must is None else WORDS[held],
                end_section=last,
            )
    return table
