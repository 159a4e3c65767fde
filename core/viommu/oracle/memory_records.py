"""What the memory records of a recording do to the simulated processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define

from viommu.addresses import PAGE_SIZE
from viommu.iommufd.user_memory import runs_of
from viommu.oracle.pages import Backing
from viommu.oracle.processes import USER_END, Area, OpenFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from viommu.iommufd.user_memory import PageRun
    from viommu.oracle.processes import Process, World
    from viommu.oracle.recording import Record

MAP_SHARED = 1
MAP_HUGETLB = 0x40000
MFD_HUGETLB = 4
HUGE_PAGE = 2 << 20
MEMORY = ("memfd", "file")
END = 1 << 64
DEVICE_NODES = ("/dev/iommu", "/dev/vfio")


@define(eq=False)
class OtherFile:
    """A file that is neither part of iommufd nor memory: a pipe."""


@define(eq=False)
class MemoryFile:
    """A memfd, or a file of a memory file system."""

    pages: Backing

    @property
    def size(self) -> int:
        """How long it is, in bytes."""
        return self.pages.size or 0

    def pin(self, offset: int, count: int, write: bool) -> Sequence[PageRun] | None:  # noqa: ARG002 - a seal stops no pin
        """Pin pages; None where they lie beyond the end."""
        first = offset // PAGE_SIZE
        if count <= 0 or offset < 0 or offset + (count - 1) * PAGE_SIZE >= self.size:
            return None
        pages = [self.pages.page(index) for index in range(first, first + count)]
        return runs_of([page for page in pages if page is not None])


def apply(world: World, record: Record) -> None:
    """Let a memory record happen. Raises RecordingError."""
    if record.answer.ret != -1:
        _EFFECTS.get(record.call, _nothing)(world.process(record.process), record)


def _nothing(_: Process, __: Record) -> None:
    """`madvise` and the like: they change no identity."""


def _mmap(process: Process, record: Record) -> None:
    huge = record.number("flags") & MAP_HUGETLB
    size = _rounded(record, "length", HUGE_PAGE if huge else PAGE_SIZE)
    start = record.number("ret")
    shared = bool(record.number("flags") & MAP_SHARED)
    name = record.text("obj", "")
    backing, offset = _backing(
        process.world, name, shared, HUGE_PAGE if huge else PAGE_SIZE, record.number("offset", 0)
    )
    _bounded(record, "length", start, start + size)
    process.map(Area(start, start + size, record.number("prot"), shared, backing, offset, name))


def _munmap(process: Process, record: Record) -> None:
    start = record.number("addr")
    process.unmap(start, start + _rounded(record, "length", PAGE_SIZE))
    if record.text("name", "").startswith(DEVICE_NODES):
        process.unmap_registers(1)


def _mremap(process: Process, record: Record) -> None:
    lengths = (_rounded(record, "length", PAGE_SIZE), _rounded(record, "new_length", PAGE_SIZE))
    process.move(record.number("addr"), lengths[0], record.number("ret"), lengths[1])


def _mprotect(process: Process, record: Record) -> None:
    start = record.number("addr")
    process.protect(start, start + _rounded(record, "length", PAGE_SIZE), record.number("prot"))


def _memfd_create(process: Process, record: Record) -> None:
    huge = record.number("flags") & MFD_HUGETLB
    pages = process.world.shared(record.text("obj"), HUGE_PAGE if huge else PAGE_SIZE)
    pages.resize(0)
    process.open_at(record.number("ret"), OpenFile(MemoryFile(pages)))


def _ftruncate(process: Process, record: Record) -> None:
    if record.has("obj"):
        process.world.shared(record.text("obj")).resize(record.number("length"))


def _close(process: Process, record: Record) -> None:
    process.close(record.number("fd"))


def _fork(process: Process, record: Record) -> None:
    process.fork(process.world.process(record.number("child")))


def _exit(process: Process, _: Record) -> None:
    process.exit()


def _maps(process: Process, record: Record) -> None:
    areas = [_area(process.world, record, row) for row in record.rows("ranges")]
    if record.has("fd"):
        _file(process, record)
        for area in areas:
            process.snapshot(area.start, area.end, [area])
        return
    start, end = (0, END) if record.has("full") else _range(record)
    process.snapshot(start, end, [area.clipped(start, end) for area in areas])


def _file(process: Process, record: Record) -> None:
    """The file of a MAP_FILE, as it is just before that call."""
    fd = record.number("fd")
    known = process.file(fd)
    if known is not None and not isinstance(known, (MemoryFile, OtherFile)):
        return  # one that our own calls have made
    if not record.has("obj") or record.text("backing", "") not in MEMORY:
        process.open_at(fd, OpenFile(OtherFile()))
        return
    pages = process.world.shared(record.text("obj"))
    pages.resize(record.number("file_size", 0))
    if not isinstance(known, MemoryFile) or known.pages is not pages:
        process.open_at(fd, OpenFile(MemoryFile(pages)))


def _area(world: World, record: Record, row: Mapping[str, Any]) -> Area:
    shared = row.get("shared") is True
    name = row.get("obj", "")
    if not isinstance(name, str):
        raise record.wrong("ranges", "a list whose obj are texts")
    start, end = record.row_number(row, "start"), record.row_number(row, "end")
    _bounded(record, "ranges", start, end)
    page_size = record.row_number(row, "page_size", PAGE_SIZE)
    if page_size not in (PAGE_SIZE, HUGE_PAGE, 1 << 30):
        raise record.wrong("ranges", "a list whose page_size are those of x86")
    backing, offset = _backing(world, name, shared, page_size, record.row_number(row, "offset", 0))
    return Area(start, end, record.row_number(row, "prot"), shared, backing, offset, name)


def _backing(world: World, name: str, shared: bool, page_size: int, offset: int) -> tuple[Backing, int]:
    """Private memory, that of files too, is a backing of its own: what gets pinned is the process's page."""
    if shared and name:
        return world.shared(name, page_size), offset
    return Backing(world.frames, page_size=page_size), 0


def _range(record: Record) -> tuple[int, int]:
    value = record.fields.get("range")
    if not isinstance(value, list) or len(value) != 2:
        raise record.wrong("range", "[start, end]")
    start, end = (record.row_number({"range": end}, "range") for end in value)
    _bounded(record, "range", start, end)
    return start, end


def _rounded(record: Record, field: str, page_size: int) -> int:
    return -(-record.number(field) // page_size) * page_size


def _bounded(record: Record, field: str, start: int, end: int) -> None:
    if not 0 <= start <= end < END or (end > USER_END and start < USER_END):
        raise record.wrong(field, "a stretch of user memory")


_EFFECTS: Mapping[str, Callable[[Process, Record], None]] = {
    "mmap": _mmap,
    "munmap": _munmap,
    "mremap": _mremap,
    "mprotect": _mprotect,
    "memfd_create": _memfd_create,
    "ftruncate": _ftruncate,
    "close": _close,
    "fork": _fork,
    "exit": _exit,
    "maps": _maps,
}
