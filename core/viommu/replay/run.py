"""Replays captures: every recorded access through the hardware model, compared with its recorded verdict.

Each row stands for itself: nothing is cached between rows, and memory is the captured one for each of them.
"""

from __future__ import annotations

from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from attrs import Factory, define, field

from viommu._engine import NO_PASID
from viommu.captures.capture import MUTATIONS
from viommu.errors import CaptureError
from viommu.replay.comparison import Disputed, Mismatch, Replay, Section
from viommu.replay.departure_rules import Case
from viommu.replay.departures import departures
from viommu.replay.described import Misread, read_as
from viommu.replay.verdicts import OurVerdict, differences, reported
from viommu.requests import Bounds
from viommu.translation import page_size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from viommu.captures.capture import Capture
    from viommu.captures.rows import DescribedRow, FaultRow, MutatedRow, RecordedRow
    from viommu.machine import Machine

__all__ = ["SECTIONS", "Disputed", "Mismatch", "Replay", "Section", "replay"]

SECTIONS = ("translations", "commands", "faults", "mutations")
"""What a capture holds, as its files are named."""

CHUNK = 1 << 16
"""Rows that are in memory at once."""

MISMATCHES = 10

Item = TypeVar("Item")
Row = TypeVar("Row", bound="RecordedRow")


def replay(
    capture: Capture,
    machine: Machine,
    sections: Sequence[str] = SECTIONS,
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
        replayers = {
            "translations": self._translations,
            "commands": self._commands,
            "faults": self._faults,
            "mutations": self._mutations,
        }
        for name in sections:
            replayers[name](self.done.sections.setdefault(name, Section(name)))
        return self.done

    def _translations(self, section: Section) -> None:
        for row, ours in self._probed(self.capture.translations(self.bounds), section):
            self._count(section, row, ours)
        for row, ours in self._probed(self.capture.disputed(self.bounds), Section("disputed")):
            self.done.disputed.append(Disputed(row, ours))

    def _commands(self, section: Section) -> None:
        if not self._explains("command", section):
            return
        for chunk in self._chunks(self.capture.commands(self.bounds)):
            for row in chunk:
                if self._reads(row, "command", section):
                    section.rows += 1
                    section.agreed += 1

    def _faults(self, section: Section) -> None:
        explained = self._explains("event", section)
        for chunk in self._chunks(self.capture.faults(self.bounds)):
            provoked = [row.provoked for row in chunk if row.provoked is not None]
            verdicts = iter(self._verdicts(provoked, section))
            for row in chunk:
                self._fault(section, row, None if row.provoked is None else next(verdicts), explained)

    def _fault(self, section: Section, row: FaultRow, ours: OurVerdict | None, explained: bool) -> None:
        """Judge one record: as bytes, and as what an access makes our model write. It counts as one row."""
        if explained and not self._reads(row.described, "event", section):
            return
        if row.provoked is not None and ours is not None:
            self._count(section, row.provoked, ours)
        elif explained:
            section.rows += 1
            section.agreed += 1

    def _explains(self, kind: str, section: Section) -> bool:
        """Whether the driver explains such bytes; where it does not, that is noted, unless there are none anyhow."""
        if kind in self.machine.driver.kinds():
            return True
        if self.capture.has(f"{section.name}.csv"):
            driver = self.machine.info.name
            self.done.notes.append(f"{section.name} are not decoded: driver {driver} does not explain the kind {kind}")
        return False

    def _reads(self, row: DescribedRow, kind: str, section: Section) -> bool:
        """Whether the driver makes of recorded bytes what the recording says they are. Where not, count the row."""
        started = perf_counter()
        decoded, differs = read_as(self.machine.driver, kind, row)
        section.seconds += perf_counter() - started
        if not differs:
            return True
        section.rows += 1
        misread = Misread(section.name, row, decoded, differs)
        if departures().layout_reason(self.capture.name, self.machine.info.name, misread) is not None:
            section.departures += 1
        elif len(self.done.mismatches) < self.limit:
            self.done.mismatches.append(misread)
        return False

    def _mutations(self, section: Section) -> None:
        for row in self.capture.mutations(self.bounds):
            word = self.machine.memory.load(row.address)
            if word is None:
                raise CaptureError(
                    str(self.capture.path / MUTATIONS),
                    f"row {row.number}",
                    "entry",
                    row.address,
                    "this page was not captured",
                )
            self._mutated(section, row, word)

    def _mutated(self, section: Section, row: MutatedRow, word: int) -> None:
        def unmutated() -> OurVerdict:
            self._replace(row.address, word)
            try:
                return self._verdicts([row], Section("unmutated"))[0]
            finally:
                self._replace(row.address, word ^ 1 << row.bit)

        self._replace(row.address, word ^ 1 << row.bit)
        try:
            for _, ours in self._probed([row], section):
                self._count(section, row, ours, word, unmutated)
        finally:
            self._replace(row.address, word)

    def _replace(self, address: int, word: int) -> None:
        """Change one word of the tables, and let hardware forget the configuration it may have read there."""
        self.machine.memory.store(address, word)
        self.machine.translator.invalidate_contexts()

    def _chunks(self, rows: Iterable[Item]) -> Iterator[list[Item]]:
        source = iter(rows)
        while chunk := list(islice(source, CHUNK)):
            yield chunk
            self.progress(len(chunk))

    def _probed(self, rows: Iterable[Row], section: Section) -> Iterator[tuple[Row, OurVerdict]]:
        """Translate rows in chunks, and give each with our verdict."""
        for chunk in self._chunks(rows):
            yield from zip(chunk, self._verdicts(chunk, section), strict=True)

    def _verdicts(self, rows: Sequence[RecordedRow], section: Section) -> list[OurVerdict]:
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
            OurVerdict("ok" if size else "bypass", pa, size)
            for pa, size in zip(answer.pa.tolist(), map(page_size_of, answer.page_lg2.tolist()), strict=True)
        ]
        for index, fault in answer.faults():
            verdicts[index] = reported(self.machine.report(fault), fault)
        return verdicts

    @staticmethod
    def _pasids(pasids: Sequence[int | None]) -> NDArray[np.uint32] | None:
        if all(pasid is None for pasid in pasids):
            return None
        return np.array([NO_PASID if pasid is None else pasid for pasid in pasids], np.uint32)

    def _count(
        self,
        section: Section,
        row: RecordedRow,
        ours: OurVerdict,
        word: int | None = None,
        unmutated: Callable[[], OurVerdict] | None = None,
    ) -> None:
        section.rows += 1
        differs = differences(row, ours)
        if not differs:
            section.agreed += 1
            return
        case = Case(self.machine.info.name, self.machine.registers, section.name, row, ours, word, unmutated)
        if departures().reason(self.capture.name, case) is not None:
            section.departures += 1
        elif word is not None and ours.hole is not None and row.recorded.outcome == "fault":
            section.unjudged += 1
        elif len(self.done.mismatches) < self.limit:
            explanation = self.machine.explain(row.asked.requester, row.asked.iova, row.asked.access, row.asked.pasid)
            self.done.mismatches.append(Mismatch(section.name, row, ours, differs, explanation))
