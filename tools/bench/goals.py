"""The goals, as `goals.toml` states them, and whether a run's medians meet them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

ELSEWHERE = ("instructions",)
"""Figures that are not what a path gives, but counted by another tool."""
TABLE = Path(__file__).with_name("goals.toml")


@frozen
class Limit:
    """One bound: ``must`` holds, ``aim`` would be better still. It has a ``figure``, or is about ``peers``.

    Without a bound it is a comparison that is only shown.
    """

    peers: tuple[str, ...]
    figure: str | None
    at_least: bool
    must: float | None
    aim: float | None

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Limit:
        """Read one of `goals.toml`."""
        peer = raw.get("peer", [])
        return cls(
            (peer,) if isinstance(peer, str) else tuple(peer),
            raw.get("figure"),
            "at_most" not in raw,
            raw.get("at_most", raw.get("at_least")),
            raw.get("aim"),
        )

    @property
    def name(self) -> str:
        """What the path is compared with."""
        return self.figure or (self.peers[0] if len(self.peers) == 1 else "the fastest")

    def value(self, path: float, medians: Mapping[str, float], figures: Mapping[str, float]) -> float | None:
        """Give the ratio, or the figure; None where a peer was not measured."""
        if self.figure is not None:
            return figures.get(self.figure, None if self.figure in ELSEWHERE else path)
        there = [medians[peer] for peer in self.peers if peer in medians]
        if not there:
            return None
        return min(there) / path if self.at_least else path / min(there)

    def holds(self, value: float | None, bound: float | None) -> bool | None:
        """Whether a value keeps a bound; None where there is no value."""
        if bound is None:
            return True
        if value is None:
            return None
        return value >= bound if self.at_least else value <= bound


@frozen
class Goal:
    """One row: a path of a group, and its limits. ``unit`` is what its figure counts."""

    goal: str
    group: str
    path: str
    limits: tuple[Limit, ...]
    unit: str = "ns"


def load() -> list[Goal]:
    """Read every goal, in the order of the table."""
    rows = tomllib.loads(TABLE.read_text())["row"]
    return [Goal(**{**row, "limits": tuple(Limit.of(limit) for limit in row["limits"])}) for row in rows]


def verdict(held: list[bool | None]) -> bool | None:
    """Sum up limits: one that fails decides; else one that was not measured leaves it open."""
    if False in held:
        return False
    return None if None in held else True
