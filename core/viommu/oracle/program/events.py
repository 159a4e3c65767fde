"""Reads of the program's vEVENTQ: made anew, and held against what was read."""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from viommu.iommufd.uapi import VeventArmSmmuv3, VeventFlags, VeventHeader, VeventTegra241Cmdqv
from viommu.oracle.comparison import Difference, compare_answers
from viommu.oracle.recording import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.captures.rows import RecordedRow
    from viommu.iommufd.user_memory import UserFile
    from viommu.oracle.program.lines import Line
    from viommu.oracle.program.memory import ProgramProcess

INBOX, INBOX_BYTES = 0x11_0000_0000, 1 << 20
"""Where the program's reads go."""
AT_ONCE = 1 << 16
POLLIN = 1
SIZES = {1: VeventArmSmmuv3.total, 2: VeventTegra241Cmdqv.total}
"""Bytes of an event, by the type of its queue."""


@frozen
class Event:
    """One event, or the mark that some were lost, as it is read."""

    flags: int
    sequence: int
    data: bytes = b""

    def __str__(self) -> str:
        return f"number {self.sequence}, flags {self.flags:#x}, {self.data.hex()}"


@define(eq=False)
class EventReads:
    """The vEVENTQ that is open. Sequence numbers differ by ``ahead``: events of DMA that could not be made anew.

    ``doubtful``: such DMA has been since the queue was empty last. ``masks`` are the bits that count in the events of
    what was made since then; ``disputed`` what a second walker doubts, as events.
    """

    process: ProgramProcess
    file: UserFile | None = None
    size: int = 0
    ahead: int = 0
    doubtful: bool = False
    virtual: dict[int, int] = field(factory=dict)
    """How the guest calls a device: by its requester id."""
    _recorded_next: int = 0
    _ours_next: int = 0
    _waiting: deque[Event] = field(factory=deque)
    _masks: set[int] = field(factory=set)
    _disputed: dict[int, set[int]] = field(factory=dict)
    """By the bits that count, what they are."""

    def __attrs_post_init__(self) -> None:
        self.process.ensure(INBOX, INBOX_BYTES)

    def opened(self, file: UserFile, kind: int) -> None:
        """Take note of a new queue."""
        self.file, self.size = file, SIZES.get(kind, 0)
        self.ahead = self._recorded_next = self._ours_next = 0
        self._emptied()

    def made(self, rows: Sequence[RecordedRow]) -> None:
        """Take note of refused accesses that were made, whose events may come."""
        self._masks.update(_mask(row) for row in rows)

    def dispute(self, rows: Sequence[RecordedRow]) -> None:
        """Take note of accesses that were recorded, and are not made, since their outcome is doubted."""
        for row in rows:
            if row.recorded.record is None:
                continue
            mask = _mask(row)
            self._disputed.setdefault(mask, set()).add(int.from_bytes(self._as_event(row), "little") & mask)

    def read(self, line: Line) -> tuple[bool, Difference | None]:
        """Read as the program did; whether that can be judged, and the difference. Raises RecordingError."""
        if self.file is None or line.whole("count") > INBOX_BYTES:
            raise line.wrong("count", f"at most {INBOX_BYTES:#x} bytes of a queue that is open")
        recorded = self._parsed(line.data("data"))
        if recorded is None:
            raise line.wrong("data", "events, each with its header")
        judged, difference = not self.doubtful, None
        if judged:
            difference = self._judged(self.file, line, recorded)
        else:
            self._pulled(self.file)
        self._recorded_next = recorded[-1].sequence + 1 if recorded else self._recorded_next
        if not line.whole("ret"):
            self._emptied()
        return judged, difference

    def _judged(self, file: UserFile, line: Line, recorded: Sequence[Event]) -> Difference | None:
        polled = self._polled(file, line)
        if polled is not None:
            return polled
        if self._disputed:
            self._pulled(file)
            return self._in_order(line, recorded)
        result = file.read(self.process, INBOX, line.whole("count"))
        difference = compare_answers(line.record, Answer.of(result))
        self._take(result)
        return difference or self._in_order(line, recorded)

    def _polled(self, file: UserFile, line: Line) -> Difference | None:
        if line.fields.get("poll", -1) == -1:
            return None
        recorded = bool(line.whole("revents") & POLLIN)
        ours = bool(file.poll(POLLIN) or self._waiting)
        if recorded == ours or self._disputed:
            return None
        return Difference(line.record, "poll", f"readable: {recorded}", f"readable: {ours}")

    def _in_order(self, line: Line, recorded: Sequence[Event]) -> Difference | None:
        """Hold events against ours, one by one; ours may lack those that are disputed."""
        for event in recorded:
            if self._waiting and self._same(event, self._waiting[0]):
                self._waiting.popleft()
            elif self._is_disputed(event):
                self.ahead += 1
            else:
                ours = str(self._waiting[0]) if self._waiting else "no event"
                return Difference(line.record, f"event, {self.ahead} ahead", str(event), ours)
        if self._waiting and (not line.whole("ret") or not self._disputed):
            return Difference(line.record, "event", "none", str(self._waiting[0]))
        return None

    def _same(self, recorded: Event, ours: Event) -> bool:
        if (recorded.flags, recorded.sequence) != (ours.flags, ours.sequence + self.ahead):
            return False
        differ = int.from_bytes(recorded.data, "little") ^ int.from_bytes(ours.data, "little")
        return not differ or any(not differ & mask for mask in self._masks)

    def _is_disputed(self, event: Event) -> bool:
        data = int.from_bytes(event.data, "little")
        return any(data & mask in values for mask, values in self._disputed.items())

    def _as_event(self, row: RecordedRow) -> bytes:
        """Give a record as the guest gets it: with its own number of the device, in the first place that has ours."""
        requester = row.asked.requester
        virtual = self.virtual.get(requester, requester)
        return (row.recorded.record or b"").replace(struct.pack("<I", requester), struct.pack("<I", virtual), 1)

    def _pulled(self, file: UserFile) -> None:
        """Read all that waits."""
        while (result := file.read(self.process, INBOX, AT_ONCE)) > 0:
            self._take(result)

    def _take(self, result: int) -> None:
        raw = self.process.read(INBOX, result) if result > 0 else None
        for event in self._parsed(raw or b"") or ():
            self._waiting.append(event)
            self._ours_next = event.sequence + 1

    def _parsed(self, raw: bytes) -> list[Event] | None:
        """Cut what was read into events; None where it cannot be."""
        found, at = list[Event](), 0
        while at < len(raw):
            if len(raw) - at < VeventHeader.total or not self.size:
                return None
            flags, sequence = struct.unpack_from("<II", raw, at)
            at += VeventHeader.total
            length = 0 if flags & VeventFlags.LOST_EVENTS else self.size
            if len(raw) - at < length:
                return None
            found.append(Event(flags, sequence, raw[at : at + length]))
            at += length
        return found

    def _emptied(self) -> None:
        """Begin anew: nothing waits on either side."""
        self._waiting.clear()
        self._masks.clear()
        self._disputed.clear()
        self.ahead, self.doubtful = self._recorded_next - self._ours_next, False


def _mask(row: RecordedRow) -> int:
    return -1 if row.record_mask is None else int.from_bytes(row.record_mask, "little")
