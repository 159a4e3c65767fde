"""Facts of the program's side that a recording may leave untold, as assumptions that a replay can make come true."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.addresses import PAGE_SIZE
from viommu.oracle.circumstances import Assumption
from viommu.oracle.memory_records import OtherFile
from viommu.oracle.pages import Backing
from viommu.oracle.processes import ARENA, HUGE_PAGE, RW, Area, OpenFile
from viommu.oracle.unrecorded import IOAS_ALLOC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from viommu.oracle.mappings import Mapped
    from viommu.oracle.processes import Process
    from viommu.oracle.recording import Record

PAGES = 1 << 12
"""Of a range whose pages a fact is about."""

IOAS_ALLOC_BYTES = 12


def kept(at: int, index: int, fd: int) -> Assumption:
    """A duplicate of an fd was open when the fd was closed at ``at``."""

    def change(process: Process) -> None:
        process.keep(fd)

    return Assumption(at, index, f"fd {fd} had a duplicate", change=change)


def allocated(index: int, fd: int) -> Assumption:
    """An object was made through an fd that is not recorded."""

    def change(process: Process) -> None:
        process.write(ARENA, IOAS_ALLOC_BYTES.to_bytes(4, "little") + bytes(8))
        process.file(fd).ioctl(IOAS_ALLOC, ARENA, process)

    return Assumption(index, index, f"an IOAS was made through a duplicate of fd {fd}", change=change)


def without_pages(index: int, address: int, length: int) -> Iterator[Assumption]:
    """Pages of a range cannot be written, or are not there; first of all its last one."""
    first, last = address // PAGE_SIZE, (address + max(length, 1) - 1) // PAGE_SIZE
    pages = range(first, min(last + 1, first + PAGES))

    def change(kind: str) -> Callable[[Process], None]:
        def hide(process: Process) -> None:
            for page in pages:
                process.guess(kind, page)

        return hide

    if last > first:
        yield from without_pages(index, last * PAGE_SIZE, PAGE_SIZE)
    for kind in ("read-only", "unmapped") if last == first else ("unmapped", "read-only"):
        yield Assumption(index, index, f"memory at {address:#x} is {kind}", change=change(kind))


def with_pages(index: int, address: int, length: int) -> Assumption:
    """A range is memory, whatever was taken for true before."""

    def change(process: Process) -> None:
        process.ensure(address, address + min(length, PAGES * PAGE_SIZE))

    return Assumption(index, index, f"memory is at {address:#x} again", change=change)


def is_no_memory(at: int, index: int, fd: int) -> Assumption:
    """What is behind an fd from ``at`` on is a pipe, or the like."""

    def change(process: Process) -> None:
        process.open_at(fd, OpenFile(OtherFile()))

    return Assumption(at, index, f"fd {fd} is no memory", change=change)


def not_open(index: int, fd: int) -> Assumption:
    """An fd is not open."""

    def change(process: Process) -> None:
        process.close(fd)

    return Assumption(index, index, f"fd {fd} is not open", change=change)


def file_length(index: int, fd: int, size: int) -> Assumption:
    """The file behind an fd is this long."""

    def change(process: Process) -> None:
        process.world.shared(f"file of fd {fd}").resize(size)

    return Assumption(index, index, f"the file of fd {fd} has {size:#x} bytes", change=change)


def neighbours(records: Sequence[Record], index: int, one: Mapped) -> Assumption:
    """The frames of what was mapped lie one after the other."""

    def change(process: Process) -> None:
        _map(process, one.source, one.length, Backing(process.world.frames, page_size=HUGE_PAGE), 0)

    return Assumption(_beginning(records, index), index, f"frames at {one.source:#x} are neighbours", change=change)


def same_pages(records: Sequence[Record], index: int, user: int, length: int, one: Mapped, iova: int) -> Assumption:
    """A range of memory is the same pages as what an IOVA has."""
    source = one.source_of(iova)

    def change(process: Process) -> None:
        backing = process.anonymous if one.fd is None else process.world.shared(f"file of fd {one.fd}")
        _map(process, user, length, backing, source & -PAGE_SIZE)

    return Assumption(
        _beginning(records, index), index, f"memory at {user:#x} is what IOVA {iova:#x} has", change=change
    )


def ordinary_pages(records: Sequence[Record], index: int, start: int) -> Assumption:
    """There is no huge page at an address, though those lie so."""

    def change(process: Process) -> None:
        process.unmap(start, start + HUGE_PAGE)

    return Assumption(_beginning(records, index), index, f"no huge page is at {start:#x}", change=change)


def huge_page(records: Sequence[Record], index: int, start: int) -> Assumption:
    """There is a huge page at an address."""

    def change(process: Process) -> None:
        process.guess("huge", start // PAGE_SIZE)

    return Assumption(_beginning(records, index), index, f"a huge page is at {start:#x}", change=change)


def new_pages(index: int, user: int, length: int) -> Assumption:
    """A range was mapped anew: other pages are there now."""

    def change(process: Process) -> None:
        _map(process, user, length, Backing(process.world.frames), 0)

    return Assumption(index, index, f"memory at {user:#x} was replaced", change=change)


def _map(process: Process, user: int, length: int, backing: Backing, offset: int) -> None:
    start, end = user & -PAGE_SIZE, -(-(user + min(length, PAGES * PAGE_SIZE)) // PAGE_SIZE) * PAGE_SIZE
    process.map(Area(start, end, RW, True, backing, offset))


def _beginning(records: Sequence[Record], index: int) -> int:
    """Give where the test of a record begins."""
    test = records[index].test
    while index and records[index - 1].test == test:
        index -= 1
    return index
