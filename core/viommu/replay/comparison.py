"""How captures compare: what `viommu.replay.run` finds, as values and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import Factory, define, frozen

from viommu.replay.verdicts import row_to_json, verdict_to_json

if TYPE_CHECKING:
    from viommu.captures.rows import DisputedRow, RecordedRow, Verdict
    from viommu.explain import Explanation
    from viommu.replay.described import Misread


@frozen
class Mismatch:
    """A row on which we differ from the recording. ``explanation`` None: the limit was reached before it."""

    section: str
    row: RecordedRow
    ours: Verdict
    differs: tuple[str, ...]
    explanation: Explanation | None = None

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON holds it."""
        return {
            "section": self.section,
            **row_to_json(self.row),
            "differs": list(self.differs),
            "recorded": verdict_to_json(self.row.recorded),
            "ours": verdict_to_json(self.ours),
            "walk": None if self.explanation is None else self.explanation.to_json(),
        }


@frozen
class Disputed:
    """A disputed row, with our verdict; it counts for nothing."""

    row: DisputedRow
    ours: Verdict

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON holds it."""
        return {
            **row_to_json(self.row),
            "recorded": verdict_to_json(self.row.recorded),
            "second_walker": self.row.second_walker,
            "note": self.row.note,
            "ours": verdict_to_json(self.ours),
        }


@define
class Section:
    """How one table of a capture compares. ``seconds`` were spent translating, comparing not counted.

    ``unjudged`` rows lead to memory that was not captured: what is there decided the recorded outcome.
    """

    name: str
    rows: int = 0
    agreed: int = 0
    departures: int = 0
    unjudged: int = 0
    seconds: float = 0.0

    @property
    def disagreed(self) -> int:
        """Rows that disagree, without a rule of the architecture that says why."""
        return self.rows - self.agreed - self.departures - self.unjudged

    def to_json(self) -> dict[str, int]:
        """Give it as JSON holds it: ``rows`` are those that were judged. Only mutations can be unjudged."""
        shown = {"rows": self.rows - self.unjudged, "agreed": self.agreed, "departures": self.departures}
        return shown | ({"unjudged": self.unjudged} if self.name == "mutations" else {})


@define
class Replay:
    """How one capture compares. ``notes`` say what could not be compared."""

    name: str
    driver: str
    sections: dict[str, Section] = Factory(dict)
    mismatches: list[Mismatch | Misread] = Factory(list)
    disputed: list[Disputed] = Factory(list)
    notes: list[str] = Factory(list)

    @property
    def agreed(self) -> bool:
        """Whether no row disagrees."""
        return not any(section.disagreed for section in self.sections.values())

    @property
    def seconds(self) -> float:
        """Time spent translating."""
        return sum(section.seconds for section in self.sections.values())

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON holds it; disputed rows and notes are there only where the capture has some."""
        shown: dict[str, Any] = {"name": self.name, "driver": self.driver}
        shown |= {name: section.to_json() for name, section in self.sections.items()}
        shown |= {
            "seconds": round(self.seconds, 6),
            "mismatches": [mismatch.to_json() for mismatch in self.mismatches],
        }
        if self.disputed:
            shown["disputed"] = [row.to_json() for row in self.disputed]
        if self.notes:
            shown["notes"] = list(self.notes)
        return shown
