"""Replays a recording: every call in the order of `seq`, against a machine that has never seen it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from viommu.addresses import PAGE_SIZE
from viommu.errors import ViommuError, told
from viommu.oracle import memory_records
from viommu.oracle.blobs import blob_of
from viommu.oracle.calls import Caller
from viommu.oracle.comparison import Case, Difference
from viommu.oracle.probe_files import prepare_files
from viommu.oracle.probe_steps import READ_ONLY_PAGE
from viommu.oracle.processes import World
from viommu.oracle.recording import RecordingError, read_records
from viommu.oracle.unrecorded import Unrecorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from viommu.oracle.processes import Process
    from viommu.oracle.recording import Record
    from viommu.oracle.subject import Subject

HUGE_PAGE = 2 << 20


def replay(path: Path, new_subject: Callable[[], Subject]) -> Iterator[Case]:
    """Give the cases of one recording, each when it is complete. Raises RecordingError."""
    run = _Run(str(path), new_subject)
    if _tells_memory(path):
        for record in read_records(path):
            yield from run.take(record)
    else:
        records = list(read_records(path))
        run.guess_memory(records)
        for record in _with_results_in_place(records):
            yield from run.take(record)
    yield from run.finish()


def _with_results_in_place(records: list[Record]) -> Iterator[Record]:
    """Put what probes resulted in, which recorders write last, behind the calls of each probe.

    A probe without a recorded call comes after the one before it.
    """
    results = [record for record in records if record.call == "result"]
    calls = [record for record in records if record.call != "result"]
    ends = {record.case: index for index, record in enumerate(calls)}
    after: dict[int, list[Record]] = {}
    place = -1
    for result in results:
        place = max(ends.get(result.case, place), place)
        after.setdefault(place, []).append(result)
    yield from after.get(-1, ())
    for index, record in enumerate(calls):
        yield record
        yield from after.get(index, ())


def _tells_memory(path: Path) -> bool:
    """Whether the recording begins with memory records, as those that have any do."""
    return next((record.is_memory for record in read_records(path)), True)


class _Run:
    """One recording on its way: the machine and the processes of the test, the case that is open."""

    def __init__(self, file: str, new_subject: Callable[[], Subject]) -> None:
        self._file = file
        self._new_subject = new_subject
        self._test: str | None = None
        self._cases: dict[str, Case] = {}
        self._guessed: list[tuple[str, int]] = []
        self._is_guessing = False

    def guess_memory(self, records: list[Record]) -> None:
        """Where nothing is told of memory: all of it exists but what inputs, or a probe's name, show to be missing.

        What is mapped at a multiple of 2 MiB is a huge page, for that is where programs have those.
        """
        self._is_guessing = True
        for record in records:
            if record.call == "ioctl" and record.has("in"):
                with suppress(RecordingError):  # it is told when the call is to be made
                    self._guessed.extend(_hints(record))

    def take(self, record: Record) -> Iterator[Case]:
        """Let one record happen."""
        if record.test != self._test:
            yield from self.finish()
            self._begin(record.test)
        case = self._case(record)
        if not record.is_known:
            case.judged = True
            case.count(Difference(record, "call", record.call, "not made: this replay knows no such call"))
        elif record.is_memory:
            wrong = _tried(record, lambda: memory_records.apply(self._world, record))
            if wrong is not None:
                case.count(wrong)
        elif record.call == "result":
            case.judged = True
            self._judge_result(case, record)
        else:
            case.count(self._made(record))

    def _judge_result(self, case: Case, record: Record) -> None:
        judged = True

        def judge() -> Difference | None:
            nonlocal judged
            judged, difference = self._unrecorded.result(self._process(record), record)
            return difference

        difference = _tried(record, judge)
        if judged:
            case.count(difference)

    def finish(self) -> Iterator[Case]:
        """Close what the test left open, as the end of its processes does."""
        if self._test is None:
            return
        for process in self._world.processes.values():
            process.exit()
        self._test = None
        cases, self._cases = self._cases, {}
        yield from cases.values()

    def _begin(self, test: str) -> None:
        self._test = test
        self._world = World()
        self._caller = Caller(self._new_subject())
        self._unrecorded = Unrecorded(self._caller.subject)

    def _case(self, record: Record) -> Case:
        case = self._cases.get(record.case)
        if case is None:
            case = Case(self._file, record.case, judged=not record.probe)
            self._cases[record.case] = case
        return case

    def _process(self, record: Record) -> Process:
        process = self._world.process(record.process)
        if self._is_guessing and not process.everything_mapped:
            process.everything_mapped = True
            for kind, page in self._guessed:
                process.guess(kind, page)
        return process

    def _before(self, process: Process, record: Record) -> None:
        if record.probe:
            prepare_files(process, record)
            self._unrecorded.before(process, record)

    def _made(self, record: Record) -> Difference | None:
        def make() -> Difference | None:
            process = self._process(record)
            self._before(process, record)
            return self._caller.make(process, record)

        difference = _tried(record, make)
        self._case(record).learned = self._caller.learned
        return difference


_BREAKS = (ViommuError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError, AssertionError)
"""What an implementation that is judged may raise where it should answer."""


def _tried(record: Record, act: Callable[[], Difference | None]) -> Difference | None:
    """Make a call; what goes wrong with it is told as its difference, and the replay goes on."""
    try:
        return act()
    except RecordingError as error:
        return Difference(record, "record", str(error), "not made")
    except _BREAKS as error:
        return Difference(record, "exception", str(record.fields.get("errno")), told(error))


def _hints(record: Record) -> Iterator[tuple[str, int]]:
    """Pages that one input shows to be missing, or that the probe's name says cannot be written."""
    struct = record.blob("in")
    blob = blob_of(record, struct)
    given = record.fields.get("data_in")
    if blob is not None and isinstance(given, str) and given != "EFAULT":
        end = blob.address + len(given) // 2
        if len(given) // 2 < blob.length and end % PAGE_SIZE == 0:
            yield "unmapped", end // PAGE_SIZE
    if record.fields.get("name") == "IOMMU_IOAS_MAP" and len(struct) >= 24:
        address = int.from_bytes(struct[16:24], "little")
        if READ_ONLY_PAGE.search(record.probe):
            yield "read-only", address // PAGE_SIZE
        if address and address % HUGE_PAGE == 0:
            yield "huge", address // PAGE_SIZE
