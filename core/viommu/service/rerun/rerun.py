"""Repeats a recorded run on a machine made anew, event by event, up to the first that differs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

from viommu.errors import BadField, told
from viommu.iommufd.fd import IommuFd
from viommu.iommufd.user_memory import User
from viommu.service import calls
from viommu.service.mappings import Mappings
from viommu.service.nodes import opened
from viommu.service.recording.events import Event, Outcome, What
from viommu.service.recording.shown import ShownMemory
from viommu.service.rerun import differences
from viommu.service.rerun.differences import Difference, told_event
from viommu.service.rerun.files import with_copies
from viommu.service.rerun.memory import RerunMemory
from viommu.service.rerun.processes import Now, RerunProgram
from viommu.service.rerun.recording import OPS, Recording
from viommu.service.rerun.sides import Sides
from viommu.service.wire import NOT_OURS, Packet

if TYPE_CHECKING:
    from viommu.iommufd.user_memory import UserFile
    from viommu.kernel_errors import KernelError
    from viommu.objects.mmap import Region
    from viommu.service.config import MachineConfig, Made
    from viommu.vfio.uapi import Irq

MOST_OPEN = 1 << 16
"""Files."""


@frozen
class Result:
    """How a rerun went. ``is_whole``: the recording was ended as it should be, and all of it was repeated."""

    records: int
    is_whole: bool
    difference: Difference | None

    def to_json(self) -> dict[str, Any]:
        """Give it as the command prints it."""
        difference = None if self.difference is None else self.difference.to_json()
        return {
            "same": difference is None,
            "records": self.records,
            "whole": self.is_whole,
            "difference": difference,
        }


@define(eq=False)
class Rerun:
    """One in progress, on a machine that nobody else uses."""

    recording: Recording
    made: Made
    memory: ShownMemory
    _now: Now = field(init=False)
    _programs: dict[int, RerunProgram] = field(factory=dict)
    _mappings: Mappings = field(factory=Mappings)
    _regions: dict[int, Region] = field(factory=dict)
    _interrupts: list[tuple[int, int, int]] = field(factory=list)
    _refusals: list[KernelError] = field(factory=list)
    _failure: str = ""

    def __attrs_post_init__(self) -> None:
        self._now = Now(RerunMemory(self.memory), User())
        for number, function in enumerate(self.made.devices):
            function.bus.later.by_hand = True
            function.interrupts.told = self._listener(number)

    def run(self) -> Result:
        """Repeat what happened. Raises BadRecording, OSError."""
        number = 0
        try:
            for number, event in enumerate(self.recording.events(), 1):
                difference = self._repeated(number, event)
                if difference is not None:
                    return Result(number, is_whole=False, difference=difference)
            return Result(number, self.recording.reader.is_whole, None)
        finally:
            self._now.sides = Sides(())
            self._now.files.close()

    def _listener(self, device: int) -> Any:  # noqa: ANN401 - what `Interrupts.told` is
        def told_of(irq: Irq, vector: int) -> None:
            self._interrupts.append((device, int(irq), vector))

        return told_of

    def _repeated(self, number: int, event: Event) -> Difference | None:
        file = self._file(event)
        self._check(event)
        call = told_event(event, file, self._devices)
        self._interrupts.clear()
        self._refusals.clear()
        try:
            self._now.memory.begin(event)
            self._now.sides = Sides(event.sides)
            outcome = self._outcome(event)
            self._now.memory.end()
        except BadField as error:
            raise self.recording.reader.bad(f"cannot have happened: {error}") from error
        self._now.sides.end()
        found = self._difference(event, file, outcome)
        if found is None:
            return None
        program = self.recording.programs.get(event.by, "") if event.by is not None else ""
        return Difference(
            number, event.at / 1e6, call, program, found.field, found.recorded, found.now, self._reasons(found)
        )

    def _check(self, event: Event) -> None:
        """Refuse what is about nothing that there is. Raises BadRecording."""
        if event.what is What.WORK and not 0 <= event.words[0] < len(self.made.devices):
            raise self.recording.reader.bad(f"is of device {event.words[0]}, which the machine has not")
        if len(self._now.files.served) > MOST_OPEN:
            raise self.recording.reader.bad(f"leaves more than {MOST_OPEN} files open")

    # --- what happens

    def _outcome(self, event: Event) -> Outcome | None:
        """Do what happened; None where that fails within viommu. Raises BadField."""
        try:
            return self._done(event)
        except (BadField, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - as the service answers EIO, whatever it was
            self._failure = f"fails within viommu: {told(error)}"
            return None

    def _done(self, event: Event) -> Outcome:
        match event.what:
            case What.OPEN:
                return self._open(event)
            case What.CLOSE:
                served = self._now.files.served.pop(event.words[0], None)
                if served is not None:
                    served.file.release()
            case What.UNMAP:
                region = self._regions.pop(event.words[0], None) if event.words else None
                if region is not None:
                    self._mappings.end(region)
            case What.STORES:
                self._store(event)
            case What.WORK:
                device, number = event.words[:2]
                if not self.made.devices[device].bus.later.do(number):
                    self._now.sides.strange = "the device has no such work to do"
            case _:
                return self._answered(event)
        return Outcome(0)

    def _open(self, event: Event) -> Outcome:
        recorded = event.outcome
        file = opened(self.made.machine, self.made.devices, event.words[0])
        if isinstance(file, int):
            return Outcome(file, (0,) * 4)
        if recorded is None or recorded.result or len(recorded.words) != 1:
            file.release()
            return Outcome(0, (0,))
        if isinstance(file, IommuFd):
            file.explain = self._refusals.append
        self._now.files.add(file, recorded.words[0])
        return Outcome(0, recorded.words)

    def _answered(self, event: Event) -> Outcome:
        served = self._now.files.served.get(event.words[0])
        if served is None:
            return Outcome(NOT_OURS, (0,) * 4)
        words = (event.words[0], event.words[1], event.words[2], event.words[3])
        question = Packet(OPS[event.what], words, payload=event.data)
        answer = calls.answer(served, self._program(event.by), question, self._mappings, None)
        if answer.fd is not None:
            os.close(answer.fd)
        if event.what is What.IOCTL:
            return Outcome(answer.result)
        given: tuple[int, ...] = answer.words
        if event.what is What.MAP and not answer.result:
            given = (given[0], self._mapped(event, served.file))
        return Outcome(answer.result, given, answer.payload)

    def _mapped(self, event: Event, file: UserFile) -> int:
        """Remember registers that are mapped by the number that they had."""
        words = () if event.outcome is None else event.outcome.words
        number = words[1] if len(words) > 1 else 0
        region = file.context.offsets.find(event.words[3]) if isinstance(file, IommuFd) else None
        if region is not None:
            self._regions[number] = region
        return number

    def _store(self, event: Event) -> None:
        region = self._regions.get(event.words[0])
        page = None if region is None else region.page
        if page is None:
            self._now.sides.strange = "no such registers are mapped"
            return
        words = {(word.offset, word.size) for word in page.words}
        for offset, size, value in event.stores:
            if (offset, size) not in words or not 0 <= value < 1 << 8 * size:
                raise self.recording.reader.bad(f"stores {value:#x} at {offset:#x}, where no register is")
        page.store(event.stores)

    def _program(self, number: int | None) -> RerunProgram:
        return self._programs.setdefault(-1 if number is None else number, RerunProgram(self._now))

    def _file(self, event: Event) -> UserFile | None:
        served = self._now.files.served.get(event.words[0]) if event.words else None
        is_about_one = event.what is What.CLOSE or (event.what in OPS and event.what is not What.OPEN)
        return served.file if served is not None and is_about_one else None

    @property
    def _devices(self) -> list[str]:
        return [function.name for function in self.made.devices]

    # --- whether it is the same

    def _difference(self, event: Event, file: UserFile | None, outcome: Outcome | None) -> differences.Found | None:
        now = self._now
        if event.is_cut:
            return differences.Found("record", "too large to be kept whole", "not repeated from here on")
        found = (
            differences.in_results(event.outcome, outcome, self._failure)
            or differences.in_memory_of_the_caller(event, file, now.sides.written)
            or differences.in_interrupts(event.interrupts, self._interrupts, self._devices)
            or differences.in_stores(event.was_stored, now.memory.stored.kept())
        )
        if found is None and now.sides.strange is not None:
            return differences.Found("what the program is asked", "as before", now.sides.strange)
        return found

    def _reasons(self, found: differences.Found) -> tuple[str, ...]:
        reasons = [str(error) for error in self._refusals]
        strange, unknown = self._now.sides.strange, self._now.memory.unknown
        if strange is not None and strange != found.now:
            reasons.append(f"on the way it {strange}")
        if unknown is not None:
            reasons.append(f"it reads pinned memory at {unknown:#x}, of which the recording says nothing")
        return tuple(reasons)


def rerun(recording: Recording, config: MachineConfig) -> Result:
    """Repeat a recording on a machine. Raises BadRecording, OSError, and what `MachineConfig.make` raises.

    Devices that keep something in a file have a copy of it, as it was.
    """
    memory = ShownMemory()
    with with_copies(config, recording.contents) as copied:
        made = copied.make(memory)
        with made.machine:
            try:
                return Rerun(recording, made, memory).run()
            except MemoryError as error:
                raise recording.reader.bad("needs more memory than there is") from error
