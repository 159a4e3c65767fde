"""Pages of simulated processes: identity that outlives mappings, and contents where a recording tells them."""

from __future__ import annotations

from itertools import count

from attrs import define, field

from viommu.addresses import PAGE_SIZE

SCATTER = 2
"""Frames of ordinary pages lie this far apart: a real kernel promises nobody neighbours."""


@define(eq=False)
class ReadLog:
    """What all pages of a recording share.

    While ``entries`` is a list: every byte that is read, as (page, offset, length), in order. ``epoch`` counts how
    often the program was found to have stored to its memory: what was known of contents before is worth nothing then.
    """

    entries: list[tuple[Page, int, int]] | None = None
    epoch: int = 0


@define(eq=False, slots=True)
class Page:
    """One page of memory; the same object wherever it is mapped, and as long as anybody keeps it.

    ``frame`` is its physical page number; ``compound`` says that it is part of a huge page.
    """

    frame: int
    log: ReadLog
    compound: bool = False
    pin_count: int = 0
    data: bytearray | None = None
    known: bytearray | None = None
    """Which bytes a recording has told (1) in this ``epoch``; what a program stores itself is not recorded."""
    epoch: int = 0

    def read(self, offset: int, length: int) -> bytes:
        """Give bytes; those that nobody told read as zero."""
        if self.log.entries is not None:
            self.log.entries.append((self, offset, length))
        return bytes(length) if self.data is None else bytes(self.data[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes, which are known from now on."""
        if self.data is None or self.known is None:
            self.data, self.known = bytearray(PAGE_SIZE), bytearray(PAGE_SIZE)
        if self.epoch != self.log.epoch:
            self.known, self.epoch = bytearray(PAGE_SIZE), self.log.epoch
        self.data[offset : offset + len(data)] = data
        self.known[offset : offset + len(data)] = b"\1" * len(data)

    def is_known(self, offset: int) -> bool:
        """Say whether the byte is known."""
        return self.known is not None and self.epoch == self.log.epoch and bool(self.known[offset])


class Frames:
    """Hands out physical page numbers: neighbours within a huge page, nowhere else."""

    def __init__(self) -> None:
        """Begin above 4 GiB, as machines do."""
        self.log = ReadLog()
        self._next = count(1 << 20, SCATTER)
        self._huge = count(1 << 40, 1 << 20)

    def one(self) -> int:
        """Give the frame of one ordinary page."""
        return next(self._next)

    def run(self) -> int:
        """Give the first frame of a run that is long enough for any object."""
        return next(self._huge)


@define(eq=False)
class Backing:
    """What stands behind a mapping: a file, a memfd, shared memory, or one process's private memory.

    ``size`` is that of a file (bytes), None where nothing ends. Pages appear when they are first touched.
    """

    frames: Frames
    size: int | None = None
    page_size: int = PAGE_SIZE
    pages: dict[int, Page] = field(factory=dict)
    _run: int | None = None

    def page(self, index: int) -> Page | None:
        """Give the page at this index (of 4 KiB); None beyond the end."""
        found = self.pages.get(index)
        if found is None and not self._is_beyond(index):
            found = self.pages.setdefault(index, self._new_page(index))  # threads may fault at the same time
        return found

    def resize(self, size: int) -> None:
        """Make the file this long; pages beyond are dropped, but not from those who pinned them."""
        self.size = size
        for index in [index for index in self.pages if self._is_beyond(index)]:
            del self.pages[index]

    def copy(self) -> Backing:
        """Copy private memory for a child process: other pages, the same contents."""
        twin = Backing(self.frames, self.size, self.page_size)
        for index, page in self.pages.items():
            new = twin.page(index)
            if new is not None and page.data is not None and page.known is not None:
                new.data, new.known, new.epoch = bytearray(page.data), bytearray(page.known), page.epoch
        return twin

    def _is_beyond(self, index: int) -> bool:
        return self.size is not None and index * PAGE_SIZE >= self.size

    def _new_page(self, index: int) -> Page:
        if self.page_size == PAGE_SIZE:
            return Page(self.frames.one(), self.frames.log)
        if self._run is None:
            self._run = self.frames.run()
        return Page(self._run + index, self.frames.log, compound=True)
