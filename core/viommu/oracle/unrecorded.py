"""Steps of probes that no record shows: made because the probe's name tells of them, and judged by its result."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from viommu.oracle.comparison import compare_answers
from viommu.oracle.probe_steps import UNMAPS_ALL, step_of
from viommu.oracle.processes import ARENA
from viommu.oracle.recording import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from viommu.oracle.comparison import Difference
    from viommu.oracle.processes import Process
    from viommu.oracle.recording import Record
    from viommu.oracle.subject import Subject

IOAS_ALLOC = 0x3B81
"""The ioctl that a probe of `dup` makes through the new fd."""

POLLIN = 1
MARK = b"viommu"
ALL_EVENTS = 0x145
"""POLLIN, POLLOUT and their likes: a file that is always ready has no poll operation, and epoll refuses it."""


class Unrecorded:
    """Makes the steps that have no record. ``subject`` is what is judged."""

    def __init__(self, subject: Subject) -> None:
        """Begin with no probe."""
        self._subject = subject
        self._probe = ""
        self._duplicate = -1
        self._outcome: Answer | None = None

    def before(self, process: Process, record: Record) -> None:
        """Make the steps that come before a recorded call."""
        if record.probe != self._probe:
            self._begin(process, record)
        early = _EARLY.get(step_of(record) or "")
        if early and record.call == "read" and self._outcome is None:
            self._outcome = early(self, process, record)

    def result(self, process: Process, record: Record) -> tuple[bool, Difference | None]:
        """Judge the step whose outcome the record tells: (False, None) where recorded calls have told it already."""
        if record.probe != self._probe:
            self._begin(process, record)
        late = _LATE.get(step_of(record) or "")
        outcome = late(self, process, record) if late else self._outcome
        return (False, None) if outcome is None else (True, compare_answers(record, outcome))

    def _begin(self, process: Process, record: Record) -> None:
        self._probe, self._outcome = record.probe, None
        if UNMAPS_ALL.search(record.probe):
            process.unmap_registers(len(process.registers))
        if step_of(record) == "dup_before" and record.has("fd"):
            self._duplicate = self._dup(process, record.number("fd"))
        elif self._duplicate >= 0:
            process.close(self._duplicate)
            self._duplicate = -1

    def _dup(self, process: Process, fd: int) -> int:
        number = max(process.files, default=0) + 1
        if fd in process.files:
            process.open_at(number, process.files[fd])
        return number

    def _file(self, process: Process, record: Record) -> Any:  # noqa: ANN401 - whatever is open
        """The file that the probe's family is about: the youngest queue of that kind, else /dev/iommu."""
        kind = {"veq": "veventq", "fault": "fault"}.get(record.probe.partition("/")[0], "iommufd")
        found = [fd for fd, entry in process.files.items() if self._subject.kind(entry.file) == kind]
        return process.file(max(found)) if found else None

    def dup_alloc(self, process: Process, record: Record) -> Answer:
        """Duplicate /dev/iommu, and allocate an IOAS through the copy."""
        process.write(ARENA, (12).to_bytes(4, "little") + bytes(8))
        return Answer.of(self._subject.ioctl(process, self._file(process, record), IOAS_ALLOC, ARENA))

    def lseek(self, process: Process, record: Record) -> Answer:
        """Seek."""
        file = self._file(process, record)
        return Answer.of(0 if hasattr(file, "seek") else -errno.ESPIPE)

    def epoll_ctl(self, process: Process, record: Record) -> Answer:
        """Watch /dev/iommu with epoll."""
        always_ready = self._subject.poll(process, self._file(process, record), ALL_EVENTS) == ALL_EVENTS
        return Answer.of(-errno.EPERM if always_ready else 0)

    def pread(self, process: Process, record: Record) -> Answer:
        """Read an event queue at a position."""
        return Answer.of(self._subject.read_at(process, self._file(process, record), ARENA, 64, 8))

    def write_through(self, process: Process, _: Record) -> Answer:
        """Write through one mapping of registers, and read through another one."""
        first, second = process.registers[-2:] if len(process.registers) > 1 else (None, None)
        if first is None or second is None:
            return Answer.of(-errno.ENXIO)
        first.write(0, MARK)
        return Answer.of(0 if second.read(0, len(MARK)) == MARK else -errno.EIO)

    def epoll(self, process: Process, record: Record) -> Answer:
        """Wait for an event with epoll."""
        return Answer.of(int(bool(self._subject.poll(process, self._file(process, record), POLLIN))))

    def readv(self, process: Process, record: Record) -> Answer:
        """A file without a vectored read is read once for each vector; the first one holds a header alone."""
        return Answer.of(self._subject.read(process, self._file(process, record), ARENA, 8))


_LATE: Mapping[str, Callable[[Unrecorded, Process, Record], Answer]] = {
    "dup_alloc": Unrecorded.dup_alloc,
    "lseek": Unrecorded.lseek,
    "epoll_ctl": Unrecorded.epoll_ctl,
    "pread": Unrecorded.pread,
    "write_through": Unrecorded.write_through,
}

_EARLY: Mapping[str, Callable[[Unrecorded, Process, Record], Answer]] = {
    "epoll": Unrecorded.epoll,
    "readv": Unrecorded.readv,
}
