"""One recorded call made anew: its input laid out in the caller's memory, our answer taken, then both compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from viommu.oracle.blobs import blob_of
from viommu.oracle.circumstances import ORDINARY
from viommu.oracle.comparison import Difference, compare_answers, compare_bytes
from viommu.oracle.processes import ARENA, ARENA_END, OpenFile
from viommu.oracle.recording import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu.oracle.blobs import Blob
    from viommu.oracle.circumstances import Circumstances
    from viommu.oracle.pages import Page
    from viommu.oracle.processes import Process
    from viommu.oracle.recording import Record
    from viommu.oracle.subject import Subject

BUFFER_LIMIT = 8 << 20
"""The longest buffer that a replayed read or write gets (bytes)."""

POLL_ALWAYS = 0x38
"""POLLERR, POLLHUP, POLLNVAL: reported without being asked for."""

RECORDED_STRUCT = 512
"""As much of a struct as a recording shows (bytes)."""

ZERO, GARBAGE = b"\0", b"\xa5"
"""What may follow."""

FD_FIELDS = {
    "IOMMU_FAULT_QUEUE_ALLOC": 12,
    "IOMMU_VEVENTQ_ALLOC": 24,
    "IOMMU_TEST_CMD.CREATE_ACCESS": 16,
}
"""Where the kernel puts a new fd, by ioctl."""

FD_ANSWERS = ("IOMMU_TEST_CMD.DMABUF_GET",)
"""Ioctls that return a new fd."""


class Caller:
    """Makes the calls of one recording's processes, one at a time, and compares."""

    def __init__(self, subject: Subject) -> None:
        """``subject`` is what is judged."""
        self.subject = subject
        self.learned = 0
        self._circumstances = ORDINARY
        self._last_contradiction = -1 << 30
        self._reads = 0

    def make(self, process: Process, record: Record, circumstances: Circumstances = ORDINARY) -> Difference | None:
        """Make one call; the recorded answer is read after ours is known. Raises RecordingError."""
        self._circumstances = circumstances
        return _CALLS[record.call](self, process, record)

    def open(self, process: Process, record: Record) -> Difference | None:
        """Open a device node."""
        opened = self.subject.open(record.text("path"), record.number("flags", 0), process)
        ours = Answer.of(opened if isinstance(opened, int) else 0)
        recorded = record.answer
        if isinstance(recorded.ret, int) and recorded.ret >= 0 and not isinstance(opened, int):
            process.open_at(recorded.ret, OpenFile(opened))
            return None
        return None if recorded.errno == ours.errno else compare_answers(record, ours)

    def close(self, process: Process, record: Record) -> Difference | None:
        """Close an fd."""
        return compare_answers(record, Answer.of(process.close(record.number("fd"))))

    def mmap(self, process: Process, record: Record) -> Difference | None:
        """Map registers of a vIOMMU."""
        file = process.file(record.number("fd"))
        numbers = [record.number(field) for field in ("length", "prot", "flags", "offset")]
        result = self.subject.mmap(process, file, *numbers)
        return compare_answers(record, Answer.of(result))

    def poll(self, process: Process, record: Record) -> Difference | None:
        """Ask several fds what is ready."""
        entries = record.rows("fds")
        ready = []
        for entry in entries:
            events = record.row_number(entry, "events")
            file = process.file(record.row_number(entry, "fd"))
            ready.append(self.subject.poll(process, file, events) & (events | POLL_ALWAYS))
        ours = Answer.of(sum(bool(revents) for revents in ready))
        recorded = [record.row_number(entry, "revents") for entry in entries]
        if recorded != ready:
            return Difference(record, "revents", _hexes(recorded), _hexes(ready))
        return compare_answers(record, ours)

    def read(self, process: Process, record: Record) -> Difference | None:
        """Read an event queue."""
        file = process.file(record.number("fd"))
        count = record.number("count")
        address = 0 if self._circumstances.bad_buffer else ARENA
        result = self.subject.read(process, file, address, min(count, BUFFER_LIMIT))
        difference = compare_answers(record, Answer.of(result))
        if difference or result <= 0:
            return difference
        return compare_bytes(record, "data", record.blob("data_out"), process.read(address, result) or b"")

    def write(self, process: Process, record: Record) -> Difference | None:
        """Write page responses."""
        file = process.file(record.number("fd"))
        data = record.blob("data_in") if record.fields.get("data_in") not in (None, "EFAULT") else None
        address = 0 if data is None else ARENA
        if data is not None:
            process.write(ARENA, data)
        result = self.subject.write(process, file, address, record.number("count"))
        return compare_answers(record, Answer.of(result))

    def ioctl(self, process: Process, record: Record) -> Difference | None:
        """Make an ioctl, and compare its struct and what it points to."""
        file = process.file(record.number("fd"))
        number = record.number("cmd")
        if not record.has("in"):
            return compare_answers(record, self._plain(process, file, number, record))
        struct = record.blob("in")
        process.arena_is_read_only = False
        address = self._lay_out(process, record, struct)
        blob = blob_of(record, struct)
        if blob is not None:
            _provide(process, record, blob)
        process.arena_is_read_only = self._circumstances.read_only_struct
        watched = _is_access_read(record, struct)
        log = process.world.frames.log
        log.entries = [] if watched else None
        ours = Answer.of(self.subject.ioctl(process, file, number, address))
        entries, log.entries = log.entries, None
        ours = _with_recorded_fds(process, record, ours, address)
        difference = compare_answers(record, ours)
        if difference is None:
            after = record.blob("out") if record.has("out") else struct
            difference = compare_bytes(record, "struct", after, process.read(address, len(struct)) or b"")
        if difference is None and blob is not None:
            difference = self._compare_blob(process, record, blob, entries)
        elif difference is None and record.fields.get("data_out") is not None:
            expected = record.blob("data_out")
            difference = _compare_reply(record, expected, process.read(address, len(expected)) or b"", len(struct))
        return difference

    def _plain(self, process: Process, file: Any, number: int, record: Record) -> Answer:  # noqa: ANN401
        """An ioctl whose argument is a number, or points to nothing."""
        argument = record.fields.get("arg")
        value = 0 if argument is None else ARENA_END if argument == "EFAULT" else record.number("arg")
        return Answer.of(self.subject.ioctl(process, file, number, value))

    def _lay_out(self, process: Process, record: Record, struct: bytes) -> int:
        """Put the struct where what follows it is readable only if the recording shows more of it."""
        size = record.number("size", len(struct))
        if record.text("name", "").startswith("VFIO_"):
            rest = bytes(max(0, min(size, BUFFER_LIMIT) - len(struct)))
        elif len(struct) >= RECORDED_STRUCT:
            rest = (ZERO if self._circumstances.zero_tail else GARBAGE) * min(size - len(struct), BUFFER_LIMIT)
        else:
            rest = b""
        address = ARENA_END - len(struct) if len(struct) + len(rest) < size and not rest else ARENA
        process.write(address, struct + rest)
        return address

    def _compare_blob(
        self, process: Process, record: Record, blob: Blob, entries: list[tuple[Page, int, int]] | None
    ) -> Difference | None:
        recorded = record.fields.get("data_out", record.fields.get("data_in"))
        if not isinstance(recorded, str) or recorded == "EFAULT":
            return None
        field = "data_out" if record.has("data_out") else "data_in"
        expected = record.blob(field)
        ours = process.read(blob.address, len(expected)) or b""
        if record.answer.errno != "0" and not record.has("data_in") and not any(ours):
            process.write(blob.address, expected)  # nobody stored anything: it is what was there before
            return None
        if entries is not None:
            return self._compare_contents(process, record, expected, ours, entries)
        if record.text("name") == "IOMMU_HWPT_GET_DIRTY_BITMAP":
            difference = _compare_bitmap(record, expected, ours, process.former)
            if difference is None:
                process.write(blob.address, expected)
            return difference
        return compare_bytes(record, "data", expected, ours)

    def _compare_contents(
        self, process: Process, record: Record, expected: bytes, ours: bytes, entries: list[tuple[Page, int, int]]
    ) -> Difference | None:
        """Compare what an access read, byte by byte, with what is known of the pages that it came from.

        A program's own stores are not recorded. A byte that nobody told yet is learned. A byte that contradicts what
        is known means that the program stored since: once, then everything is unknown again. An implementation that
        loses writes contradicts itself at every turn, and is found out.
        """
        self._reads += 1
        sources = [
            (page, at)
            for page, offset, size in entries
            if not process.is_arena(page)
            for at in range(offset, offset + size)
        ]
        sources = sources[-len(expected) :] if expected else []
        if len(sources) != len(expected):
            return compare_bytes(record, "data", expected, ours)
        wrong = [i for i, (page, at) in enumerate(sources) if page.is_known(at) and ours[i] != expected[i]]
        if wrong and self._reads - self._last_contradiction < PATIENCE:
            return compare_bytes(record, "data", expected, ours)
        if wrong:
            self._last_contradiction = self._reads
            process.world.frames.log.epoch += 1
        for (page, at), value in zip(sources, expected, strict=True):
            if not page.is_known(at):
                page.write(at, bytes((value,)))
                self.learned += 1
        return None


