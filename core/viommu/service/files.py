"""Files that programs hold: a real descriptor stands for each, whose other end, ours, tells when the last is closed.

A file is known by the inode of the program's end, which dup, fork, exec and SCM_RIGHTS keep.
"""

from __future__ import annotations

import os
import select
import socket
from contextlib import suppress
from threading import RLock
from typing import TYPE_CHECKING

import structlog
from attrs import define, field

from viommu.kernel_errors import TooManyFiles
from viommu.objects.event_file import EventFile, Notifier
from viommu.service.course import Course

if TYPE_CHECKING:
    from viommu.iommufd.user_memory import UserFile

log = structlog.get_logger()

BYTE = b"!"


@define(eq=False)
class Served:
    """One file. ``ours`` is our end: a socket's, or the end of a pipe that writes."""

    file: UserFile
    number: int
    ours: int
    readable: Readable
    node: int | None = None
    """Which node was opened; None: an ioctl made it."""

    def close(self) -> None:
        """Close our end."""
        self.readable.end()


@define(eq=False, kw_only=True)
class Readable(Notifier):
    """Lets the program's end poll readable exactly while something waits: one byte lies in it.

    Only the program can take the byte out again, so it is told how many to take with the answer to its next call.
    """

    ours: int
    surplus: int = 0
    _is_set: bool = False
    _is_closed: bool = False
    _lock: RLock = field(factory=RLock, repr=False)

    def set(self, *, ready: bool) -> None:
        """Let it be readable, or not."""
        with self._lock:
            if ready == self._is_set or self._is_closed:
                return
            self._is_set = ready and self._put()
            if not ready:
                self.surplus += 1

    def _put(self) -> bool:
        """Put the byte in; not where it is closed just now, or full of what somebody else wrote."""
        with suppress(BrokenPipeError, BlockingIOError):
            os.write(self.ours, BYTE)
            return True
        return False

    def take_surplus(self) -> int:
        """Say how many bytes the program is to take out, which are then forgotten."""
        with self._lock:
            surplus, self.surplus = self.surplus, 0
            return surplus

    def close(self) -> None:
        """Our end is closed with the file."""

    def end(self) -> None:
        """Close our end. Whatever is signalled before the file is released must not reach who gets its number next."""
        with self._lock:
            self._is_closed = True
            os.close(self.ours)


class Files:
    """All files of all programs, by number; ``course`` is told of each that is released."""

    def __init__(self, course: Course | None = None) -> None:
        """Begin with none."""
        self._course = course or Course()
        self._served: dict[int, Served] = {}
        self._by_end: dict[int, Served] = {}
        self._poll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._wake, select.EPOLLIN)
        self._lock = RLock()
        # Apart from the other: releasing takes the locks of contexts, under which calls add files.
        self._reaping = RLock()

    def add(self, file: UserFile, node: int | None = None) -> tuple[Served, int]:
        """Take a file: it, and the program's end of it, which the caller passes on and closes. Raises TooManyFiles.

        Its last close is nothing to us before `watch`: the program may never have got its end.
        """
        try:
            ours, theirs = _pipe() if isinstance(file, EventFile) and not file.object.always else _sockets()
        except OSError as error:
            raise TooManyFiles("service", "descriptors", bound="fewer: its limit is reached") from error
        os.set_blocking(ours, False)
        readable = Readable(ours=ours)
        served = Served(file, os.fstat(theirs).st_ino, ours, readable, node)
        if isinstance(file, EventFile):
            with file.object.lock:
                file.object.notifier = readable
                file.object.signal()
        else:
            readable.set(ready=True)
        with self._lock:
            self._served[served.number] = self._by_end[ours] = served
        return served, theirs

    def watch(self, served: Served) -> None:
        """Release a file once its last descriptor is closed, from now on."""
        with self._lock:
            if self._served.get(served.number) is served:
                self._poll.register(served.ours, select.EPOLLRDHUP)

    def find(self, number: int) -> Served | None:
        """Give a file by its number."""
        return self._served.get(number)

    def drop(self, served: Served) -> None:
        """Forget a file without releasing it: the call that made it fails."""
        with self._lock:
            self._forget(served)

    def reap(self) -> None:
        """Release every file whose last descriptor is closed, before anybody looks at what that frees."""
        with self._reaping:
            for end, _ in self._poll.poll(0):
                with self._lock:
                    served = self._by_end.get(end)
                    forgotten = served is not None and self._forget(served)
                if served is not None and forgotten:
                    self._release(served)

    def notice(self, connection: int) -> None:
        """Let `wait` return once when the other side of a connection is closed, too."""
        self._poll.register(connection, select.EPOLLRDHUP | select.EPOLLONESHOT)

    def wait(self) -> None:
        """Wait until something is closed, or `wake` is called."""
        self._poll.poll(None, 1)

    def wake(self) -> None:
        """Let `wait` return, now and ever after."""
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Release everything; nobody waits any more."""
        with self._reaping:
            for served in tuple(self._served.values()):
                if self._forget(served):
                    self._release(served)
            self._poll.close()
            os.close(self._wake)

    @property
    def served(self) -> tuple[Served, ...]:
        """All that there are."""
        return tuple(self._served.values())

    def _release(self, served: Served) -> None:
        """Release a file. Others wait for it, and must not suffer where that fails."""
        try:
            with self._course.closing(served):
                served.file.release()
        except Exception:
            log.exception("a file could not be released", kind=getattr(served.file, "kind", None))

    def _forget(self, served: Served) -> bool:
        """Forget a file, unless it is forgotten already."""
        if self._served.get(served.number) is not served:
            return False
        del self._served[served.number], self._by_end[served.ours]
        with suppress(FileNotFoundError):  # it was not watched yet
            self._poll.unregister(served.ours)
        served.close()
        return True


def _pipe() -> tuple[int, int]:
    """Make an end that polls readable, never writable."""
    theirs, ours = os.pipe2(os.O_CLOEXEC)
    return ours, theirs


def _sockets() -> tuple[int, int]:
    """Make an end that polls writable always."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return ours.detach(), theirs.detach()
