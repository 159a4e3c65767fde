"""A program that is recorded: whatever it is asked, and its answer, are taken down."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from attrs import define

from viommu.iommufd.user_memory import PinnableFile
from viommu.kernel_errors import TooManyFiles
from viommu.service.recording.events import Asked, Side
from viommu.vfio.interrupts import EVENTFD

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from viommu.iommufd.user_memory import Account, PageRun, UserFile
    from viommu.service.files import Served
    from viommu.service.programs import Program
    from viommu.service.window import Window


class Recording(Protocol):
    """What a recorded program tells."""

    def asked(self, side: Side) -> None:
        """Take down what was asked, and the answer."""

    def show(self, runs: Iterable[PageRun]) -> Sequence[PageRun]:
        """Give pages as the machine is to see them."""

    def number_of(self, file: object) -> int | None:
        """Give the number of a file of ours; None where it is none."""

    def lend(self) -> int:
        """Give a number to a file of the program's."""


@define(eq=False)
class RecordedFile:
    """A program's file that pages can be pinned of (a `viommu.iommufd.user_memory.PinnableFile`)."""

    file: PinnableFile
    number: int
    recording: Recording

    def pin(self, offset: int, count: int, write: bool) -> Sequence[PageRun] | None:
        """Pin pages."""
        runs = self.file.pin(offset, count, write)
        self.recording.asked(
            Side(Asked.PIN_FILE, (self.number, offset, count, int(write)), None if runs is None else _flat(runs))
        )
        return None if runs is None else self.recording.show(runs)


@define(eq=False)
class RecordedProgram:
    """Stands in the place of a program (a `viommu.service.calls.Caller`)."""

    program: Program
    recording: Recording

    def carry(self, window: Window) -> Window:
        """Take bytes that came along with the call."""
        return self.program.carry(window)

    @property
    def alive(self) -> bool:
        """Whether its memory still exists."""
        alive = self.program.alive
        self.recording.asked(Side(Asked.ALIVE, (), (int(alive),)))
        return alive

    @property
    def account(self) -> Account:
        """Its limits, rights and counts."""
        account = self.program.account
        limit = -1 if account.limit is None else account.limit
        self.recording.asked(Side(Asked.ACCOUNT, (), (limit, int(account.ipc_lock))))
        return account

    def read(self, address: int, length: int) -> bytes | None:
        """Copy from its memory."""
        data = self.program.read(address, length)
        self.recording.asked(Side(Asked.READ, (address, length), None, data))
        return data

    def write(self, address: int, data: bytes) -> bool:
        """Copy to its memory."""
        stored = self.program.write(address, data)
        self.recording.asked(Side(Asked.WRITE, (address,), (int(stored),), bytes(data)))
        return stored

    def pin(self, address: int, count: int, write: bool) -> Sequence[PageRun] | None:
        """Pin pages."""
        runs = self.program.pin(address, count, write)
        self.recording.asked(Side(Asked.PIN, (address, count, int(write)), None if runs is None else _flat(runs)))
        return None if runs is None else self.recording.show(runs)

    def file(self, fd: int) -> Any | None:  # noqa: ANN401 - whatever the fd refers to
        """Give what a descriptor refers to."""
        found = self.program.file(fd)
        ours = None if found is None else self.recording.number_of(found)
        answer: tuple[int, ...] | None = None if found is None else (0,)
        if ours is not None:
            answer = (2, ours)
        elif isinstance(found, PinnableFile):
            found = RecordedFile(found, self.recording.lend(), self.recording)
            answer = (1, found.number)
        self.recording.asked(Side(Asked.FILE, (fd,), answer))
        return found

    def descriptor(self, fd: int) -> int | None:
        """Give a descriptor of our own for one of the program's."""
        found = self.program.descriptor(fd)
        answer = None if found is None else (int(_is_eventfd(found)),)
        self.recording.asked(Side(Asked.DESCRIPTOR, (fd,), answer))
        return found

    def install(self, file: UserFile) -> int:
        """Give a file a descriptor of the program. Raises TooManyFiles."""
        try:
            fd = self.program.install(file)
        except TooManyFiles:
            self.recording.asked(Side(Asked.INSTALL))
            raise
        self.recording.asked(Side(Asked.INSTALL, (), (fd, self.program.number_of(fd))))
        return fd

    def uninstall(self, fd: int) -> None:
        """Take a descriptor back."""
        self.program.uninstall(fd)
        self.recording.asked(Side(Asked.UNINSTALL, (fd,)))


def _flat(runs: Iterable[PageRun]) -> tuple[int, ...]:
    return tuple(number for run in runs for number in (run.frame, run.count))


def _is_eventfd(fd: int) -> bool:
    return os.fspath(Path(f"/proc/self/fd/{fd}").readlink()) == EVENTFD


def number_among(files: Iterable[Served], file: object) -> int | None:
    """Find the number of a file among those that are served."""
    return next((served.number for served in files if served.file is file), None)