PATIENCE = 100
"""How many reads a program must have made since it last changed its memory, before it may have done so again."""


def _is_access_read(record: Record, struct: bytes) -> bool:
    return record.fields.get("op") == "ACCESS_RW" and len(struct) >= 44 and not struct[40] & 1


def _compare_reply(record: Record, expected: bytes, ours: bytes, told: int) -> Difference | None:
    """A struct with room behind it: what nobody wrote there keeps what the program had filled it with, not recorded."""
    filling = expected[-1:]
    end = len(expected.rstrip(filling)) if not ours.endswith(filling) else len(expected)
    if max(end, told) < len(expected) and not ours[max(end, told) :].strip(b"\0"):
        expected, ours = expected[: max(end, told)], ours[: max(end, told)]
    return compare_bytes(record, "reply", expected, ours)


def _compare_bitmap(record: Record, expected: bytes, ours: bytes, former: bytes) -> Difference | None:
    """A bitmap is OR-ed into what the program had there: zeros, what was there before, or ones. Nobody recorded it."""
    if not record.has("data_out"):
        return None
    before = former.ljust(len(ours), b"\0")
    if expected == b"\xff" * len(ours) or all(e in (o, o | b) for e, o, b in zip(expected, ours, before, strict=True)):
        return None
    return compare_bytes(record, "bitmap", expected, ours)


