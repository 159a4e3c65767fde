"""A program that is not there: it answers what a recording says that it answered."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from attrs import define, field

from viommu.errors import BadValue
from viommu.iommufd.user_memory import Account
from viommu.kernel_errors import TooManyFiles
from viommu.objects.event_file import EventFile
from viommu.service.files import Readable, Served
from viommu.service.recording.events import Asked
from viommu.service.rerun.sides import Sides

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.iommufd.user_memory import PageRun, User, UserFile
    from viommu.service.rerun.memory import RerunMemory
    from viommu.service.window import Window

OTHER, THEIRS, OURS = 0, 1, 2
PAIR = 2


@define(eq=False)
class RerunFiles:
    """Open files by the numbers that they had."""

    served: dict[int, Served] = field(factory=dict)
    _nowhere: int = field(factory=lambda: os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))

    def add(self, file: UserFile, number: int) -> Served:
        """Take a file. Raises BadValue: there is one of that number."""
        if number in self.served:
            raise BadValue("number of a file that is opened", number, "free")
        readable = Readable(ours=self._nowhere)
        served = Served(file, number, self._nowhere, readable)
        if isinstance(file, EventFile):
            with file.object.lock:
                file.object.notifier = readable
                file.object.signal()
        self.served[number] = served
        return served

    def close(self) -> None:
        """Release everything."""
        for number in tuple(self.served):
            self.served.pop(number).file.release()
        os.close(self._nowhere)


@define(eq=False)
class Now:
    """What all programs share: the event that is repeated, its memory, and the files that are open."""

    memory: RerunMemory
    user: User
    files: RerunFiles = field(factory=RerunFiles)
    sides: Sides = field(factory=lambda: Sides(()))


@define(eq=False)
class RerunFile:
    """A file of the program that pages were pinned of (a `viommu.iommufd.user_memory.PinnableFile`)."""

    number: int
    now: Now

    def pin(self, offset: int, count: int, write: bool) -> Sequence[PageRun] | None:
        """Pin pages as they were pinned."""
        side = self.now.sides.take(Asked.PIN_FILE, self.number, offset, count, int(write))
        return None if side is None or side.answer is None else _shown(self.now, side.answer, count)


@define(eq=False)
class RerunProgram:
    """A program as its recorded answers make it (a `viommu.service.calls.Caller`)."""

    now: Now
    _account: Account = field(init=False)
    _window: Window | None = None
    _installed: dict[int, int] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self._account = Account(user=self.now.user)

    def carry(self, window: Window) -> Window:
        """Take bytes that come along with the call: what is written into them goes back with the answer."""
        self._window = window
        return window

    @property
    def alive(self) -> bool:
        """Whether its memory still existed."""
        side = self.now.sides.take(Asked.ALIVE)
        return side is not None and side.answer == (1,)

    @property
    def account(self) -> Account:
        """Its limits, as they were."""
        side = self.now.sides.take(Asked.ACCOUNT)
        if side is not None and side.answer is not None and len(side.answer) == PAIR:
            limit, ipc_lock = side.answer
            self._account.limit = None if limit < 0 else limit
            self._account.ipc_lock = bool(ipc_lock)
        return self._account

    def read(self, address: int, length: int) -> bytes | None:
        """Give what was read."""
        side = self.now.sides.take(Asked.READ, address, length)
        data = None if side is None else side.data
        if data is not None and len(data) != length:
            raise BadValue("recorded bytes of a program", len(data), f"{length} bytes")
        return data

    def write(self, address: int, data: bytes) -> bool:
        """Compare what is written with what was."""
        side = self.now.sides.take(Asked.WRITE, address)
        if side is None or side.data is None:
            return True
        if side.data != data:
            self.now.sides.written.append((address, side.data, bytes(data)))
        if self._window is not None:
            self._window.write(address, data)
        return side.answer == (1,)

    def pin(self, address: int, count: int, write: bool) -> Sequence[PageRun] | None:
        """Pin pages as they were pinned."""
        side = self.now.sides.take(Asked.PIN, address, count, int(write))
        return None if side is None or side.answer is None else _shown(self.now, side.answer, count)

    def file(self, fd: int) -> Any | None:  # noqa: ANN401 - whatever the fd referred to
        """Give what a descriptor referred to."""
        side = self.now.sides.take(Asked.FILE, fd)
        if side is None or side.answer is None:
            return None
        kind, number = (*side.answer, OTHER, OTHER)[:PAIR]
        if kind == THEIRS:
            return RerunFile(number, self.now)
        served = self.now.files.served.get(number) if kind == OURS else None
        return ("another file", fd) if served is None else served.file

    def descriptor(self, fd: int) -> int | None:
        """Give a descriptor of the same kind."""
        side = self.now.sides.take(Asked.DESCRIPTOR, fd)
        if side is None or side.answer is None:
            return None
        if side.answer == (1,):
            return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)

    def install(self, file: UserFile) -> int:
        """Give a file the descriptor that it had. Raises TooManyFiles."""
        side = self.now.sides.take(Asked.INSTALL)
        if side is None or side.answer is None or len(side.answer) != PAIR:
            raise TooManyFiles("process", "descriptors", bound="as many as the recorded run had")
        fd, number = side.answer
        self.now.files.add(file, number)
        self._installed[fd] = number
        return fd

    def uninstall(self, fd: int) -> None:
        """Take a descriptor back."""
        self.now.sides.take(Asked.UNINSTALL, fd)
        self.now.files.served.pop(self._installed.pop(fd))


def _shown(now: Now, frames: Sequence[int], count: int) -> Sequence[PageRun]:
    if len(frames) % PAIR or sum(frames[1::PAIR]) != count:
        raise BadValue("recorded pages that were pinned", sum(frames[1::PAIR]), f"{count} pages")
    return now.memory.show(frames)
