"""Processes that call: their memory, their descriptors and their limits, as ioctls reach them."""

from __future__ import annotations

import fcntl
import os
import resource
import select
import stat
from threading import RLock, local
from typing import TYPE_CHECKING, Any

from attrs import define, field

from viommu.addresses import PAGE_SIZE
from viommu.backing import AddressSpace
from viommu.iommufd.local import LocalRun, PinnedView
from viommu.iommufd.user_memory import Account
from viommu.kernel_errors import TooManyFiles
from viommu.service.wire import AREA_FILE, MOST_BYTES, SHARED, Gone, Op, Packet

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from viommu.iommufd.user_memory import PageRun, User, UserFile
    from viommu.memory import PhysicalMemory
    from viommu.service.files import Files

CAP_IPC_LOCK = 14
USER_END = 1 << 47
WORD_BYTES = 8


class Link:
    """A connection on which the service asks one thread of a program."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = RLock()

    def ask(self, question: Packet) -> Packet:
        """Ask, and wait for the answer. Raises Gone."""
        with self._lock:
            question.send(self._connection)
            answer = Packet.receive(self._connection)
            if answer.op != Op.ANSWER:
                raise Gone
            return answer

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    @property
    def is_open(self) -> bool:
        """Whether the other side is there: the end of a process closes it."""
        poll = select.poll()
        poll.register(self._connection, select.POLLRDHUP)
        return not poll.poll(0)


@define(eq=False)
class Area:
    """What is mapped somewhere (bytes); ``file`` is (device, inode), ``fd`` ours to close."""

    start: int
    end: int
    rights: int
    offset: int
    file: tuple[int, int]
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
class LentFile:
    """A program's file, by a descriptor of our own (a `viommu.iommufd.user_memory.PinnableFile`)."""

    memory: PhysicalMemory
    fd: int

    def __del__(self) -> None:
        os.close(self.fd)

    def pin(self, offset: int, count: int, write: bool) -> Sequence[PageRun] | None:  # noqa: ARG002 - as the file allows
        """Pin pages; None beyond the end of the file."""
        if offset + count * PAGE_SIZE > -(-os.fstat(self.fd).st_size // PAGE_SIZE) * PAGE_SIZE:
            return None
        return _pin_file(self.memory, self.fd, offset, count * PAGE_SIZE)


@define(eq=False)
class Program:
    """One address space of one process (a `viommu.iommufd.user_memory.UserProcess`); an exec makes another."""

    pid: int
    memory: PhysicalMemory
    files: Files
    user: User
    helper: Link | None = None
    _account: Account = field(init=False)
    _space: AddressSpace = field(init=False)
    _calling: local = field(factory=local, repr=False)

    def __attrs_post_init__(self) -> None:
        self._account = Account(user=self.user)
        self._space = AddressSpace(f"process {self.pid}")

    # --- whom to ask

    def calling(self, link: Link | None) -> None:
        """Take note of the thread that this thread of ours answers; None: it is answered."""
        self._calling.link = link
        self._calling.installed = {}

    def _ask(self, question: Packet) -> Packet:
        link = getattr(self._calling, "link", None) or self.helper
        if link is None:
            raise Gone
        return link.ask(question)

    @property
    def alive(self) -> bool:
        """Whether its memory still exists."""
        if getattr(self._calling, "link", None) is not None:
            return True
        return self.helper is not None and self.helper.is_open

    def close(self) -> None:
        """Ask it no more."""
        helper, self.helper = self.helper, None
        if helper is not None:
            helper.close()

    # --- memory

    def read(self, address: int, length: int) -> bytes | None:
        """Copy from its memory: all of it, or None."""
        if not 0 <= address <= USER_END - length:
            return None
        parts: list[bytes] = []
        for at in range(address, address + length, MOST_BYTES):
            try:
                answer = self._ask(Packet.of(Op.PEEK, at, min(MOST_BYTES, address + length - at)))
            except Gone:
                return None
            if answer.result:
                return None
            parts.append(answer.payload)
        return b"".join(parts)

    def write(self, address: int, data: bytes) -> bool:
        """Copy to its memory."""
        if not 0 <= address <= USER_END - len(data):
            return False
        for at in range(0, len(data), MOST_BYTES):
            try:
                answer = self._ask(Packet.of(Op.POKE, address + at, payload=bytes(data[at : at + MOST_BYTES])))
            except Gone:
                return False
            if answer.result:
                return False
        return True

    def pin(self, address: int, count: int, write: bool) -> Sequence[PageRun] | None:
        """Fault in and pin pages: those of shared files are mapped here too, others stay where they are."""
        end = address + count * PAGE_SIZE
        if not 0 <= address < end <= USER_END:
            return None
        try:
            if self._ask(Packet.of(Op.POPULATE, address, end - address, int(write))).result:
                return None
            return self._pinned(address, end)
        except Gone:
            return None

    def _pinned(self, address: int, end: int) -> list[PageRun] | None:
        runs: list[PageRun] = []
        while address < end:
            area = self._area(address)
            if area is None:
                for run in runs:
                    run.unpin(0, run.count)
                return None
            try:
                if not area.rights & SHARED:
                    area = self._shared(area, address, min(end, area.end))
                stop = min(end, area.end)
                runs += self._pinned_part(area, address, stop)
            finally:
                area.close()
            address = stop
        return runs

    def _shared(self, area: Area, start: int, end: int) -> Area:
        """Let private memory become memory that is mapped here too, where the program can do that."""
        if self._ask(Packet.of(Op.SHARE, start, end - start)).result:
            return area
        return self._area(start) or area

    def _area(self, address: int) -> Area | None:
        answer = self._ask(Packet.of(Op.AREA, address))
        if answer.result or len(answer.payload) != AREA_FILE.size:
            return None
        device, inode = AREA_FILE.unpack(answer.payload)
        start, end, rights, offset = answer.words
        return Area(start, end, rights, offset, (device, inode), answer.fd)

    def _pinned_part(self, area: Area, start: int, end: int) -> list[PageRun]:
        if area.rights & SHARED and area.fd is not None:
            return _pin_file(self.memory, area.fd, area.offset + start - area.start, end - start)
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
        try:
            stored = self._ask(Packet.of(Op.EXCHANGE, address, expected, desired)).result
        except Gone:
            return None
        return None if stored < 0 else bool(stored)

    # --- descriptors

    def file(self, fd: int) -> Any | None:  # noqa: ANN401 - whatever the fd refers to
        """Give what a descriptor refers to."""
        answer = self._ask(Packet.of(Op.FILE, fd))
        if answer.result:
            return None
        inode, mode, flags, _ = answer.words
        if stat.S_ISREG(mode) and answer.fd is not None:
            return LentFile(self.memory, answer.fd)
        served = self.files.find(inode) if stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode) else None
        return (inode, mode, flags) if served is None else served.file

    def descriptor(self, fd: int) -> int | None:
        """Give a descriptor of our own for one of the program's, the caller's to close; None where it is not open."""
        return self._ask(Packet.of(Op.FILE, fd, 1)).fd

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
        self._calling.installed[fd] = served
        return fd

    def uninstall(self, fd: int) -> None:
        """Take a descriptor back; the file is not released."""
        self.files.drop(self._calling.installed.pop(fd))
        self._ask(Packet.of(Op.UNINSTALL, fd))

    # --- limits

    @property
    def account(self) -> Account:
        """Its limits, rights and counts, as they are now. It may do what only root may: nobody is root here."""
        account = self._account
        try:
            limit, _ = resource.prlimit(self.pid, resource.RLIMIT_MEMLOCK)
            capabilities = _capabilities(self.pid)
        except (OSError, ValueError):  # it is gone: what it was allowed last
            return account
        account.limit = None if limit == resource.RLIM_INFINITY else limit // PAGE_SIZE
        account.ipc_lock = bool(capabilities >> CAP_IPC_LOCK & 1)
        return account


def _pin_file(memory: PhysicalMemory, fd: int, offset: int, length: int) -> list[PageRun]:
    """Map a stretch of a file, as far as it allows: pages that are read now may be written later."""
    writable = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
    view = memory.add_file(fd, offset, length, writable=writable)
    memory.pin_view(view)
    pinned = PinnedView(memory, view, view.length // PAGE_SIZE)
    return [LocalRun(pinned, pa, size // PAGE_SIZE) for pa, size in view.runs()]


def _capabilities(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:  # noqa: PTH123
        for line in status:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0
