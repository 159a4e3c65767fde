"""VEVENTQ: what a vIOMMU's hardware reports to the guest, one queue for each type of event."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, ClassVar

from attrs import define, field, frozen

from viommu.iommufd.uapi import VeventFlags, VeventHeader
from viommu.kernel_errors import Exists, Invalid, Unsupported
from viommu.objects.event_file import EventObject
from viommu.objects.failure import allocation_point

if TYPE_CHECKING:
    from viommu.iommufd.user_memory import UserProcess
    from viommu.objects.viommu import Viommu

__all__ = [
    "report_event",
]

SEQUENCE_MASK = 0x7FFFFFFF
HEADER = VeventHeader.total


@frozen
class Vevent:
    """One event that waits; without data it is the mark that events were lost."""

    sequence: int
    data: bytes | None

    def encode(self) -> bytes:
        """Give the header and the event."""
        flags = VeventFlags.LOST_EVENTS if self.data is None else 0
        return VeventHeader.of(flags=flags, sequence=self.sequence).encode() + (self.data or b"")


@define(eq=False, kw_only=True, repr=False)
class VeventQueue(EventObject):
    """A queue of at most ``depth`` events.

    Each event, lost or not, has a sequence number. Where events are lost, one mark stands at the tail with the number
    of the last of them; the next event that finds room takes its place.
    """

    kind: ClassVar[str] = "VEVENTQ"

    viommu: Viommu
    type: int
    depth: int
    events: list[Vevent] = field(factory=list)
    _next: int = 0

    def connect(self) -> None:
        """Let events of the type come here. Raises Exists."""
        if self.type in self.viommu.queues:
            raise Exists(self.viommu.title, "VEVENTQ of type", self.type, "one at most")
        self.viommu.queues[self.type] = self
        self.viommu.hold()
        self.built = True

    def destroy(self) -> None:
        """Drop what waits."""
        del self.viommu.queues[self.type]
        self.viommu.drop()
        self.events.clear()

    @property
    def ready(self) -> bool:
        """Whether an event, or the mark, waits."""
        return bool(self.events)

    @property
    def first_size(self) -> int:
        """How many bytes the first event that waits has when it is read; 0 where none waits."""
        with self.lock:
            return len(self.events[0].encode()) if self.events else 0

    def put(self, data: bytes) -> None:
        """Queue an event; where there is no room it is lost, which is no error."""
        with self.lock:
            has_mark = bool(self.events) and self.events[-1].data is None
            is_full = len(self.events) - has_mark >= self.depth
            if has_mark:
                self.events.pop()
            self.events.append(Vevent(self._next, None if is_full else data))
            self._next = (self._next + 1) & SEQUENCE_MASK
            self.signal()

    def read(self, process: UserProcess, address: int, count: int, position: int) -> int:
        """Answer read: whole events, as many as fit."""
        if position:
            return -errno.ESPIPE
        if count < HEADER:
            return -errno.EINVAL
        with self.lock:
            done, code = self._deliver(process, address, count)
            self.signal()
        return done or -code

    def _deliver(self, process: UserProcess, address: int, count: int) -> tuple[int, int]:
        done = 0
        while self.events and done < count:
            raw = self.events[0].encode()
            if len(raw) > count - done:
                return done, errno.EINVAL
            if not process.write(address + done, raw):
                return done, errno.EFAULT
            done += len(raw)
            del self.events[0]
        return done, 0

    def write(self, process: UserProcess, address: int, count: int, position: int) -> int:  # noqa: ARG002
        """Answer write: there is no such operation."""
        return -errno.EINVAL


def report_event(viommu: Viommu, kind: int, data: bytes) -> None:
    """Report an event of a vIOMMU (a driver's helper, any thread). Raises Unsupported (no queue), Invalid (empty)."""
    if not data:
        raise Invalid(viommu.title, "event", 0, "not empty")
    queue = viommu.queues.get(kind)
    if queue is None:
        raise Unsupported(viommu.title, "VEVENTQ of type", kind, "one that user space has made")
    allocation_point("event")
    queue.put(data)
