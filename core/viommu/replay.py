"""Replays captures: every recorded access through the hardware model, compared with its recorded verdict.

Each row stands for itself: nothing is cached between rows, and memory is the captured one for each of them.
"""

from __future__ import annotations

from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from attrs import Factory, define, field, frozen

from viommu._engine import NO_PASID
from viommu.addresses import PAGE_SIZE
from viommu.as_json import letters
from viommu.capture_rows import Verdict, same_fault
from viommu.departures import departures
from viommu.errors import CaptureError
from viommu.requests import Bounds
from viommu.translation import page_size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from viommu.capture import Capture
    from viommu.capture_rows import DisputedRow, RecordedRow
    from viommu.explain import Explanation
    from viommu.faults import Report
    from viommu.machine import Machine

SECTIONS = ("translations", "faults", "mutations")
"""What can be replayed; ``faults`` are the records provoked against these very tables."""

CHUNK = 1 << 16
"""Rows that are in memory at once."""

MISMATCHES = 10

Row = TypeVar("Row", bound="RecordedRow")


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
    """How one table of a capture compares. ``seconds`` were spent translating, comparing not counted."""

    name: str
    rows: int = 0
    agreed: int = 0
    departures: int = 0
    seconds: float = 0.0

    @property
    def disagreed(self) -> int:
        """Rows that neither agree nor are listed as departures of the recording."""
        return self.rows - self.agreed - self.departures

    def to_json(self) -> dict[str, int]:
        """Give it as JSON holds it."""
        return {"rows": self.rows, "agreed": self.agreed, "departures": self.departures}


@define
class Replay:
    """How one capture compares."""

    name: str
    driver: str
    sections: dict[str, Section] = Factory(dict)
    mismatches: list[Mismatch] = Factory(list)
    disputed: list[Disputed] = Factory(list)

    @property
    def agreed(self) -> bool:
        """Whether no row disagrees."""
        return not any(section.disagreed for section in self.sections.values())

    @property
    def seconds(self) -> float:
        """Time spent translating."""
        return sum(section.seconds for section in self.sections.values())

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON holds it; disputed rows are there only where the capture has some."""
        shown: dict[str, Any] = {"name": self.name, "driver": self.driver}
        shown |= {name: section.to_json() for name, section in self.sections.items()}
        shown |= {
            "seconds": round(self.seconds, 6),
            "mismatches": [mismatch.to_json() for mismatch in self.mismatches],
        }
        return shown | {"disputed": [row.to_json() for row in self.disputed]} if self.disputed else shown


def replay(
    capture: Capture,
    machine: Machine,
    sections: Sequence[str] = SECTIONS[:1],
    *,
    limit: int = MISMATCHES,
    progress: Callable[[int], None] = lambda _: None,
) -> Replay:
    """Replay sections of a capture on its machine; at most ``limit`` mismatches are kept and explained.

    ``progress`` is told how many rows were done since it was last called. Raises CaptureError, DriverBug.
    """
    return _Replayer(capture, machine, limit, progress).run(sections)


@define
class _Replayer:
    capture: Capture
    machine: Machine
    limit: int
    progress: Callable[[int], None]
    done: Replay = field(
        init=False, default=Factory(lambda self: Replay(self.capture.name, self.capture.driver), takes_self=True)
    )
    bounds: Bounds = field(init=False, default=Factory(lambda self: Bounds.of(self.machine.info), takes_self=True))

    def run(self, sections: Sequence[str]) -> Replay:
        for name in sections:
            section = self.done.sections.setdefault(name, Section(name))
            {"translations": self._translations, "faults": self._faults, "mutations": self._mutations}[name](section)
        return self.done

    def _translations(self, section: Section) -> None:
        for row, ours in self._probed(self.capture.translations(self.bounds), section):
            self._count(section, row, ours)
        for row, ours in self._probed(self.capture.disputed(self.bounds), Section("disputed")):
            self.done.disputed.append(Disputed(row, ours))

    def _faults(self, section: Section) -> None:
        for row, ours in self._probed(self.capture.faults_in_force(self.bounds), section):
            self._count(section, row, ours)

    def _mutations(self, section: Section) -> None:
        for row in self.capture.mutations(self.bounds):
            word = self.machine.memory.load(row.address)
            if word is None:
                raise CaptureError(
                    str(self.capture.path / "mutations.csv"),
                    f"row {row.number}",
                    "entry",
                    row.address,
                    "this page was not captured",
                )
            self._replace(row.address, word ^ 1 << row.bit)
            try:
                for _, ours in self._probed([row], section):
                    self._count(section, row, ours)
            finally:
                self._replace(row.address, word)

    def _replace(self, address: int, word: int) -> None:
        """Change one word of the tables, and let hardware forget the configuration it may have read there."""
        self.machine.memory.store(address, word)
        self.machine.translator.invalidate_contexts()

    def _probed(self, rows: Iterable[Row], section: Section) -> Iterator[tuple[Row, Verdict]]:
        """Translate rows in chunks, and give each with our verdict."""
        source = iter(rows)
        while chunk := list(islice(source, CHUNK)):
            yield from zip(chunk, self._verdicts(chunk, section), strict=True)
            self.progress(len(chunk))

    def _verdicts(self, rows: Sequence[RecordedRow], section: Section) -> list[Verdict]:
        asked = [row.asked for row in rows]
        columns = (
            np.array([one.requester for one in asked], np.uint32),
            np.array([one.iova for one in asked], np.uint64),
            np.array([int(one.access) for one in asked], np.uint8),
            self._pasids([one.pasid for one in asked]),
        )
        started = perf_counter()
        answer = self.machine.probe_many(*columns)
        section.seconds += perf_counter() - started
        verdicts = [
            Verdict("ok" if size else "bypass", pa, size)
            for pa, size in zip(answer.pa.tolist(), map(page_size_of, answer.page_lg2.tolist()), strict=True)
        ]
        for index, fault in answer.faults():
            verdicts[index] = reported(self.machine.report(fault))
        return verdicts

    @staticmethod
    def _pasids(pasids: Sequence[int | None]) -> NDArray[np.uint32] | None:
        if all(pasid is None for pasid in pasids):
            return None
        return np.array([NO_PASID if pasid is None else pasid for pasid in pasids], np.uint32)

    def _count(self, section: Section, row: RecordedRow, ours: Verdict) -> None:
        section.rows += 1
        differs = differences(row, ours)
        if not differs:
            section.agreed += 1
        elif (self.capture.name, section.name, row.number) in departures():
            section.departures += 1
        elif len(self.done.mismatches) < self.limit:
            explanation = self.machine.explain(row.asked.requester, row.asked.iova, row.asked.access, row.asked.pasid)
            self.done.mismatches.append(Mismatch(section.name, row, ours, differs, explanation))


def reported(report: Report) -> Verdict:
    """Say a driver's report in the words of captures."""
    return Verdict(report.outcome, fault=report.reason, record=report.record)


