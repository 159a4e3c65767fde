"""User memory as ioctls reach it: some process's addresses, files and limits, and pages that are pinned.

An ioctl is made by a `UserProcess`. What implements it decides where memory really is: this process
(`viommu.iommufd.local`), a client of a service, or a simulation (`viommu.oracle`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from attrs import define, field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class PageRun(Protocol):
    """Pages that are neighbours in physical memory, each pinned once more than before the run was given.

    Indices count pages from the first one of the run. A run outlives mappings, files and processes.
    """

    @property
    def frame(self) -> int:
        """Physical page number of the first page."""

    @property
    def count(self) -> int:
        """How many pages there are."""

    def read(self, offset: int, length: int) -> bytes:
        """Give bytes, from an offset into the run."""

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes at an offset into the run."""

    def pins(self, index: int) -> int | None:
        """Count the pins of one page in the whole machine; None for a part of a huge page."""

    def unpin(self, index: int, count: int) -> None:
        """Undo the pin of these pages."""


class UserPage(Protocol):
    """One page: what an implementation that keeps pages singly has; `runs_of` makes runs of them."""

    frame: int
    compound: bool
    pin_count: int

    def read(self, offset: int, length: int) -> bytes:
        """Give bytes of the page."""

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes in the page."""


@runtime_checkable
class PinnableFile(Protocol):
    """A file whose pages can be mapped for DMA: a memfd, or a file of a memory file system."""

    def pin(self, offset: int, count: int, write: bool) -> Sequence[PageRun] | None:
        """Pin ``count`` pages from a page-aligned offset; None where they lie beyond the end."""


class UserFile(Protocol):
    """A file that iommufd makes. Answers are >= 0, or a negative errno; buffers are the calling process's addresses."""

    def read(self, process: UserProcess, address: int, count: int, position: int = 0) -> int:
        """Answer read, or pread at a position."""

    def write(self, process: UserProcess, address: int, count: int, position: int = 0) -> int:
        """Answer write, or pwrite at a position."""

    def poll(self, events: int = 0xFFFF) -> int:
        """Say which of these events are there now."""

    def release(self) -> None:
        """Take note that the last fd is closed."""


@define(eq=False)
class User:
    """One user of the system: what all of its processes have locked together (pages)."""

    locked: int = 0


@define(eq=False)
class Account:
    """What pages cost a process, and what it may.

    ``limit`` is RLIMIT_MEMLOCK in pages (None: unlimited); ``locked`` and ``pinned`` are VmLck and VmPin in pages.
    """

    user: User = field(factory=User)
    limit: int | None = None
    ipc_lock: bool = True
    sys_resource: bool = True
    locked: int = 0
    pinned: int = 0


class UserProcess(Protocol):
    """The process that makes a call, or that made a mapping."""

    @property
    def alive(self) -> bool:
        """Whether its memory still exists."""

    @property
    def account(self) -> Account:
        """Its limits, rights and counts."""

    def read(self, address: int, length: int) -> bytes | None:
        """Copy from user memory: all of it, or None where any byte is not readable."""

    def write(self, address: int, data: bytes) -> bool:
        """Copy to user memory; False where any byte is not writable (bytes before it may have been stored)."""

    def pin(self, address: int, count: int, write: bool) -> Sequence[PageRun] | None:
        """Fault in and pin ``count`` pages from a page-aligned address, in order.

        None where any is not mapped with the right, or where the process is gone; then none is pinned.
        """

    def file(self, fd: int) -> Any | None:  # noqa: ANN401 - whatever the fd refers to
        """Give what an fd refers to; None where it is not open."""

    def install(self, file: UserFile) -> int:
        """Give a file the lowest free fd."""

    def uninstall(self, fd: int) -> None:
        """Take an fd back that `install` gave, because the call fails; the file is not released."""


@frozen(eq=False)
class SinglePages:
    """A `PageRun` of pages that are kept singly."""

    pages: tuple[UserPage, ...]

    @property
    def frame(self) -> int:
        """Physical page number of the first page."""
        return self.pages[0].frame

    @property
    def count(self) -> int:
        """How many pages there are."""
        return len(self.pages)

    def read(self, offset: int, length: int) -> bytes:
        """Give bytes, from an offset into the run."""
        return b"".join(self.pages[at >> 12].read(at & 0xFFF, size) for at, size in _pieces(offset, length))

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes at an offset into the run."""
        for at, size in _pieces(offset, len(data)):
            self.pages[at >> 12].write(at & 0xFFF, data[at - offset : at - offset + size])

    def pins(self, index: int) -> int | None:
        """Count the pins of one page; None for a part of a huge page."""
        page = self.pages[index]
        return None if page.compound else page.pin_count

    def unpin(self, index: int, count: int) -> None:
        """Undo the pin of these pages."""
        for page in self.pages[index : index + count]:
            page.pin_count -= 1


def runs_of(pages: Iterable[UserPage]) -> list[PageRun]:
    """Pin pages, and gather neighbours in physical memory to runs."""
    runs: list[PageRun] = []
    gathered: list[UserPage] = []
    for page in pages:
        if gathered and page.frame != gathered[-1].frame + 1:
            runs.append(SinglePages(tuple(gathered)))
            gathered = []
        page.pin_count += 1
        gathered.append(page)
    if gathered:
        runs.append(SinglePages(tuple(gathered)))
    return runs


def _pieces(offset: int, length: int) -> Iterable[tuple[int, int]]:
    end = offset + length
    while offset < end:
        size = min(4096 - (offset & 0xFFF), end - offset)
        yield offset, size
        offset += size
