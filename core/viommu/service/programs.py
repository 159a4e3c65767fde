"""Processes that call: their memory, their descriptors and their limits, as ioctls reach them."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from threading import local
from typing import TYPE_CHECKING, Any

import structlog
from attrs import define, field

from viommu import _engine
from viommu.addresses import PAGE_SIZE
from viommu.backing import AddressSpace
from viommu.errors import ViommuError
from viommu.iommufd.local import CAP_IPC_LOCK, USER_END, LocalFile, LocalRun, PinnedView, limits_of, pin_file
from viommu.iommufd.user_memory import Account
from viommu.kernel_errors import BadAddress, TooManyFiles
from viommu.service.wire import MOST_BYTES, SHARED, Gone, Op, Packet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.iommufd.user_memory import PageRun, User, UserFile
    from viommu.memory import PhysicalMemory
    from viommu.service.files import Files, Served
    from viommu.service.link import Link
    from viommu.service.window import Window

log = structlog.get_logger()

WORD_BYTES = 8
MOST_AT_ONCE = 1 << 20
"""Bytes that are read without asking."""


@define(eq=False)
class Area:
    """What is mapped somewhere (bytes); ``fd`` is ours to close."""

    start: int
    end: int
    rights: int
    offset: int
    fd: int | None

    def close(self) -> None:
        """Close the descriptor."""
        if self.fd is not None:
            os.close(self.fd)


@define(eq=False)
class RemoteRun(LocalRun):
    """Pages that only their process can reach (a `PageRun`); gone with it."""

    program: Program
    address: int

    def read(self, offset: int, length: int) -> bytes:
        """Give bytes, from an offset into the run."""
        return self.program.read(self.address + offset, length) or bytes(length)

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes at an offset into the run."""
        self.program.write(self.address + offset, data)


@define(eq=False)
class LentFile(LocalFile):
    """A program's file, by a descriptor of our own."""

    def __del__(self) -> None:
        os.close(self.fd)

    def pin(self, offset: int, count: int, write: bool) -> Sequence[PageRun] | None:  # noqa: ARG002
        """Pin pages as far as the file allows: what is read now may be written later."""
        return super().pin(offset, count, _may_write(self.fd))


