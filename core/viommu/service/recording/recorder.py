"""Writes the course of a service down, one event after the other."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from itertools import count
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import structlog

from viommu.addresses import PAGE_SIZE
from viommu.iommufd.fd import IommuFd
from viommu.service.course import Course
from viommu.service.recording.contents import contents_of
from viommu.service.recording.events import Event, Outcome, Side, What
from viommu.service.recording.lines import LineWriter
from viommu.service.recording.memory import RecordedMemory
from viommu.service.recording.processes import RecordedProgram, number_among
from viommu.service.recording.shown import ShownMemory
from viommu.service.wire import Op

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from viommu.iommufd.user_memory import PageRun
    from viommu.memory import PhysicalMemory
    from viommu.objects.mmap import Region, RegisterMapping
    from viommu.register_watch import SharedPage
    from viommu.service.calls import Caller
    from viommu.service.config import MachineConfig, Made
    from viommu.service.files import Files, Served
    from viommu.service.programs import Program
    from viommu.service.wire import Packet
    from viommu.vfio.uapi import Irq

log = structlog.get_logger()

FORMAT = 1
QUESTIONS: dict[int, What] = {
    Op.OPEN: What.OPEN,
    Op.IOCTL: What.IOCTL,
    Op.READ: What.READ,
    Op.WRITE: What.WRITE,
    Op.MAP: What.MAP,
    Op.LOAD: What.LOAD,
    Op.STORE: What.STORE,
}


class Recorder(Course):
    """Records a machine, from the start, into a file.

    One thing happens at a time on a machine that is recorded: whose ``turn`` it is holds up everybody else.
    """

    takes_no_note = False

    def __init__(self, path: Path, config: MachineConfig) -> None:
        """Make a machine, begin a file, and stand between the two. Raises OSError, and as `MachineConfig.make`."""
        self._shown = ShownMemory()
        self.made = config.make(self._shown)
        self.turn = RLock()
        self.error: OSError | None = None
        """Why the rest of the run is not in the file."""
        self._lines = LineWriter(path)
        self._memory = RecordedMemory()
        self._shown.shower = self._memory
        self._began = time.monotonic()
        self._event: Event | None = None
        self._events = 0
        self._files: Files | None = None
        self._programs: dict[Program, tuple[int, RecordedProgram]] = {}
        self._program_numbers = count()
        self._mappings: dict[Region, int] = {}
        self._mapping_numbers = count()
        self._lent = count()
        self._write(
            {"viommu": "recording", "format": FORMAT, "version": version("viommu"), "machine": config.to_document()}
        )
        for line in contents_of(config):
            self._write(line)
        self._listen(self.made)

    def _listen(self, made: Made) -> None:
        made.machine.watch.take_turns(self.turn)
        made.machine.watch.around = self._storing
        for number, function in enumerate(made.devices):
            function.bus.later.turn = self.turn
            function.bus.later.around = partial(self._working, number)
            function.interrupts.told = partial(self._interrupted, number)

    # --- what comes from outside

    def begin(self, files: Files) -> None:
        """Take note of the files that are served."""
        self._files = files

    def memory_of_programs(self, memory: PhysicalMemory) -> PhysicalMemory:  # noqa: ARG002
        """Give the memory that the machine's is shown from."""
        return self._memory.real

    def answered(self, program: Program, question: Packet, act: Callable[[Caller], Packet]) -> Packet:
        """Have a question answered, and take it down."""
        what = QUESTIONS.get(question.op)
        if what is None:
            return act(program)
        number, recorded = self._known(program)
        data = question.payload if what is What.STORE else b""
        with self._taking(Event(what, self._now, number, question.words, data)) as event:
            answer = act(recorded)
            words: tuple[int, ...] = answer.words
            if what is What.OPEN and answer.fd is not None:
                words = (os.fstat(answer.fd).st_ino,)
            elif what is What.MAP and not answer.result:
                words = (words[0], self._mapped(question))
            event.outcome = (
                Outcome(answer.result) if what is What.IOCTL else Outcome(answer.result, words, answer.payload)
            )
            return answer

    @contextmanager
    def closing(self, served: Served) -> Iterator[None]:
        """Take the release of a file down."""
        with self._taking(Event(What.CLOSE, self._now, words=(served.number,))) as event:
            yield
            event.outcome = Outcome(0)

    @contextmanager
    def unmapping(self, mapping: RegisterMapping) -> Iterator[None]:
        """Take the end of a mapping down."""
        number = self._mappings.pop(mapping.region, None)
        with self._taking(Event(What.UNMAP, self._now, words=() if number is None else (number,))) as event:
            yield
            event.outcome = Outcome(0)

    @contextmanager
    def _storing(self, page: SharedPage, stores: Sequence[tuple[int, int, int]]) -> Iterator[None]:
        number = next((number for region, number in self._mappings.items() if region.page is page), None)
        words = () if number is None else (number,)
        with self._taking(Event(What.STORES, self._now, words=words, stores=list(stores))) as event:
            yield
            event.outcome = Outcome(0)

    @contextmanager
    def _working(self, device: int, number: int) -> Iterator[None]:
        with self._taking(Event(What.WORK, self._now, words=(device, number))) as event:
            yield
            event.outcome = Outcome(0)

    def end(self) -> None:
        """End the file: it is whole."""
        with self.turn:
            self._write({"end": self._events, "at": self._now})
            try:
                self._lines.close()
            except OSError as error:
                self._failed(error)

    # --- what it does with it

    def _interrupted(self, device: int, irq: Irq, vector: int) -> None:
        if self._event is not None:
            self._event.interrupts.append((device, int(irq), vector))

    def asked(self, side: Side) -> None:
        """Take down what a program was asked."""
        event = self._event
        if event is not None and event.takes(len(side.data or b"") + 8 * len(side.answer or ())):
            event.sides.append(side)

    def show(self, runs: Iterable[PageRun]) -> Sequence[PageRun]:
        """Give pages as the machine is to see them."""
        return self._shown.show((run.frame * PAGE_SIZE, run.count, run) for run in runs)

    def number_of(self, file: object) -> int | None:
        """Give the number of a file of ours."""
        return None if self._files is None else number_among(self._files.served, file)

    def lend(self) -> int:
        """Give a number to a file of a program's."""
        return next(self._lent)

    def _known(self, program: Program) -> tuple[int, RecordedProgram]:
        if program not in self._programs:
            for ended in [one for one in self._programs if not one.connections and not one.alive]:
                del self._programs[ended]
            number = next(self._program_numbers)
            self._programs[program] = number, RecordedProgram(program, self)
            self._write({"program": number, "pid": program.pid, "name": _name_of(program.pid), "at": self._now})
        return self._programs[program]

    def _mapped(self, question: Packet) -> int:
        """Give the number of the mapping that a question has asked for; registers of devices have none."""
        served = None if self._files is None else self._files.find(question.words[0])
        if served is None or not isinstance(served.file, IommuFd):
            return 0
        region = served.file.context.offsets.find(question.words[3])
        if region is None:
            return 0
        if region not in self._mappings:
            self._mappings[region] = next(self._mapping_numbers)
        return self._mappings[region]

    @contextmanager
    def _taking(self, event: Event) -> Iterator[Event]:
        """Let what happens be an event's, which is written at its end. What happens within another is one as well."""
        with self.turn:
            before, self._event = self._event, event
            try:
                with self._memory.taken(event):
                    yield event
            finally:
                self._event = before
                self._events += 1
                self._write(event.to_json())

    @property
    def _now(self) -> int:
        return int((time.monotonic() - self._began) * 1e6)

    def _write(self, line: dict[str, Any]) -> None:
        if self.error is None:
            try:
                self._lines.write(line)
            except OSError as error:
                self._failed(error)

    def _failed(self, error: OSError) -> None:
        if self.error is None:
            self.error = error
            log.error("the recording ends here", reason=str(error))


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
