"""Replays a recording: every call in the order of `seq`, against a machine that has never seen it.

Where a recording tells nothing of memory, what differs may come from something that the program did unseen. Such
facts are tried (`proposals`): all calls are made again with one more of them, and it is taken for true if the call
agrees then and none before it ceases to. Each is told with its case.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from viommu.addresses import PAGE_SIZE
from viommu.errors import ViommuError, told
from viommu.oracle import memory_records
from viommu.oracle.blobs import blob_of, word
from viommu.oracle.calls import Caller
from viommu.oracle.circumstances import Circumstances
from viommu.oracle.comparison import Case, Difference
from viommu.oracle.probe_files import prepare_files
from viommu.oracle.probe_steps import READ_ONLY_PAGE
from viommu.oracle.processes import World
from viommu.oracle.proposals import proposals
from viommu.oracle.recording import RecordingError, read_records
from viommu.oracle.unrecorded import Unrecorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from viommu.oracle.circumstances import Assumption
    from viommu.oracle.processes import Process
    from viommu.oracle.recording import Record
    from viommu.oracle.subject import Subject

HUGE_PAGE = 2 << 20

TRIALS = 256
"""How many assumptions are tried for one recording."""

TRIED_CALLS = 1 << 20
"""How many calls are made again for them, about."""


def replay(path: Path, new_subject: Callable[[], Subject]) -> Iterator[Case]:
    """Give the cases of one recording, each when it is complete. Raises RecordingError."""
    run = _Run(str(path), new_subject)
    if _tells_memory(path):
        for record in read_records(path):
            run.take(record)
            yield from run.done()
    else:
        run = _with_assumptions(run, list(_with_results_in_place(list(read_records(path)))))
    run.finish()
    yield from run.done()


def _with_assumptions(run: _Run, records: list[Record]) -> _Run:
    """Make all calls, and again where an assumption about the program explains a difference; give the last run."""
    run.guess_memory(records)
    trials = 0
    while run.taken < len(records):
        difference = run.take(records[run.taken])
        if difference is None:
            continue
        for assumption in _proposed(records, run.taken - 1, difference):
            if trials == TRIALS or trials * run.taken > TRIED_CALLS:
                break
            trials += 1
            trial = run.tried_with(assumption, records)
            if trial is not None:
                run = trial
                break
    return run


def _proposed(records: list[Record], index: int, difference: Difference) -> list[Assumption]:
    with suppress(RecordingError):
        return list(proposals(records, index, difference))
    return []


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

    def __init__(self, file: str, new_subject: Callable[[], Subject], assumed: tuple[Assumption, ...] = ()) -> None:
        self._file = file
        self._new_subject = new_subject
        self._assumed = assumed
        self.taken = 0
        self.differing: set[int] = set()
        self._done: list[Case] = []
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

    def tried_with(self, assumption: Assumption, records: list[Record]) -> _Run | None:
        """Make the calls up to here again with one more assumption; None where that does not help."""
        trial = _Run(self._file, self._new_subject, (*self._assumed, assumption))
        trial._guessed, trial._is_guessing = self._guessed, True
        last = self.taken - 1
        for index in range(self.taken):
            if trial.take(records[index]) is not None and (index == last or index not in self.differing):
                return None
        return trial

    def done(self) -> list[Case]:
        """Take the cases that are complete."""
        done, self._done = self._done, []
        return done

    def take(self, record: Record) -> Difference | None:
        """Let one record happen."""
        if record.test != self._test:
            self.finish()
            self._begin(record.test)
        case = self._case(record)
        case.assumed.extend(each.text for each in self._assumed if each.explains == self.taken)
        difference = self._taken(record, case)
        if difference is not None:
            self.differing.add(self.taken)
        self.taken += 1
        return difference

    def _taken(self, record: Record, case: Case) -> Difference | None:
        if record.is_known and record.is_memory:
            wrong = _tried(record, lambda: memory_records.apply(self._world, record))
            if wrong is not None:
                case.count(wrong)
            return wrong
        if record.is_known and record.call == "result":
            case.judged = True
            return self._judge_result(case, record)
        difference = self._made(record) if record.is_known else self._unknown(case, record)
        case.count(difference)
        return difference

    def _unknown(self, case: Case, record: Record) -> Difference:
        case.judged = True
        return Difference(record, "call", record.call, "not made: this replay knows no such call")

    def _judge_result(self, case: Case, record: Record) -> Difference | None:
        judged = True

        def judge() -> Difference | None:
            nonlocal judged
            judged, difference = self._unrecorded.result(self._process(record), record)
            return difference

        difference = _tried(record, judge)
        if judged:
            case.count(difference)
        return difference

    def finish(self) -> None:
        """Close what the test left open, as the end of its processes does."""
        if self._test is None:
            return
        for process in self._world.processes.values():
            process.exit()
        self._test = None
        cases, self._cases = self._cases, {}
        self._done.extend(cases.values())

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
        if self._is_guessing:
            prepare_files(process, record)
        if record.probe:
            self._unrecorded.before(process, record)

    def _made(self, record: Record) -> Difference | None:
        def make() -> Difference | None:
            process = self._process(record)
            self._before(process, record)
            circumstances = Circumstances.named(record)
            for assumption in self._assumed:
                if assumption.at == self.taken:
                    assumption.come_true(process)
                    circumstances = assumption.circumstances or circumstances
            return self._caller.make(process, record, circumstances)

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
        address = word(struct, 16)
        if READ_ONLY_PAGE.search(record.probe):
            yield "read-only", address // PAGE_SIZE
        if address and address % HUGE_PAGE == 0:
            yield "huge", address // PAGE_SIZE