@define(eq=False)
class Program:
    """One address space of one process (a `viommu.iommufd.user_memory.UserProcess`); an exec makes another."""

    pid: int
    memory: PhysicalMemory
    files: Files
    user: User
    helper: Link | None = None
    connections: int = 0
    """How many of its threads are served now."""
    _account: Account = field(init=False)
    _space: AddressSpace = field(init=False)
    _calling: local = field(factory=local, repr=False)
    is_reachable: bool = False
    """Whether its memory may be read without asking, while a thread of it waits: then it is there, and is this one."""

    def __attrs_post_init__(self) -> None:
        self._account = Account(user=self.user)
        self._space = AddressSpace(f"process {self.pid}")

    # --- whom to ask

    def calling(self, link: Link) -> None:
        """Take note of the thread that this thread of ours answers."""
        calling = self._calling
        calling.link, calling.window, calling.installed = link, None, {}

    def answered(self) -> None:
        """Take note that it is answered."""
        self._calling.link = self._calling.window = None

    def carry(self, window: Window) -> Window:
        """Take bytes of its memory that came along with the call that is being answered."""
        self._calling.window = window
        return window

    def _ask(self, question: Packet, *, lends: bool = False) -> Packet:
        """Ask; ``lends``: a descriptor that comes along is the caller's. Who is gone refuses everything."""
        link = getattr(self._calling, "link", None) or self.helper
        refused = Packet.of(Op.ANSWER, result=-errno.ESRCH)
        try:
            answer = refused if link is None else link.ask(question)
        except Gone:
            return refused
        if answer.fd is not None and not lends:
            os.close(answer.fd)
            return answer._replace(fd=None)
        return answer

    @property
    def alive(self) -> bool:
        """Whether its memory still exists."""
        if getattr(self._calling, "link", None) is not None:
            return True
        return self.helper is not None and self.helper.is_open

    def help_by(self, helper: Link) -> None:
        """Ask this one while no thread of the program waits."""
        self.close()
        self.helper = helper

    def close(self) -> None:
        """Ask it no more."""
        helper, self.helper = self.helper, None
        if helper is not None:
            helper.close()

    # --- memory

    def read(self, address: int, length: int) -> bytes | None:
        """Copy from its memory: all of it, or None."""
        window: Window | None = getattr(self._calling, "window", None)
        if window is not None:
            carried = window.read(address, length)
            if carried is not None:
                return carried
            self._let_go_of(window, address, length)
        if not 0 <= address <= USER_END - length:
            return None
        if self.is_reachable and length <= MOST_AT_ONCE and getattr(self._calling, "link", None) is not None:
            try:
                return _engine.read_process(self.pid, address, length)
            except OSError as error:
                log.debug("memory is not read directly", pid=self.pid, reason=str(error))
                self.is_reachable = False
        return self._asked_for(address, length)

    def _asked_for(self, address: int, length: int) -> bytes | None:
        parts: list[bytes] = []
        for at in range(address, address + length, MOST_BYTES):
            size = min(MOST_BYTES, address + length - at)
            answer = self._ask(Packet.of(Op.PEEK, at, size))
            if answer.result or len(answer.payload) != size:
                return None
            parts.append(answer.payload)
        return b"".join(parts)

    def write(self, address: int, data: bytes) -> bool:
        """Copy to its memory."""
        window: Window | None = getattr(self._calling, "window", None)
        if window is not None:
            if window.write(address, data):
                return True
            self._let_go_of(window, address, len(data))
        return self._told_to_store(address, data)

    def _told_to_store(self, address: int, data: bytes) -> bool:
        if not 0 <= address <= USER_END - len(data):
            return False
        for at in range(0, len(data), MOST_BYTES):
            if self._ask(Packet.of(Op.POKE, address + at, payload=bytes(data[at : at + MOST_BYTES]))).result:
                return False
        return True

    def _let_go_of(self, window: Window, address: int, length: int) -> None:
        """Have nothing of what is reached beyond a window in it: what was stored into it is where it belongs."""
        if window.meets(address, length):
            self._calling.window = None
            offset, stored = window.take()
            self._told_to_store(window.address + offset, stored)

    def pin(self, address: int, count: int, write: bool) -> Sequence[PageRun] | None:
        """Fault in and pin pages: those of shared files are mapped here too, others stay where they are."""
        end = address + count * PAGE_SIZE
        if not 0 <= address < end <= USER_END:
            return None
        if self._ask(Packet.of(Op.POPULATE, address, end - address, int(write))).result:
            return None
        runs: list[PageRun] = []
        try:
            while address < end:
                stop, part = self._pinned_at(address, end)
                runs += part
                address = stop
        except (ViommuError, OSError) as error:  # unmapped or cut short meanwhile, or more than we may map
            log.debug("memory could not be pinned", pid=self.pid, reason=str(error))
            for run in runs:
                run.unpin(0, run.count)
            return None
        return runs

    def _pinned_at(self, address: int, end: int) -> tuple[int, list[PageRun]]:
        """Pin what one area has of a stretch: where that ends, and its runs. Raises ViommuError, OSError."""
        area = self._area(address)
        if not area.rights & SHARED and self._share(address, min(end, area.end)):
            area.close()
            area = self._area(address)
        stop = min(end, area.end)
        try:
            return stop, self._pinned_part(area, address, stop)
        finally:
            area.close()

    def _share(self, start: int, end: int) -> bool:
        """Let private memory become memory that is mapped here too, where the program can do that."""
        return not self._ask(Packet.of(Op.SHARE, start, end - start)).result

    def _area(self, address: int) -> Area:
        """Say what is mapped at an address. Raises BadAddress."""
        answer = self._ask(Packet.of(Op.AREA, address), lends=True)
        start, end, rights, offset = answer.words
        area = Area(start, end, rights, offset, answer.fd)
        if answer.result or not start <= address < end or (start | end | offset) % PAGE_SIZE:
            area.close()
            raise BadAddress("memory", "address", address, "mapped")
        return area

    def _pinned_part(self, area: Area, start: int, end: int) -> list[PageRun]:
        if area.rights & SHARED and area.fd is not None:
            offset = area.offset + start - area.start
            return pin_file(self.memory, area.fd, offset, end - start, writable=_may_write(area.fd))
        view = self.memory.add_remote(self._space, start, end - start, self._load, self._compare_exchange)
        self.memory.pin_view(view)
        pinned = PinnedView(self.memory, view, view.length // PAGE_SIZE)
        runs: list[PageRun] = []
        for pa, length in view.runs():
            runs.append(RemoteRun(pinned, pa, length // PAGE_SIZE, self, start))
            start += length
        return runs

    def _load(self, address: int) -> int | None:
        raw = self.read(address, WORD_BYTES)
        return None if raw is None else int.from_bytes(raw, "little")

    def _compare_exchange(self, address: int, expected: int, desired: int) -> bool | None:
        stored = self._ask(Packet.of(Op.EXCHANGE, address, expected, desired)).result
        return None if stored < 0 else bool(stored)

    # --- descriptors

    def file(self, fd: int) -> Any | None:  # noqa: ANN401 - whatever the fd refers to
        """Give what a descriptor refers to."""
        answer = self._ask(Packet.of(Op.FILE, fd), lends=True)
        lent = None if answer.fd is None else LentFile(self.memory, answer.fd)
        if answer.result:
            return None
        inode, mode, flags, _ = answer.words
        if stat.S_ISREG(mode) and lent is not None:
            return lent
        served = self.files.find(inode) if stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode) else None
        return (inode, mode, flags) if served is None else served.file

    def descriptor(self, fd: int) -> int | None:
        """Give a descriptor of our own for one of the program's, the caller's to close; None where it is not open."""
        return self._ask(Packet.of(Op.FILE, fd, 1), lends=True).fd

    def install(self, file: UserFile) -> int:
        """Give a file a descriptor of the program. Raises TooManyFiles."""
        served, theirs = self.files.add(file)
        try:
            fd = self._ask(Packet.of(Op.INSTALL, os.O_CLOEXEC, fd=theirs)).result
        finally:
            os.close(theirs)
        if fd < 0:
            self.files.drop(served)
            raise TooManyFiles("process", "descriptors", bound=f"fewer: the limit of process {self.pid} is reached")
        self.files.watch(served)
        self._calling.installed[fd] = served
        return fd

    def number_of(self, fd: int) -> int:
        """Give the number of the file that the call being answered has given a descriptor."""
        installed: Served = self._calling.installed[fd]
        return installed.number

    def uninstall(self, fd: int) -> None:
        """Take a descriptor back; the file is not released."""
        self.files.drop(self._calling.installed.pop(fd))
        self._ask(Packet.of(Op.UNINSTALL, fd))

    # --- limits

    @property
    def account(self) -> Account:
        """Its limits, rights and counts, as they are now. It may do what only root may: nobody is root here."""
        account = self._account
        if not self.alive:  # its number may be another's by now
            return account
        try:
            account.limit, capabilities = limits_of(self.pid)
        except (OSError, ValueError):  # it is gone: what it was allowed last
            return account
        account.ipc_lock = bool(capabilities >> CAP_IPC_LOCK & 1)
        return account


def _may_write(fd: int) -> bool:
    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
