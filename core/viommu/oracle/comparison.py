"""Two answers to one call: do they agree, and if not, where is the first difference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field, frozen

if TYPE_CHECKING:
    from viommu.oracle.recording import Answer, Record


@frozen
class Difference:
    """Where our answer to a call leaves the recorded one: ``what`` (ret, struct, ...), both values as text."""

    record: Record
    what: str
    recorded: str
    ours: str


@define
class Case:
    """One test or probe: its calls, how many agreed, the first difference."""

    file: str
    name: str
    calls: int = 0
    agreed: int = 0
    first: Difference | None = None
    learned: int = 0
    """Bytes of the program's own memory that were taken from the recording, since it does not tell stores."""
    assumed: list[str] = field(factory=list)
    """What the program was taken to have done unseen, so that a recorded answer follows."""
    unjudged: int = 0
    """Calls whose answer depends on what no recording tells."""
    judged: bool = field(default=False)
    """Whether it counts as a case (the set-up of probes does not)."""

    @property
    def group(self) -> str:
        """What cases like it have in common: the fixture of a test, the family of a probe."""
        return "probes" if "/" in self.name or ":" in self.name else self.name.partition(".")[0]

    @property
    def agrees(self) -> bool:
        """Whether every call agreed."""
        return self.first is None

    def count(self, difference: Difference | None) -> None:
        """Count one call."""
        self.calls += 1
        if difference is None:
            self.agreed += 1
        elif self.first is None:
            self.first = difference


def compare_answers(record: Record, ours: Answer) -> Difference | None:
    """Compare what was returned."""
    recorded = record.answer
    return None if recorded == ours else Difference(record, "answer", str(recorded), str(ours))


def compare_bytes(record: Record, what: str, recorded: bytes, ours: bytes) -> Difference | None:
    """Compare bytes; the difference begins at the first byte that differs."""
    if recorded == ours:
        return None
    where = next(
        (i for i, (a, b) in enumerate(zip(recorded, ours, strict=False)) if a != b), min(len(recorded), len(ours))
    )
    start = max(0, where // 8 * 8)
    return Difference(record, f"{what} at byte {where}", _cut(recorded, start), _cut(ours, start))


def _cut(data: bytes, start: int) -> str:
    piece = data[start : start + 24]
    return piece.hex() + ("..." if len(data) > start + 24 else "") if piece else "nothing"
