"""Which tables of the program were in force at each of its DMAs: those of a capture, or none that anybody knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from attrs import define, field, frozen

from viommu.addresses import PAGE_SIZE
from viommu.captures.capture import find, load
from viommu.captures.pages import read_pages
from viommu.faults import Access

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from viommu.captures.capture import Capture
    from viommu.captures.pages import Pages
    from viommu.captures.rows import RecordedRow
    from viommu.oracle.program.guest_memory import GuestMemory
    from viommu.oracle.program.lines import Line

PROBE = "qemu-probe"
"""Rows that were made by the recorder, with the machine stopped: one DMA each, in their order."""
PROGRAMS = "qemu-guest-dma"
"""Rows that are the program's own DMA."""

Made: TypeAlias = tuple[int, int, str]
"""An access: requester, IOVA, ``r`` or ``w``."""


@frozen(eq=False)
class Tables:
    """A capture of tables that the program built, and what it says of accesses."""

    name: str
    rows: Mapping[Made, RecordedRow]
    disputed: Sequence[RecordedRow]
    """Rows on which a second walker differs from what was recorded: they count for nothing."""
    probes: Sequence[RecordedRow]
    pages: Pages

    @classmethod
    def of(cls, capture: Capture) -> Tables:
        """Read them. Raises CaptureError."""
        rows = list(capture.translations())
        return cls(
            capture.name,
            {access_of(row): row for row in rows},
            list(capture.disputed()),
            [row for row in rows if row.oracle == PROBE],
            read_pages(capture.path / capture.memory_file),
        )

    @property
    def programs(self) -> set[Made]:
        """What the program itself accessed, by the capture."""
        return {access for access, row in self.rows.items() if row.oracle == PROGRAMS}

    def lie_in(self, memory: GuestMemory) -> bool:
        """Whether it is a capture of that memory: where its accesses went, the recording has memory too."""
        reached = [row.recorded.pa for row in self.rows.values() if row.recorded.pa is not None]
        return all(memory.address_of(pa - pa % PAGE_SIZE) is not None for pa in reached)


@frozen(eq=False)
class InForce:
    """The program's tables at one moment: those of a capture. ``as_captured``: stage 2 was the capture's too."""

    tables: Tables
    as_captured: bool

    def row(self, made: Made) -> RecordedRow | None:
        """Give the capture's row of an access, if it holds now."""
        return self.tables.rows.get(made) if self.as_captured else None

    def disputed(self, made: Made) -> list[RecordedRow]:
        """Give the disputed rows of an access."""
        return [row for row in self.tables.disputed if access_of(row) == made] if self.as_captured else []


def access_of(row: RecordedRow) -> Made:
    """Say which access a row is about."""
    return row.asked.requester, row.asked.iova, "w" if Access.WRITE in row.asked.access else "r"


def made_by(line: Line) -> Made:
    """Say which access a DMA of the program's is. Raises RecordingError."""
    return line.whole("sid"), line.hex("iova"), line.text("rw")


@define(eq=False)
class Captures:
    """Captures by the moments that they were taken at."""

    known: dict[str, Capture] = field(factory=dict)
    _read: dict[str, Tables] = field(factory=dict)

    @classmethod
    def at(cls, path: Path) -> Captures:
        """Find those in a folder, or the one that it is. Raises CaptureError."""
        return cls({moment_of(capture.name): capture for capture in map(load, find(path))})

    def machine(self, lines: Iterable[Line]) -> Capture | None:
        """Give a capture of the recorded machine: of a moment that the recording names, else the first there is."""
        named = (self.known.get(moment_of(line.text("name"))) for line in lines if line.type == "snap")
        return next((one for one in named if one is not None), next(iter(self.known.values()), None))

    def in_force(self, lines: Iterable[Line]) -> dict[int, InForce]:
        """Say for DMAs and snaps, by the number of their lines, which tables are in force, where that is known.

        They are those of the moment that comes next, and end where a device is attached to something else. What comes
        after the last moment before that goes by that one, up to where the recording shows that the program changed
        them since. A capture whose own DMAs are none of the recording's is of another program. Raises RecordingError,
        CaptureError.
        """
        found: dict[int, InForce] = {}
        for epoch in _epochs(lines):
            done = {made_by(line) for line in epoch if line.type == "dma"}
            for moment, near in _moments(epoch):
                tables = self._tables(moment)
                if tables is not None and tables.programs <= done:
                    found.update({number: InForce(tables, same) for number, same in near})
        return found

    def _tables(self, moment: str) -> Tables | None:
        capture = self.known.get(moment)
        if capture is not None and moment not in self._read:
            self._read[moment] = Tables.of(capture)
        return self._read.get(moment)


def moment_of(name: str) -> str:
    """Name the moment of a capture or a snap: what both have in common (``n-4k-48`` is ``smmuv3-nested-4k-48``)."""
    return name.rpartition("nested-")[2] if "nested-" in name else name.removeprefix("n-")


def _epochs(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Cut at each attachment to something new; DMAs, snaps and changes of stage 2 are left."""
    attached: dict[str, int] = {}
    epoch: list[Line] = []
    for line in lines:
        if line.type in ("dma", "snap") or line.changes_stage2:
            epoch.append(line)
        elif line.type == "ioctl":
            to = line.attached_to
            if to is not None and attached.get(line.text("fd"), 0) != to:
                attached[line.text("fd")] = to
                yield epoch
                epoch = []
    yield epoch


def _moments(epoch: Sequence[Line]) -> Iterator[tuple[str, list[tuple[int, bool]]]]:
    """Give each moment of an epoch with the lines that go by it, and whether stage 2 is the moment's own there."""
    ends = [place for place, line in enumerate(epoch) if line.type == "snap"]
    for first, end in zip([0, *(end + 1 for end in ends)], ends, strict=False):
        last = end == ends[-1]
        lines = _unchanged(epoch[first:], end - first) if last else epoch[first : end + 1]
        yield moment_of(epoch[end].text("name")), list(_near(lines, end - first))


def _unchanged(lines: Sequence[Line], snap: int) -> Sequence[Line]:
    """Give lines up to the one after the snap that tells of other tables, with it: its own data are of the old ones."""
    tells = next((place for place, line in enumerate(lines) if place > snap and _tells_of_change(line)), len(lines))
    return lines[: tells + 1]


def _near(lines: Sequence[Line], snap: int) -> Iterator[tuple[int, bool]]:
    changes = [place for place, line in enumerate(lines) if line.changes_stage2]
    for place, line in enumerate(lines):
        between = range(min(place, snap), max(place, snap))
        yield line.number, not any(change in between for change in changes)


def _tells_of_change(line: Line) -> bool:
    """Whether a DMA shows other data than its program had just made its tables lead to (0: it does not say)."""
    return line.type == "dma" and bool(line.has("want") and line.hex("want")) and line.hex("want") != line.hex("data")
