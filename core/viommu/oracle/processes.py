"""Simulated processes: address spaces and fds that follow the memory records of a recording."""

from __future__ import annotations

from bisect import bisect_right, insort
from errno import EBADF
from itertools import count
from typing import TYPE_CHECKING, Any

from attrs import define, evolve

from viommu.addresses import PAGE_SIZE
from viommu.iommufd.user_memory import Account, User, runs_of
from viommu.oracle.pages import Backing, Frames, Page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from viommu.iommufd.user_memory import PageRun
    from viommu.objects.mmap import RegisterMapping

PROT_READ, PROT_WRITE = 1, 2
RW = PROT_READ | PROT_WRITE
HUGE_PAGE = 2 << 20
USER_END = 1 << 47
LOWEST_MAPPED = 1 << 20
"""Below, nothing is mapped where a recording tells nothing: programs are placed far above."""

PINNED_PAGES = 1 << 18
"""How many pages one call can pin, so that no recording fills our memory."""

ARENA = 1 << 44
ARENA_END = ARENA + (16 << 20)
ARENA_GUARD = ARENA_END + (1 << 33)
"""Where the structs of ioctls lie: their addresses are not recorded, and no program maps here."""


@define(eq=False)
class Area:
    """A stretch of an address space: [start, end), and where in its backing it begins (``offset``, bytes)."""

    start: int
    end: int
    prot: int
    shared: bool
    backing: Backing
    offset: int
    object_id: str = ""

    def clipped(self, start: int, end: int) -> Area:
        """Give the part of it that lies in [start, end)."""
        first, last = max(self.start, start), min(self.end, end)
        return evolve(self, start=first, end=last, offset=self.offset + first - self.start)

    def page(self, address: int) -> Page | None:
        """Give the page that the address belongs to."""
        return self.backing.page((self.offset + (address & -PAGE_SIZE) - self.start) // PAGE_SIZE)


@define(eq=False)
class OpenFile:
    """An open file of a process, which `fork` and `dup` share: gone with its last fd."""

    file: Any
    references: int = 0


class World:
    """What processes of one recording share: objects by identity, and frames."""

    def __init__(self) -> None:
        """Begin empty."""
        self.frames = Frames()
        self.user = User()
        self.objects: dict[str, Backing] = {}
        self.processes: dict[int, Process] = {}

    def process(self, number: int) -> Process:
        """Give a process, which begins to exist when it is first named."""
        if number not in self.processes:
            self.processes[number] = Process(self, number)
        return self.processes[number]

    def shared(self, object_id: str, page_size: int = PAGE_SIZE) -> Backing:
        """Give the object of this identity."""
        if object_id not in self.objects:
            self.objects[object_id] = Backing(self.frames, page_size=page_size)
        return self.objects[object_id]


class Process:
    """One simulated process, as the ioctls see it: user memory, fds, and whether it is alive.

    With ``everything_mapped`` (a recording that tells nothing of memory) each page that is touched exists, but
    those that inputs show to be missing.
    """

    def __init__(self, world: World, number: int) -> None:
        """Begin without memory and fds."""
        self.world = world
        self.number = number
        self.alive = True
        self.everything_mapped = False
        self.areas: list[Area] = []
        self.files: dict[int, OpenFile] = {}
        self.installed: list[int] = []
        self.registers: list[RegisterMapping] = []
        """Mappings of vIOMMU registers, oldest first."""
        self.arena = Backing(world.frames)
        self.arena_is_read_only = False
        self.account = Account(user=world.user)
        self.former = b""
        """What the buffer of the present call held before."""
        self.unmapped_pages: set[int] = set()
        self.read_only_pages: set[int] = set()
        self.anonymous = Backing(world.frames)
        """What is behind memory that no record tells of, page by page of its address."""
        self._kept: list[OpenFile] = []
        self._fds = count(1 << 20)

    # --- memory, as a system call reaches it

    def page(self, address: int, write: bool = False) -> Page | None:
        """Fault in the page of an address; None where the access is not allowed."""
        if not self.alive or not 0 <= address < USER_END:
            return None
        if ARENA <= address < ARENA_END:
            return None if write and self.arena_is_read_only else self.arena.page((address - ARENA) // PAGE_SIZE)
        if self.everything_mapped:
            return self._default_page(address, write)
        area = self._area_at(address)
        if area is None or not area.prot & (PROT_WRITE if write else PROT_READ):
            return None
        return area.page(address)

    def pin(self, address: int, count: int, write: bool) -> Sequence[PageRun] | None:
        """Fault in and pin pages; None, and none is pinned, where any is missing."""
        if not self._reaches(address, count):
            return None
        pages = [self.page(address + index * PAGE_SIZE, write) for index in range(count)]
        return None if None in pages else runs_of([page for page in pages if page is not None])

    def _reaches(self, address: int, count: int) -> bool:
        """Look at both ends first: a length may be anything, and nothing maps all of it."""
        if not 0 < count <= PINNED_PAGES:
            return False
        return self.page(address) is not None and self.page(address + (count - 1) * PAGE_SIZE) is not None

    def read(self, address: int, length: int) -> bytes | None:
        """Copy from user memory: all of it or None."""
        pieces: list[bytes] = []
        for page, offset, size in self._pieces(address, length, write=False):
            if page is None:
                return None
            pieces.append(page.read(offset, size))
        return b"".join(pieces)

    def write(self, address: int, data: bytes) -> bool:
        """Copy to user memory: all of it, or False."""
        pieces = list(self._pieces(address, len(data), write=True))
        done = 0
        for page, offset, size in pieces:
            if page is None:
                return False
            page.write(offset, data[done : done + size])
            done += size
        return True

    def guess(self, kind: str, index: int) -> None:
        """Take a page (by number) for ``unmapped``, ``read-only``, or the first one of a ``huge`` page."""
        if kind == "huge":
            start = index * PAGE_SIZE
            if self._area_at(start) is None:
                self.map(Area(start, start + HUGE_PAGE, RW, False, Backing(self.world.frames, page_size=HUGE_PAGE), 0))
        else:
            (self.unmapped_pages if kind == "unmapped" else self.read_only_pages).add(index)

    def is_arena(self, page: Page) -> bool:
        """Say whether a page holds structs and buffers that were laid out for a call."""
        return any(page is other for other in self.arena.pages.values())

    def ensure(self, start: int, end: int) -> None:
        """Make [start, end) memory where it is none: a recording shows that the program has it."""
        if start >= end:
            return
        for address in range(start & -PAGE_SIZE, min(end, USER_END), PAGE_SIZE):
            self.unmapped_pages.discard(address // PAGE_SIZE)
            self.read_only_pages.discard(address // PAGE_SIZE)
            if self.page(address, write=True) is None:
                self.map(
                    Area(address, address + PAGE_SIZE, PROT_READ | PROT_WRITE, False, Backing(self.world.frames), 0)
                )

    def hide(self, start: int, end: int) -> None:
        """Make [start, end) unreadable: a recording shows that the program has nothing there."""
        for address in range(start & -PAGE_SIZE, min(end, USER_END), PAGE_SIZE):
            self.unmapped_pages.add(address // PAGE_SIZE)
        self.unmap(start & -PAGE_SIZE, -(-end // PAGE_SIZE) * PAGE_SIZE)

    def _pieces(self, address: int, length: int, *, write: bool) -> Iterator[tuple[Page | None, int, int]]:
        end = address + length
        while address < end:
            size = min(PAGE_SIZE - address % PAGE_SIZE, end - address)
            yield self.page(address, write), address % PAGE_SIZE, size
            address += size

    def _default_page(self, address: int, write: bool) -> Page | None:
        index = address // PAGE_SIZE
        if (
            address < LOWEST_MAPPED
            or ARENA_END <= address < ARENA_GUARD
            or index in self.unmapped_pages
            or (write and index in self.read_only_pages)
        ):
            return None
        area = self._area_at(address)
        return self.anonymous.page(index) if area is None else area.page(address)

    def _area_at(self, address: int) -> Area | None:
        index = bisect_right(self.areas, address, key=_start) - 1
        if index >= 0 and address < self.areas[index].end:
            return self.areas[index]
        return None

    # --- fds

    def file(self, fd: int) -> Any:  # noqa: ANN401 - whatever was installed
        """Give what the fd refers to; None where it is not open."""
        entry = self.files.get(fd)
        return None if entry is None else entry.file

    def install(self, file: object) -> int:
        """Give a file a number of ours, which `renumber` replaces by the recorded one."""
        fd = next(self._fds)
        self.open_at(fd, OpenFile(file))
        self.installed.append(fd)
        return fd

    def uninstall(self, fd: int) -> None:
        """Take back what `install` gave; the file is not released."""
        self.files.pop(fd).references -= 1
        self.installed.remove(fd)

    def renumber(self, ours: int, recorded: int) -> None:
        """Let a file that `install` numbered have the recorded number."""
        entry = self.files.pop(ours)
        self.open_at(recorded, entry)
        entry.references -= 1

    def open_at(self, fd: int, entry: OpenFile) -> None:
        """Let an fd refer to an open file."""
        self.close(fd)
        entry.references += 1
        self.files[fd] = entry

    def close(self, fd: int) -> int:
        """Close an fd: 0 or -EBADF; the last one releases the file."""
        entry = self.files.pop(fd, None)
        if entry is None:
            return -EBADF
        _drop(entry)
        return 0

    def keep(self, fd: int) -> None:
        """Let a duplicate of an fd be open, which no record shows."""
        entry = self.files.get(fd)
        if entry is not None:
            entry.references += 1
            self._kept.append(entry)

    def close_kept(self) -> None:
        """Close those duplicates."""
        kept, self._kept = self._kept, []
        for entry in kept:
            _drop(entry)

    # --- the life of the process

    def fork(self, child: Process) -> None:
        """Give the child what it inherits: shared pages as they are, private ones copied, open files shared."""
        copies: dict[int, Backing] = {}
        for area in self.areas:
            backing = area.backing
            if not area.shared and id(backing) not in copies:
                copies[id(backing)] = backing.copy()
            child.areas.append(evolve(area, backing=copies.get(id(backing), backing)))
        for fd, entry in self.files.items():
            child.open_at(fd, entry)
        child.registers = [mapping.again() for mapping in self.registers]
        child.everything_mapped = self.everything_mapped

    def exit(self) -> None:
        """End: memory and open files go."""
        self.areas.clear()
        self.unmap_registers(len(self.registers))
        for fd in list(self.files):
            self.close(fd)
        self.close_kept()
        self.alive = False

    def unmap_registers(self, count: int) -> None:
        """Unmap the oldest mappings of registers."""
        for mapping in self.registers[:count]:
            mapping.close()
        del self.registers[:count]

    # --- what memory records say

    def map(self, area: Area) -> None:
        """Map over whatever was there."""
        self.unmap(area.start, area.end)
        insort(self.areas, area, key=_start)

    def unmap(self, start: int, end: int) -> None:
        """Unmap [start, end)."""
        self._keep(lambda area: _outside(area, start, end))

    def protect(self, start: int, end: int, prot: int) -> None:
        """Change the rights of [start, end)."""
        touched = [m.clipped(start, end) for m in self.areas if m.start < end and start < m.end]
        self.unmap(start, end)
        for area in touched:
            self.map(evolve(area, prot=prot))

    def move(self, start: int, length: int, new_start: int, new_length: int) -> None:
        """Move a area (mremap), growing or shrinking it."""
        source = self._area_at(start)
        if source is None:
            return
        moved = evolve(source.clipped(start, start + length), start=new_start, end=new_start + new_length)
        self.unmap(start, start + length)
        self.map(moved)

    def snapshot(self, start: int, end: int, ranges: list[Area]) -> None:
        """Let [start, end) be exactly what a snapshot says; private memory that was there keeps its pages."""
        found = [self._continued(area) for area in ranges]
        self.unmap(start, end)
        for area in found:
            self.map(area)

    def _continued(self, area: Area) -> Area:
        if area.shared:
            return area
        for old in self.areas:
            overlaps = old.start < area.end and area.start < old.end
            if not old.shared and overlaps and old.object_id == area.object_id:
                return evolve(area, backing=old.backing, offset=old.offset + area.start - old.start)
        return area

    def _keep(self, parts: Callable[[Area], list[Area]]) -> None:
        self.areas = [part for area in self.areas for part in parts(area)]


def _start(area: Area) -> int:
    return area.start


def _drop(entry: OpenFile) -> None:
    entry.references -= 1
    if entry.references == 0:
        release(entry.file)


def release(file: object) -> None:
    """Tell a file that its last fd is gone."""
    last = getattr(file, "release", None)
    if callable(last):
        last()


def _outside(area: Area, start: int, end: int) -> list[Area]:
    """Cut [start, end) out of a area."""
    if area.end <= start or end <= area.start:
        return [area]
    parts = (area.clipped(area.start, start), area.clipped(end, area.end))
    return [part for part in parts if part.start < part.end]