def differences(row: RecordedRow, ours: Verdict) -> tuple[str, ...]:
    """Name what differs, of all that was recorded; () where we agree.

    An access that was recorded as ``ok`` may have passed untranslated; its page size says so, if it is recorded.
    """
    recorded = row.recorded
    translated = recorded.outcome in {"ok", "bypass"}
    if ours.outcome != recorded.outcome and not (recorded.outcome == "ok" and ours.outcome == "bypass"):
        return ("outcome",)
    expected_pa = row.asked.iova if recorded.pa is None and recorded.outcome == "bypass" else recorded.pa
    checks = (
        ("pa", translated and expected_pa is not None and ours.pa != expected_pa),
        ("page_size", translated and not _same_page_size(recorded.page_size, ours.page_size)),
        ("fault", bool(recorded.fault) and not same_fault(recorded.fault, ours.fault)),
        ("record", recorded.record is not None and not _same_under_mask(recorded.record, row.record_mask, ours.record)),
    )
    return tuple(name for name, wrong in checks if wrong)


def _same_page_size(recorded: int | None, ours: int | None) -> bool:
    """Compare page sizes. An untranslated access has none; a recorder that works in pages calls it one of 4 KiB."""
    return recorded is None or recorded == ours or (ours == 0 and recorded == PAGE_SIZE)


def _same_under_mask(recorded: bytes, mask: bytes | None, ours: bytes | None) -> bool:
    if ours is None or len(ours) != len(recorded):
        return False
    counted = int.from_bytes(mask, "little") if mask is not None else -1
    return not (int.from_bytes(recorded, "little") ^ int.from_bytes(ours, "little")) & counted


def row_to_json(row: RecordedRow) -> dict[str, Any]:
    """Give the access of a row as JSON holds it."""
    asked = row.asked
    return {
        "row": row.number,
        "rid": hex(asked.requester),
        "pasid": None if asked.pasid is None else hex(asked.pasid),
        "iova": hex(asked.iova),
        "access": letters(asked.access),
    }


def verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    """Give a verdict as JSON holds it; what it does not say is left out."""
    shown = {
        "outcome": verdict.outcome,
        "pa": None if verdict.pa is None else hex(verdict.pa),
        "page_size": None if verdict.page_size is None else hex(verdict.page_size),
        "fault": verdict.fault or None,
        "record": None if verdict.record is None else verdict.record.hex(),
    }
    return {name: value for name, value in shown.items() if value is not None}
