"""What FAULT and VEVENTQ have in common as files: an open fd that holds its object, and readiness to wait for."""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING, ClassVar

from attrs import define, field

from viommu.objects.table import Object

if TYPE_CHECKING:
    from viommu.iommufd.user_memory import UserProcess
    from viommu.objects.context import Context

POLLIN, POLLOUT, POLLRDNORM = 0x1, 0x4, 0x40


@define(eq=False)
class Notifier:
    """An eventfd that is readable exactly while something waits, made when somebody asks for it."""

    _fd: int | None = None

    def fileno(self, *, ready: bool) -> int:
        """Give the fd, for poll, epoll and asyncio; nobody else reads it."""
        if self._fd is None:
            self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self.set(ready=ready)
        return self._fd

    def set(self, *, ready: bool) -> None:
        """Let the fd be readable, or not."""
        if self._fd is None:
            return
        if ready:
            os.eventfd_write(self._fd, 1)
            return
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:  # it was not readable before either
            return

    def close(self) -> None:
        """Close the fd."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


@define(eq=False, kw_only=True, repr=False)
class EventObject(Object):
    """An object that user space reads through an fd. ``lock`` guards what waits; it is taken last."""

    always: ClassVar[int] = 0
    """Events that poll reports whatever waits."""

    context: Context
    lock: Lock = field(factory=Lock, repr=False)
    notifier: Notifier = field(factory=Notifier, repr=False)

    @property
    def ready(self) -> bool:
        """Whether something waits to be read."""
        raise NotImplementedError

    def signal(self) -> None:
        """Let waiters know whether something waits; ``lock`` is held."""
        self.notifier.set(ready=self.ready)

    def open(self) -> EventFile:
        """Make the file, which holds the object and the open /dev/iommu."""
        self.hold()
        self.context.keep()
        return EventFile(self, self.kind.lower())

    def read(self, process: UserProcess, address: int, count: int, position: int) -> int:
        """Answer read."""
        raise NotImplementedError

    def write(self, process: UserProcess, address: int, count: int, position: int) -> int:
        """Answer write."""
        raise NotImplementedError


@define(eq=False)
class EventFile:
    """The open file of a FAULT or VEVENTQ (a `viommu.iommufd.user_memory.UserFile`).

    `fileno` is an eventfd for poll: readable while something waits. Reading and writing go through the methods, which
    answer as the system calls do; a service puts them behind an fd of the client.
    """

    object: EventObject
    kind: str
    """``fault`` or ``veventq``."""
    _is_open: bool = True

    def read(self, process: UserProcess, address: int, count: int, position: int = 0) -> int:
        """Answer read: bytes, or a negative errno. Never blocks."""
        self.object.context.activity.file_calls["read"] += 1
        return self.object.read(process, address, count, position)

    def write(self, process: UserProcess, address: int, count: int, position: int = 0) -> int:
        """Answer write: bytes, or a negative errno."""
        self.object.context.activity.file_calls["write"] += 1
        return self.object.write(process, address, count, position)

    def poll(self, events: int = 0xFFFF) -> int:
        """Say which of these events are there now."""
        waiting = POLLIN | POLLRDNORM if self.object.ready else 0
        return (waiting | self.object.always) & events

    def fileno(self) -> int:
        """Give an fd that polls readable while something waits."""
        with self.object.lock:
            return self.object.notifier.fileno(ready=self.object.ready)

    def release(self) -> None:
        """Take note that the last fd is closed."""
        if self._is_open:
            self._is_open = False
            context = self.object.context
            with context.lock:
                self.object.notifier.close()
                self.object.drop()
                context.release()
