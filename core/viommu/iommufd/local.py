"""This process as the one that makes ioctls: its own addresses, its own fds."""

from __future__ import annotations

import errno
import os
import resource
import stat
from typing import TYPE_CHECKING, Any

from attrs import define, field

from viommu import _engine
from viommu.addresses import PAGE_SIZE
from viommu.iommufd.user_memory import Account, UserFile
from viommu.own_memory import mapping_with_right

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.backing import View
    from viommu.iommufd.user_memory import PageRun
    from viommu.memory import PhysicalMemory

CAP_IPC_LOCK, CAP_SYS_RESOURCE = 14, 24
USER_END = 1 << 47


@define(eq=False)
class PinnedView:
    """A view of physical memory that stays as long as any page of it is pinned."""

    memory: PhysicalMemory
    view: View
    pages: int

    def unpin(self, pa: int, count: int) -> None:
        """Undo the pin of pages; the view goes with the last."""
        self.memory.unpin(pa, count * PAGE_SIZE)
        self.pages -= count
        if not self.pages:
            self.memory.release(self.view)


@define(eq=False)
class LocalRun:
    """Physically contiguous pages of this process or of a file, pinned (a `PageRun`)."""

    pinned: PinnedView
    pa: int
    count: int

    @property
    def frame(self) -> int:
        """Physical page number of the first page."""
        return self.pa // PAGE_SIZE

    def read(self, offset: int, length: int) -> bytes:
        """Give bytes, from an offset into the run."""
        return self.pinned.memory.read(self.pa + offset, length) or bytes(length)

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes at an offset into the run."""
        self.pinned.memory.write(self.pa + offset, data)

    def pins(self, index: int) -> int | None:
        """Count the pins of one page."""
        return self.pinned.memory.pins(self.pa + index * PAGE_SIZE)

    def unpin(self, index: int, count: int) -> None:
        """Undo the pin of these pages."""
        self.pinned.unpin(self.pa + index * PAGE_SIZE, count)


@define(eq=False)
class LocalFile:
    """A regular file or memfd of this process, as IOAS_MAP_FILE takes it (a `PinnableFile`)."""

    memory: PhysicalMemory
    fd: int

    def pin(self, offset: int, count: int, write: bool) -> Sequence[PageRun] | None:
        """Pin pages; None beyond the end of the file."""
        if offset + count * PAGE_SIZE > -(-os.fstat(self.fd).st_size // PAGE_SIZE) * PAGE_SIZE:
            return None
        return pin_file(self.memory, self.fd, offset, count * PAGE_SIZE, writable=write)


@define(eq=False)
class LocalProcess:
    """This process. What it maps for DMA has to stay mapped until it is unmapped from the IOAS again.

    Files that iommufd makes are kept in ``files``; their numbers are real fds that poll readable while something waits.
    """

    memory: PhysicalMemory
    account: Account = field(factory=lambda: own_account())  # noqa: PLW0108 - defined below
    files: dict[int, UserFile] = field(factory=dict)
    alive: bool = True

    def read(self, address: int, length: int) -> bytes | None:
        """Copy from this process's memory, if it is there."""
        return _engine.read_own(address, length) if 0 <= address < USER_END else None

    def write(self, address: int, data: bytes) -> bool:
        """Copy to this process's memory, if it is there and writable."""
        return 0 <= address < USER_END and _engine.write_own(address, data)

    def pin(self, address: int, count: int, write: bool) -> Sequence[PageRun] | None:
        """Pin pages that are mapped with the right."""
        length = count * PAGE_SIZE
        if not 0 <= address <= USER_END - length:
            return None
        mapping = mapping_with_right(address, address + length, write=write)
        if mapping is None:
            return None
        return _runs(self.memory, self.memory.pin_own(address, length, writable=write, mapping=mapping))

    def file(self, fd: int) -> Any | None:  # noqa: ANN401 - whatever the fd refers to
        """Give what an fd refers to."""
        if fd in self.files:
            return self.files[fd]
        try:
            status = os.fstat(fd)
        except OSError:
            return None
        return LocalFile(self.memory, fd) if stat.S_ISREG(status.st_mode) else status

    def descriptor(self, fd: int) -> int | None:
        """Give another descriptor of the same file, the caller's to close; None where it is not open."""
        try:
            return os.dup(fd)
        except OSError:
            return None

    def install(self, file: UserFile) -> int:
        """Give a file an fd: its own where it can be polled, else one that only stands for it."""
        fileno = getattr(file, "fileno", None)
        fd: int = fileno() if callable(fileno) else os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self.files[fd] = file
        return fd

    def uninstall(self, fd: int) -> None:
        """Forget an fd."""
        file = self.files.pop(fd)
        if not hasattr(file, "fileno"):
            os.close(fd)

    def close(self, fd: int) -> int:
        """Close an fd of `install`: 0, or a negative errno."""
        if fd not in self.files:
            return -errno.EBADF
        file = self.files[fd]
        self.uninstall(fd)
        file.release()
        return 0


def own_account() -> Account:
    """Say what this process may: its memory lock limit and its capabilities."""
    limit, capabilities = limits_of(os.getpid())
    return Account(
        limit=limit,
        ipc_lock=bool(capabilities >> CAP_IPC_LOCK & 1),
        sys_resource=bool(capabilities >> CAP_SYS_RESOURCE & 1),
    )


def limits_of(pid: int) -> tuple[int | None, int]:
    """Give a process's memory lock limit (pages; None: unlimited) and its capabilities. Raises OSError: it is gone."""
    limit, _ = resource.prlimit(pid, resource.RLIMIT_MEMLOCK)
    return None if limit == resource.RLIM_INFINITY else limit // PAGE_SIZE, _capabilities(pid)


def _capabilities(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:  # noqa: PTH123
        for line in status:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0


def pin_file(memory: PhysicalMemory, fd: int, offset: int, length: int, *, writable: bool) -> list[PageRun]:
    """Pin a stretch of a file; the descriptor may be closed. Raises as `PhysicalMemory.add_file`."""
    view = memory.add_file(fd, offset, length, writable=writable)
    memory.pin_view(view)
    return _runs(memory, view)


def _runs(memory: PhysicalMemory, view: View) -> list[PageRun]:
    pinned = PinnedView(memory, view, view.length // PAGE_SIZE)
    return [LocalRun(pinned, segment.pa, segment.length // PAGE_SIZE) for segment in view.segments]