def _provide(process: Process, record: Record, blob: Blob) -> None:
    """Make the blob's memory be as the inputs show it: contents, and where it ends."""
    given = record.fields.get("data_in")
    process.former = b""
    if record.is_unreadable("data_in") or record.is_unreadable("data_out"):
        process.hide(blob.address, blob.address + 1)
    elif given is not None:
        data = record.blob("data_in")
        process.ensure(blob.address, blob.address + len(data))
        process.write(blob.address, data)
    elif blob.is_written and blob.address and blob.length:
        if not process.everything_mapped:
            process.ensure(blob.address, blob.address + _shown(record))
        process.former = process.read(blob.address, _shown(record)) or b""
        process.write(blob.address, bytes(len(process.former)))


def _shown(record: Record) -> int:
    """How much of what the kernel may write is there: recorders show it as far as it can be read."""
    shown = record.fields.get("data_out")
    return len(shown) // 2 if isinstance(shown, str) else 0


def _hexes(values: list[int]) -> str:
    return " ".join(f"{value:#x}" for value in values)


def _with_recorded_fds(process: Process, record: Record, ours: Answer, address: int) -> Answer:
    """Give files that our call opened the numbers that the recorded call gave them, in the answer as well."""
    installed, process.installed = process.installed, []
    recorded = record.answer
    name = record.text("name", "")
    key = f"{name}.{record.text('op', '')}" if name == "IOMMU_TEST_CMD" else name
    if not installed:
        return ours
    if recorded.errno != "0" or ours.errno != "0":
        for fd in installed:
            process.close(fd)
        return ours
    if key in FD_ANSWERS and isinstance(recorded.ret, int):
        process.renumber(installed[0], recorded.ret)
        return recorded
    at = FD_FIELDS.get(key)
    out = record.blob("out") if record.has("out") else b""
    if at is not None and len(out) >= at + 4:
        fd = int.from_bytes(out[at : at + 4], "little")
        if int.from_bytes(process.read(address + at, 4) or b"", "little") == installed[0]:
            process.write(address + at, fd.to_bytes(4, "little"))
        process.renumber(installed[0], fd)
    return ours


_CALLS: Mapping[str, Callable[[Caller, Process, Record], Difference | None]] = {
    "open": Caller.open,
    "close": Caller.close,
    "ioctl": Caller.ioctl,
    "mmap": Caller.mmap,
    "poll": Caller.poll,
    "read": Caller.read,
    "write": Caller.write,
}
